package main

import (
	"fmt"
	"strings"
)

// benchShape is a shape of requests as the benchmarks send them, and as their upstream answers.
type benchShape struct {
	kind    string // of the provider
	path    string
	input   string // the body's member that holds a text of the caller's, up to the text, and what follows it
	behind  string
	end     string   // what a stream ends with
	answer  string   // with %s for its text
	opening []string // events
	delta   string   // with %s for what it has more
	closing []string
}

const benchUsage = `"usage":{"input_tokens":231,"output_tokens":198`

// benchShapes are all of them.
func benchShapes() map[string]benchShape {
	const (
		chatID   = `{"id":"chatcmpl-0123456789abcdefghij","created":1760000000,"model":"gpt-4o-mini","system_fingerprint":"fp_0123456789",`
		chatUse  = `"usage":{"prompt_tokens":231,"completion_tokens":198,"total_tokens":429,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}`
		response = `"id":"resp_0123456789abcdefghij","object":"response","created_at":1760000000,"error":null,"instructions":null,"model":"gpt-4o-mini","tools":[],"text":{"format":{"type":"text"}},`
		message  = `"id":"msg_0123456789abcdefghij","type":"message","role":"assistant","model":"claude-test","stop_sequence":null,`
	)
	named := func(kind, more string) string {
		return "event: " + kind + "\ndata: {\"type\":\"" + kind + "\"" + more + "}\n\n"
	}
	say := func(data string) string { return "data: " + data + "\n\n" }
	place := `,"item_id":"msg_1","output_index":0,"content_index":0`
	return map[string]benchShape{
		"chat": {
			kind: "openai", path: "/v1/chat/completions", input: `"messages":[{"role":"user","content":"`, behind: `"}],"temperature":0.7`, end: "[DONE]",
			answer: chatID + `"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"%s","refusal":null},"logprobs":null,"finish_reason":"stop"}],` + chatUse + `}`,
			delta:  say(chatID + `"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" parcel%s"},"logprobs":null,"finish_reason":null}]}`),
			closing: []string{
				say(chatID + `"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}`),
				say(chatID+`"object":"chat.completion.chunk","choices":[],`+chatUse+`}`) + say("[DONE]"),
			},
		},
		"responses": {
			kind: "openai", path: "/v1/responses", input: `"input":"`, behind: `","temperature":0.7`, end: "response.completed",
			answer:  `{` + response + `"status":"completed","output":[{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","annotations":[],"text":"%s"}]}],` + benchUsage + `,"total_tokens":429}}`,
			opening: []string{named("response.created", `,"sequence_number":0,"response":{`+response+`"status":"in_progress","output":[],"usage":null}`), named("response.output_item.added", `,"sequence_number":1,"output_index":0,"item":{"id":"msg_1","type":"message","content":[]}`)},
			delta:   named("response.output_text.delta", `,"sequence_number":7`+place+`,"logprobs":[],"delta":" parcel%s"`),
			closing: []string{named("response.output_text.done", `,"sequence_number":98`+place+`,"logprobs":[],"text":"parcel"`), named("response.completed", `,"sequence_number":99,"response":{`+response+`"status":"completed","output":[{"id":"msg_1","type":"message"}],`+benchUsage+`,"total_tokens":429}}`)},
		},
		"messages": {
			kind: "anthropic", path: "/v1/messages", input: `"max_tokens":500,"messages":[{"role":"user","content":"`, behind: `"}]`, end: "message_stop",
			answer:  `{` + message + `"content":[{"type":"text","text":"%s"}],"stop_reason":"end_turn",` + benchUsage + `}}`,
			opening: []string{named("message_start", `,"message":{`+message+`"content":[],"stop_reason":null,"usage":{"input_tokens":231,"output_tokens":1}}`), named("content_block_start", `,"index":0,"content_block":{"type":"text","text":""}`)},
			delta:   named("content_block_delta", `,"index":0,"delta":{"type":"text_delta","text":" parcel%s"}`),
			closing: []string{named("content_block_stop", `,"index":0`), named("message_delta", `,"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":198}`) + named("message_stop", "")},
		},
	}
}

// answers are an answer of about 1 KiB, whole, and a stream of so many events (a few at least) with so many bytes more in each, ready to be written.
func (s benchShape) answers(events, more int) (answer []byte, stream [][]byte) {
	body := fmt.Sprintf(s.answer, strings.Repeat("Your parcel left our warehouse this morning. ", 16))
	answer = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: req_0123456789abcdef\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	all := append([]string{}, s.opening...)
	for range events - len(s.opening) - len(s.closing) {
		all = append(all, fmt.Sprintf(s.delta, strings.Repeat("!", more)))
	}
	for _, event := range append(all, s.closing...) {
		stream = append(stream, fmt.Appendf(nil, "%x\r\n%s\r\n", len(event), event))
	}
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-Id: req_0123456789abcdef\r\nTransfer-Encoding: chunked\r\n\r\n"
	stream[0] = append([]byte(head), stream[0]...)
	last := len(stream) - 1
	stream[last] = append(stream[last], "0\r\n\r\n"...)
	return answer, stream
}

// request is a whole request with a body of 1 KiB. what names the prompt or the model.
func (s benchShape) request(addr, key, what string, stream bool) []byte {
	body := fmt.Sprintf(`{%s,%s%%s%s,"stream":%t}`, what, s.input, s.behind, stream)
	body = fmt.Sprintf(body, strings.Repeat("Where is my parcel? ", 60)[:max(0, 1024-len(body)+2)])
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"+
		"Accept: */*\r\nUser-Agent: bench/1\r\nContent-Length: %d\r\n\r\n%s", s.path, addr, key, len(body), body)
}
