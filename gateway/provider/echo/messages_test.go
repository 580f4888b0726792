package echo_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway/provider"
)

// TestMessages: the Messages API is answered with the same text, whole and in events, and its tokens are counted as an answer counts them.
func TestMessages(t *testing.T) {
	do := func(endpoint, body string) (int, string) {
		resp, err := fixed().Do(context.Background(), &provider.Request{API: provider.APIMessages, Endpoint: endpoint, Body: []byte(body)})
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.Status, string(b)
	}
	const fields = `"model":"m","max_tokens":50,"system":[{"type":"text","text":"Sort."}],"messages":[{"role":"user","content":[{"type":"text","text":"my card"}]},` +
		`{"role":"assistant","content":[{"type":"tool_use","id":"c","name":"n","input":{}}]},{"role":"user","content":"again"}]`
	status, body := do("messages", "{"+fields+"}")
	require.Equal(t, 200, status, body)
	got := gjson.Parse(body)
	text := "[echo] 4 messages (system 5 bytes, user 7 bytes, assistant 10 bytes, user 5 bytes); last user message: again"
	require.Equal(t, text, got.Get("content.0.text").Str)
	require.Equal(t, "end_turn", got.Get("stop_reason").Str)
	require.Equal(t, gjson.Null, got.Get("stop_sequence").Type)

	_, events := do("messages", `{"stream":true,`+fields+"}")
	var said strings.Builder
	var last, delta string
	for event := range strings.SplitSeq(strings.TrimSpace(events), "\n\n") {
		name, data, ok := strings.Cut(strings.TrimPrefix(event, "event: "), "\ndata: ")
		require.True(t, ok && gjson.Valid(data), event)
		require.Equal(t, name, gjson.Get(data, "type").Str)
		if last = name; name == "message_delta" {
			delta = data
		}
		said.WriteString(gjson.Get(data, "delta.text").Str)
	}
	require.Equal(t, text, said.String())
	require.Equal(t, "message_stop", last)
	require.Equal(t, got.Get("usage.output_tokens").Int(), gjson.Get(delta, "usage.output_tokens").Int())

	_, counted := do("messages/count_tokens", "{"+strings.Replace(fields, `"max_tokens":50,`, "", 1)+"}")
	require.JSONEq(t, `{"input_tokens":`+got.Get("usage.input_tokens").Raw+`}`, counted)

	_, cut := do("messages", `{"model":"m","max_tokens":2,"messages":[{"role":"user","content":"a long text"}]}`)
	require.Equal(t, "max_tokens", gjson.Get(cut, "stop_reason").Str)
	_, schema := do("messages", `{"model":"m","max_tokens":99,"messages":[{"role":"user","content":"x"}],"output_config":{"format":{"type":"json_schema","schema":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}}}}`)
	require.True(t, gjson.Get(gjson.Get(schema, "content.0.text").Str, "a").Exists(), schema)
	for _, wrong := range []string{`{}`, `{"model":"m","max_tokens":5}`, `{"model":"m","max_tokens":5,"messages":[]}`, `{"model":"m","max_tokens":0,"messages":[{"role":"user","content":"x"}]}`,
		`{"model":"m","messages":[{"role":"user","content":"x"}]}`, `{"model":"m","max_tokens":5,"system":"x","messages":[]}`, `{"model":"m","max_tokens":5,"messages":[{"role":"system","content":"x"}]}`} {
		status, body := do("messages", wrong)
		require.Equal(t, 400, status, wrong)
		require.Equal(t, "invalid_request_error", gjson.Get(body, "error.type").Str)
	}
	status, body = do("messages/batches", "{"+fields+"}")
	require.Equal(t, 404, status)
	require.Equal(t, "not_found_error", gjson.Get(body, "error.type").Str)
}
