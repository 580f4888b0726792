package gateway_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/metrics"
)

// passingStream is a stream of an endpoint that runs no prompt: what asks for it, and its events, of which the last ends it and tells the usage.
type passingStream struct {
	path   string
	fields map[string]string // of a form
	body   string
	events []string
	tokens metrics.Tokens
	priced bool
}

func typedEvent(kind, more string) string {
	return fmt.Sprintf("event: %s\ndata: {\"type\":\"%s\"%s}\n\n", kind, kind, more)
}

func passingStreams(size int) []passingStream {
	long := strings.Repeat("A", size)
	text := func(more string) string {
		return `data: {"id":"cmpl-1","object":"text_completion","choices":[` + more + "}\n\n"
	}
	return []passingStream{
		{path: "completions", body: `{"model":"gpt-test","prompt":"x","stream":true,"stream_options":{"include_usage":true}}`, priced: true,
			events: []string{text(`{"text":"` + long + `","finish_reason":null}]`), text(`{"text":"","finish_reason":"stop"}]`), text(`],"usage":{"prompt_tokens":4,"completion_tokens":6,"total_tokens":10}`), "data: [DONE]\n\n"},
			tokens: metrics.Tokens{Input: 4, Output: 6, Reported: true}},
		{path: "images/generations", body: `{"model":"gpt-test","prompt":"x","stream":true,"partial_images":1}`, priced: true,
			events: []string{typedEvent("image_generation.partial_image", `,"b64_json":"`+long+`"`),
				typedEvent("image_generation.completed", `,"b64_json":"`+long+`","usage":{"input_tokens":4,"output_tokens":6,"input_tokens_details":{"image_tokens":0}}`)},
			tokens: metrics.Tokens{Input: 4, Output: 6, Reported: true}},
		{path: "images/edits", fields: map[string]string{"stream": "true"},
			events: []string{typedEvent("image_edit.partial_image", `,"b64_json":"`+long+`"`),
				typedEvent("image_edit.completed", `,"b64_json":"`+long+`","usage":{"input_tokens":4,"output_tokens":6,"input_tokens_details":{"image_tokens":3}}`)},
			tokens: metrics.Tokens{Input: 4, Output: 6, Reported: true}},
		{path: "audio/speech", body: `{"model":"gpt-test","input":"x","stream_format":"sse"}`, priced: true,
			events: []string{typedEvent("speech.audio.delta", `,"audio":"`+long+`"`), typedEvent("speech.audio.done", `,"usage":{"input_tokens":4,"output_tokens":6,"total_tokens":10}`)},
			tokens: metrics.Tokens{Input: 4, Output: 6, Reported: true}},
		{path: "audio/transcriptions", fields: map[string]string{"stream": "true"}, priced: true,
			events: []string{typedEvent("transcript.text.delta", `,"delta":"`+long+`"`),
				typedEvent("transcript.text.done", `,"text":"`+long+`","usage":{"type":"tokens","input_tokens":4,"output_tokens":6,"input_token_details":{"audio_tokens":3}}`)},
			tokens: metrics.Tokens{Input: 4, AudioInput: 3, Output: 6, Reported: true}},
	}
}

func (s *passingStream) send(e *env, header ...string) answer {
	body, kind := s.body, "application/json"
	if s.fields != nil {
		body, kind = form("gpt-test", s.fields)
	}
	return e.post("/v1/"+s.path, body, append([]string{"Content-Type", kind}, header...)...)
}

// TestPassingStreams: events pass byte for byte, short and long ones, and their usage is recorded.
func TestPassingStreams(t *testing.T) {
	for _, size := range []int{3, 5 << 10, 2 << 20} {
		for _, s := range passingStreams(size) {
			t.Run(fmt.Sprintf("%s/%d", s.path, size), func(t *testing.T) {
				e := newEnv(t)
				e.upstream.set(respondEvents(s.events...))
				a := s.send(e)
				require.Equal(t, 200, a.status, "%s", a.body)
				require.NoError(t, a.err)
				assert.True(t, strings.Join(s.events, "") == string(a.body), "%.300s", a.body)
				assert.Equal(t, "text/event-stream", a.header.Get("Content-Type"))
				rec := e.only()
				assert.Equal(t, s.path, rec.Endpoint)
				assert.True(t, rec.Stream)
				assert.Equal(t, metrics.OutcomeOK, rec.Outcome)
				assert.Equal(t, s.tokens, rec.Tokens)
				assert.Equal(t, s.priced, rec.CostMicros != nil)
			})
		}
	}
}

// A stream that is cut, between events or inside of one, ends with an error; what is known of its tokens is no guess from its bytes, but for text.
func TestPassingStreamsCut(t *testing.T) {
	for _, s := range passingStreams(10) {
		for name, sent := range map[string]string{
			"between events": s.events[0],
			"inside of one":  s.events[0] + s.events[1][:len(s.events[1])/2],
		} {
			t.Run(s.path+"/"+name, func(t *testing.T) {
				e := newEnv(t)
				e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
					respondEvents(sent)(w, r)
					panic(http.ErrAbortHandler)
				})
				a := s.send(e)
				require.Equal(t, 200, a.status)
				rest, found := strings.CutPrefix(string(a.body), s.events[0])
				require.True(t, found)
				require.True(t, strings.HasPrefix(rest, "data: {\"error\""), rest)
				assert.Equal(t, "provider_truncated", gjson.Get(strings.TrimPrefix(rest, "data: "), "error.code").String())
				assert.NotContains(t, rest, "[DONE]")
				rec := e.only()
				assert.Equal(t, metrics.OutcomeTruncated, rec.Outcome)
				if s.path == "completions" {
					assert.True(t, rec.Tokens.Estimated)
				} else {
					assert.Zero(t, rec.Tokens)
					assert.Nil(t, rec.CostMicros)
				}
			})
		}
	}
}

// A stream that begins with an error is a 502, and one that ends with one is recorded as the provider's.
func TestPassingStreamsFail(t *testing.T) {
	const failure = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"image_generation_server_error\",\"message\":\"boom\"}}\n\n"
	for _, s := range passingStreams(10) {
		for _, failure := range []string{failure, "event: error\ndata: {\"type\":\"error\",\"code\":\"x\",\"message\":\"boom\"}\n\n", "data: [DONE]\n\n"} {
			e := newEnv(t)
			e.upstream.set(respondEvents(failure))
			a := s.send(e)
			assert.Equal(t, 502, a.status, s.path)
			assert.Equal(t, "provider_error", a.code())
		}

		e := newEnv(t)
		e.upstream.set(respondEvents(s.events[0], failure))
		a := s.send(e)
		assert.Equal(t, s.events[0]+failure, string(a.body), s.path)
		assert.Equal(t, metrics.OutcomeProvider, e.only().Outcome, s.path)
	}
}

// Usage is asked for on a legacy completion's stream as on a chat's, and kept back; on no other.
func TestPassingStreamsUsage(t *testing.T) {
	for _, s := range passingStreams(10) {
		e := newEnv(t)
		e.upstream.set(respondEvents(s.events...))
		s.body = strings.Replace(s.body, `,"stream_options":{"include_usage":true}`, "", 1)
		a := s.send(e)
		require.Equal(t, 200, a.status)
		sent, _ := e.upstream.last()
		if s.path == "completions" {
			assert.True(t, gjson.GetBytes(sent, "stream_options.include_usage").Bool())
			assert.NotContains(t, string(a.body), "usage")
			assert.Equal(t, s.tokens, e.only().Tokens)
		} else {
			assert.NotContains(t, string(sent), "stream_options")
			assert.Contains(t, string(a.body), "usage")
		}
	}
}

// Events for who asked for none are no answer.
func TestPassingStreamsUnasked(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondEvents(typedEvent("speech.audio.done", "")))
	assert.Equal(t, 502, e.post("/v1/audio/speech", `{"model":"gpt-test","input":"x","stream":true}`).status)
	for _, value := range []string{"True", "1", "yes", ""} {
		body, kind := form("gpt-test", map[string]string{"stream": value})
		a := e.post("/v1/audio/transcriptions", body, "Content-Type", kind)
		assert.Equal(t, 400, a.status, value)
		assert.Equal(t, "stream", gjson.GetBytes(a.body, "error.param").String())
	}
}

// The caller's own name for whom it calls is recorded, of a form as well.
func TestPassingUser(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, imagesJSON))
	body, kind := form("gpt-test", map[string]string{"user": "ada"})
	require.Equal(t, 200, e.post("/v1/images/edits", body, "Content-Type", kind).status)
	assert.Equal(t, "hash:prj_one:ada", e.only().EndUser)
}

// Text is a transcription for who asked for text; to others it is an error page.
func TestPassingText(t *testing.T) {
	for format, status := range map[string]int{"text": 200, "vtt": 200, "srt": 200, "json": 502, "verbose_json": 502, "": 502} {
		e := newEnv(t)
		e.upstream.set(respond("text/plain", "Bad gateway"))
		body, kind := form("gpt-test", map[string]string{"response_format": format})
		assert.Equal(t, status, e.post("/v1/audio/transcriptions", body, "Content-Type", kind).status, format)
		e.upstream.set(respondJSON(200, `"Hi"`)) // as some providers answer for text
		assert.Equal(t, 200, e.post("/v1/audio/transcriptions", body, "Content-Type", kind).status, format)
	}
}
