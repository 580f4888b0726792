package echo_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	openaisdk "github.com/sashabaranov/go-openai"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/echo"
	"github.com/promptgate/promptgate/gateway/provider/providertest"
)

func fixed() *echo.Provider {
	return echo.New(echo.Options{Now: func() time.Time { return time.Unix(1700000000, 0) }})
}

func TestContract(t *testing.T) {
	providertest.Contract(t, func(t *testing.T) provider.Provider {
		providertest.NoLeaks(t)
		return echo.New(echo.Options{})
	})
}

func ask(t require.TestingT, p *echo.Provider, body string) (int, string) {
	resp, err := p.Do(context.Background(), providertest.Chat(body))
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.Status, string(b)
}

func TestWhatItSays(t *testing.T) {
	status, body := ask(t, fixed(), `{"model":"gpt-4o","temperature":0,"messages":[
		{"role":"system","content":"Triage the secret ticket."},
		{"role":"user","content":[{"type":"text","text":"My card was "},{"type":"image_url","image_url":{"url":"x"}},{"type":"text","text":" charged twice & <b>"}]}]}`)
	require.Equal(t, 200, status)
	require.True(t, gjson.Valid(body))
	got := gjson.Parse(body)
	require.Equal(t, "[echo] 2 messages (system 25 bytes, user 43 bytes); last user message: My card was [image_url] charged twice & <b>",
		got.Get("choices.0.message.content").Str)
	require.NotContains(t, body, "Triage", "a prompt's text may be none of the caller's business")
	require.Equal(t, "echo", got.Get("model").Str)
	require.Equal(t, "fp_echo", got.Get("system_fingerprint").Str)
	require.Equal(t, "chat.completion", got.Get("object").Str)
	require.Equal(t, "stop", got.Get("choices.0.finish_reason").Str)
	require.Equal(t, int64(1700000000), got.Get("created").Int())
	in, out, total := got.Get("usage.prompt_tokens").Int(), got.Get("usage.completion_tokens").Int(), got.Get("usage.total_tokens").Int()
	require.Equal(t, int64(12), in)
	require.Positive(t, out)
	require.Equal(t, in+out, total)
	_, again := ask(t, fixed(), strings.Clone(`{"model":"x","messages":[{"role":"user","content":"a"}]}`))
	_, twice := ask(t, fixed(), `{"model":"x","messages":[{"role":"user","content":"a"}]}`)
	require.Equal(t, again, twice)

	_, none := ask(t, fixed(), `{"model":"x","messages":[{"role":"system","content":"secret"}]}`)
	require.Equal(t, "[echo] 1 message (system 6 bytes); no user message", gjson.Get(none, "choices.0.message.content").Str)
}

func TestStreamSaysTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		content := rapid.String().Draw(t, "content")
		limit := rapid.IntRange(1, 40).Draw(t, "limit")
		usage := rapid.Bool().Draw(t, "usage")
		quoted, _ := json.Marshal(content)
		fields := fmt.Sprintf(`"model":"m","max_tokens":%d,"messages":[{"role":"user","content":%s}]`, limit, quoted)
		_, whole := ask(t, fixed(), "{"+fields+"}")
		_, events := ask(t, fixed(), fmt.Sprintf(`{"stream":true,"stream_options":{"include_usage":%v},%s}`, usage, fields))

		var text strings.Builder
		var last, finish, counted string
		lines := bufio.NewScanner(strings.NewReader(events))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			line := lines.Text()
			if line == "" {
				continue
			}
			last = strings.TrimPrefix(line, "data: ")
			if last == "[DONE]" {
				continue
			}
			require.True(t, gjson.Valid(last), last)
			e := gjson.Parse(last)
			require.Equal(t, usage, e.Get("usage").Exists(), last)
			text.WriteString(e.Get("choices.0.delta.content").Str)
			if f := e.Get("choices.0.finish_reason"); f.Type == gjson.String {
				finish = f.Str
			}
			if e.Get("usage").IsObject() {
				require.Empty(t, e.Get("choices").Array())
				counted = e.Get("usage").Raw
			}
		}
		require.NoError(t, lines.Err())
		require.Equal(t, "[DONE]", last)
		w := gjson.Parse(whole)
		require.Equal(t, w.Get("choices.0.message.content").Str, text.String())
		require.Equal(t, w.Get("choices.0.finish_reason").Str, finish)
		require.LessOrEqual(t, w.Get("usage.completion_tokens").Int(), int64(limit))
		if usage {
			require.Equal(t, w.Get("usage").Raw, counted)
		}
	})
}

func TestRefusals(t *testing.T) {
	for body, param := range map[string]string{
		``: "", `{`: "", `[]`: "", `{"model":"a","model":"b"}`: "", `{"messages":[]}`: "model",
		`{"model":"m"}`: "messages", `{"model":"m","messages":[]}`: "messages", `{"model":"m","messages":[1]}`: "messages",
		`{"model":"m","messages":[{"content":"x"}]}`:                          "messages",
		`{"model":"m","n":2,"messages":[{"role":"user"}]}`:                    "n",
		`{"model":"m","stream":"yes","messages":[{"role":"user"}]}`:           "stream",
		`{"model":"m","max_tokens":0,"messages":[{"role":"user"}]}`:           "max_tokens",
		`{"model":"m","max_completion_tokens":1.5,"messages":[{"role":"u"}]}`: "max_completion_tokens",
	} {
		status, answer := ask(t, fixed(), body)
		require.Equal(t, 400, status, body)
		e := gjson.Get(answer, "error")
		require.NotEmpty(t, e.Get("message").Str, body)
		require.NotEmpty(t, e.Get("code").Str, body)
		require.Equal(t, "invalid_request_error", e.Get("type").Str, body)
		require.Equal(t, param, e.Get("param").Str, body)
	}
	resp, err := fixed().Do(t.Context(), &provider.Request{API: provider.APIChat, Endpoint: "embeddings", Body: []byte("{}")})
	require.NoError(t, err)
	require.Equal(t, 404, resp.Status)
	// Null is as good as absent.
	status, _ := ask(t, fixed(), `{"model":"m","n":null,"stream":null,"max_tokens":null,"messages":[{"role":"user","content":null}]}`)
	require.Equal(t, 200, status)
}

func TestSchemas(t *testing.T) {
	ask := func(format string) string {
		status, answer := ask(t, fixed(), `{"model":"m","response_format":`+format+`,"messages":[{"role":"user","content":"Ann, ann@x.org"}]}`)
		require.Equal(t, 200, status)
		return gjson.Get(answer, "choices.0.message.content").Str
	}
	schema := func(s string) string {
		return ask(`{"type":"json_schema","json_schema":{"name":"x","schema":` + s + `}}`)
	}

	require.JSONEq(t, `{"echo":"Ann, ann@x.org"}`, ask(`{"type":"json_object"}`))
	require.Contains(t, ask(`{"type":"text"}`), "[echo]")
	require.JSONEq(t, `{"name":"echo","email":"echo@example.com","phone":null,"age":18,"tags":["a"],"ok":false,"who":{"x":"echo"}}`, schema(`{
		"type":"object","additionalProperties":false,"required":["name","email","phone","age","tags","ok","who"],
		"$defs":{"p":{"type":"object","properties":{"x":{"$ref":"#/$defs/q"}}},"q":{"type":"string"}},
		"properties":{"name":{"type":"string"},"email":{"type":"string","format":"email"},"phone":{"type":["null","string"]},
			"age":{"type":"integer","minimum":18},"tags":{"type":"array","items":{"enum":["a","b"]},"minItems":1},
			"ok":{"type":"boolean"},"who":{"$ref":"#/$defs/p"}}}`))
	doubling := `"d0":{"type":"string"}`
	for i := range 40 {
		doubling += fmt.Sprintf(`,"d%d":{"allOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]}`, i+1, i, i)
	}
	// What it cannot satisfy, follow or bound it answers in plain text.
	for _, s := range []string{
		`{"const":"x","allOf":[{"$ref":"#/$defs/d40"}],"$defs":{` + doubling + `}}`,
		`{"type":"string","pattern":"^[0-9]+$"}`, `{"$ref":"file:///etc/passwd"}`, `{"$ref":"#"}`, `{"type":"nonsense"}`,
		`{"type":"array","minItems":1000000000,"items":{"type":"array","minItems":1000000000}}`,
		`{"type":"object","properties":{"a":{"$ref":"#"}}}`, `{"properties":5,"type":"integer","minimum":"x"}`, `7`,
	} {
		require.Contains(t, schema(s), "[echo]", s)
	}
}

func TestCancelledWhileItWaits(t *testing.T) {
	providertest.NoLeaks(t)
	kind := func(err error) provider.Kind {
		var e *provider.Error
		require.ErrorAs(t, err, &e)
		return e.Kind
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	_, err := echo.New(echo.Options{Latency: time.Hour}).Do(ctx, providertest.Chat(providertest.Plain))
	require.Equal(t, provider.KindCancelled, kind(err))

	ctx, cancel = context.WithCancel(t.Context())
	resp, err := echo.New(echo.Options{ChunkDelay: time.Hour}).Do(ctx, providertest.Chat(providertest.Streaming))
	require.NoError(t, err)
	time.AfterFunc(time.Millisecond, cancel)
	_, err = io.ReadAll(resp.Body)
	require.Equal(t, provider.KindCancelled, kind(err))
}

// go-openai reads both forms.
func TestTheSDKReadsIt(t *testing.T) {
	_, body := ask(t, fixed(), providertest.Plain)
	var whole openaisdk.ChatCompletionResponse
	require.NoError(t, json.Unmarshal([]byte(body), &whole))
	require.Contains(t, whole.Choices[0].Message.Content, "Hello there")
	_, events := ask(t, fixed(), providertest.Streaming)
	first, _, _ := bytes.Cut([]byte(events), []byte("\n\n"))
	var chunk openaisdk.ChatCompletionStreamResponse
	require.NoError(t, json.Unmarshal(bytes.TrimPrefix(first, []byte("data: ")), &chunk))
	require.Equal(t, "assistant", chunk.Choices[0].Delta.Role)
}

func BenchmarkPlain(b *testing.B) {
	p := fixed()
	b.ReportAllocs()
	for b.Loop() {
		resp, err := p.Do(b.Context(), providertest.Chat(providertest.Plain))
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
}

// TestResponses: the Responses API is answered with the same text, whole and in events, and repeats its instructions as the real one does.
func TestResponses(t *testing.T) {
	do := func(body string) (int, string) {
		resp, err := fixed().Do(context.Background(), &provider.Request{API: provider.APIResponses, Endpoint: "responses", Body: []byte(body)})
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.Status, string(b)
	}
	const fields = `"model":"m","instructions":"Sort.","input":[{"role":"user","content":[{"type":"input_text","text":"my card"}]},{"type":"function_call_output","call_id":"c","output":"x"}]`
	status, body := do("{" + fields + "}")
	require.Equal(t, 200, status, body)
	got := gjson.Parse(body)
	require.Equal(t, "[echo] 3 messages (system 5 bytes, user 7 bytes, function_call_output 1 bytes); last user message: my card", got.Get("output.0.content.0.text").Str)
	require.Equal(t, "Sort.", got.Get("instructions").Str)
	require.Equal(t, "completed", got.Get("status").Str)
	require.Equal(t, got.Get("usage.input_tokens").Int()+got.Get("usage.output_tokens").Int(), got.Get("usage.total_tokens").Int())
	_, events := do(`{"stream":true,` + fields + "}")
	var said strings.Builder
	var last string
	for line := range strings.SplitSeq(events, "\n") {
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		require.True(t, gjson.Valid(data), data)
		if last = data; gjson.Get(data, "type").Str == "response.output_text.delta" {
			said.WriteString(gjson.Get(data, "delta").Str)
		}
	}
	require.Equal(t, got.Get("output.0.content.0.text").Str, said.String())
	require.Equal(t, got.Get("output.0.content").Raw, gjson.Get(last, "response.output.0.content").Raw)
	require.True(t, strings.HasPrefix(got.Get("id").Str, "resp_echo"))
	require.Equal(t, "response.completed", gjson.Get(last, "type").Str)

	_, cut := do(`{"model":"m","input":"a long text","max_output_tokens":2}`)
	require.Equal(t, "incomplete", gjson.Get(cut, "status").Str)
	_, schema := do(`{"model":"m","input":"x","text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}}}}`)
	require.True(t, gjson.Get(gjson.Get(schema, "output.0.content.0.text").Str, "a").Exists(), schema)
	for _, wrong := range []string{`{}`, `{"model":"m"}`, `{"model":"m","input":5}`, `{"model":"m","input":[1]}`, `{"model":"m","input":"x","previous_response_id":"r"}`} {
		status, _ := do(wrong)
		require.Equal(t, 400, status, wrong)
	}
}
