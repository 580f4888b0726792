package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// messageCase is one request, made by each of Anthropic's SDKs.
type messageCase struct {
	Name    string         `json:"name"`
	BaseURL string         `json:"base_url"`
	Key     string         `json:"key"`
	Body    map[string]any `json:"body"`
	Op      string         `json:"op,omitempty"`
	Retries int            `json:"retries,omitempty"`

	want   messageResult
	text   string
	raises map[string]string // the SDK's own exception, by SDK
	asked  int               // how often the provider was asked; 0: not looked at
}

// messageResult is what an SDK made of it.
type messageResult struct {
	Name      string   `json:"name"`
	ID        string   `json:"id"`
	Text      string   `json:"text"`
	Streamed  string   `json:"streamed"`
	Blocks    []string `json:"blocks"`
	Signature string   `json:"signature"`
	Chunks    int      `json:"chunks"`
	Usage     int      `json:"usage"`
	Stop      string   `json:"stop"`
	Error     string   `json:"error"`
	Status    int      `json:"status"`
	Code      string   `json:"code"`
	Kind      string   `json:"kind"`
	Message   string   `json:"message"`
	Request   string   `json:"request"`
}

// claude is a provider of the Messages API that answers by the model's name.
type claude struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]int
	gone  chan struct{} // one for each stream that was left
}

func newClaude(t *testing.T) *claude {
	c := &claude{asked: map[string]int{}, gone: make(chan struct{}, 10)}
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

func (c *claude) take(model string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.asked[model]
	delete(c.asked, model)
	return n
}

const (
	thinks   = `{"type":"thinking","thinking":"","signature":""}`
	usesTool = `{"type":"tool_use","id":"toolu_1","name":"get_weather","input":{}}`
)

func (c *claude) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var asks struct {
		Model  string
		Stream bool
	}
	_ = json.Unmarshal(body, &asks)
	c.mu.Lock()
	c.asked[asks.Model]++
	c.mu.Unlock()
	fail := func(status int, kind, message string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"type":"error","error":{"type":"%s","message":"%s"},"request_id":"req_1"}`, kind, message)
	}
	event := func(kind, more string) {
		_, _ = fmt.Fprintf(w, "event: %s\ndata: {\"type\":\"%s\"%s}\n\n", kind, kind, more)
		_ = http.NewResponseController(w).Flush()
	}
	begin := func() {
		w.Header().Set("Content-Type", "text/event-stream")
		event("message_start", `,"message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}`)
		event("ping", "")
	}
	block := func(i int, content string, deltas ...string) {
		event("content_block_start", fmt.Sprintf(`,"index":%d,"content_block":%s`, i, content))
		for _, d := range deltas {
			event("content_block_delta", fmt.Sprintf(`,"index":%d,"delta":%s`, i, d))
		}
		event("content_block_stop", fmt.Sprintf(`,"index":%d`, i))
	}
	is := func(name string) bool { return asks.Model == name || strings.HasPrefix(asks.Model, name+"-") }
	switch {
	case r.Header.Get("X-Api-Key") != "sk-ant-upstream" || r.Header.Get("Anthropic-Version") < "2023-06-01" || r.URL.Path != "/v1/messages":
		fail(400, "invalid_request_error", "not what the API asks for")
	case is("an-400"):
		fail(400, "invalid_request_error", "max_tokens is too large")
	case is("an-401"):
		fail(401, "authentication_error", "invalid x-api-key sk-ant-upstream")
	case is("an-429"):
		w.Header().Set("Retry-After", "3600")
		w.Header().Set("X-Should-Retry", "false")
		fail(429, "rate_limit_error", "slow down")
	case is("an-529"):
		fail(529, "overloaded_error", "Overloaded")
	case is("an-thinking") && !asks.Stream:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"thinking","thinking":"Let me see","signature":"EqQB=="},{"type":"redacted_thinking","data":"x"},`+
			`{"type":"tool_use","id":"toolu_1","name":"get_weather","input":{"city":"Oslo"}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":4}}`)
	case is("an-thinking"):
		begin()
		block(0, thinks, `{"type":"thinking_delta","thinking":"Let me"}`, `{"type":"thinking_delta","thinking":" see"}`, `{"type":"signature_delta","signature":"EqQB=="}`)
		block(1, usesTool, `{"type":"input_json_delta","partial_json":"{\"city\":"}`, `{"type":"input_json_delta","partial_json":" \"Oslo\"}"}`)
		event("message_delta", `,"delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":4}`)
		event("message_stop", "")
	case strings.HasPrefix(asks.Model, "an-cut"):
		begin()
		block(0, `{"type":"text","text":""}`, `{"type":"text_delta","text":"a"}`)
		if asks.Model == "an-cut-inside" {
			_, _ = io.WriteString(w, "event: content_block_start\ndata: {\"type\":\"conte")
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	case is("an-error"):
		begin()
		block(0, `{"type":"text","text":""}`, `{"type":"text_delta","text":"a"}`)
		event("error", `,"error":{"type":"overloaded_error","message":"Overloaded"}`)
	case is("an-forever"):
		begin()
		for r.Context().Err() == nil {
			event("content_block_delta", `,"index":0,"delta":{"type":"text_delta","text":"a"}`)
			time.Sleep(time.Millisecond)
		}
		c.gone <- struct{}{}
	}
}

func messageCases(p *process, weak string) []messageCase {
	user := []map[string]string{{"role": "user", "content": "where is my order?"}}
	prompt := map[string]any{"id": "support/triage", "label": "production", "variables": map[string]any{"ticket": "charged twice"}}
	with := func(model string, more ...any) map[string]any {
		out := map[string]any{"model": model, "max_tokens": 300, "messages": user}
		for i := 0; i < len(more); i += 2 {
			out[more[i].(string)] = more[i+1]
		}
		return out
	}
	managed := func(more ...any) map[string]any {
		return with("default", append([]any{"messages", []any{}, "prompt", prompt}, more...)...)
	}
	without := func(body map[string]any, name string) map[string]any { delete(body, name); return body }
	raises := func(node, python string) map[string]string { return map[string]string{"node": node, "python": python} }
	both := func(name string) map[string]string { return raises(name, name) }
	tools := []map[string]any{{"name": "get_weather", "input_schema": map[string]any{"type": "object"}}}
	schema := map[string]any{"format": map[string]any{"type": "json_schema", "schema": map[string]any{
		"type": "object", "properties": map[string]any{"a": map[string]any{"type": "integer"}}, "required": []string{"a"}, "additionalProperties": false,
	}}}
	thought := messageResult{ID: "msg_1", Stop: "tool_use", Signature: "EqQB==", Usage: 7, Blocks: []string{"thinking", "redacted_thinking", "tool_use"}}
	streamed := thought
	streamed.Blocks = []string{"thinking", "tool_use"}
	cases := []messageCase{
		{Name: "a prompt", Body: managed(), text: "charged twice", want: messageResult{Stop: "end_turn"}},
		{Name: "a prompt, streamed", Body: managed("stream", true), text: "charged twice", want: messageResult{Stop: "end_turn"}},
		{Name: "a prompt by a key that may only run it", Key: weak, Body: managed("stream", true), text: "charged twice", want: messageResult{Stop: "end_turn"}},
		{Name: "a prompt by model", Body: with("prompt/support/reply@production"), text: "where is my order?", want: messageResult{Stop: "end_turn"}},
		{Name: "no prompt", Body: with("gpt-4o-mini", "system", "Be brief."), text: "where is my order?", want: messageResult{Stop: "end_turn"}},
		{Name: "no prompt, streamed", Body: with("gpt-4o-mini", "stream", true), text: "where is my order?", want: messageResult{Stop: "end_turn"}},
		{Name: "a helper that gathers a stream", Op: "helper", Body: managed(), text: "charged twice", want: messageResult{Stop: "end_turn", Blocks: []string{"text"}}},
		{Name: "structured output", Body: with("gpt-4o-mini", "output_config", schema), text: `{"a":`, want: messageResult{Stop: "end_turn"}},
		{Name: "cut by its limit", Body: with("gpt-4o-mini", "max_tokens", 2), text: "[echo]", want: messageResult{Stop: "max_tokens"}},
		{Name: "thinking and a tool", Body: with("an-thinking", "tools", tools), text: "Let me see", want: thought},
		{Name: "thinking and a tool, streamed", Op: "helper", Body: with("an-thinking", "tools", tools), text: `"Oslo"`, want: streamed},
		{Name: "count", Op: "count", Body: without(with("gpt-4o-mini"), "max_tokens"), want: messageResult{Usage: 4}},
		{Name: "count of a prompt", Op: "count", Body: without(managed(), "max_tokens")},
		{Name: "models", Op: "models", text: "prompt/support/triage@production"},
		{Name: "cancelled", Op: "cancel", Body: with("an-forever", "stream", true), want: messageResult{ID: "cancelled"}},

		{Name: "400", Body: with("default", "prompt", map[string]any{"id": "support/triage"}), raises: both("BadRequestError"), want: messageResult{Status: 400, Code: "missing_variable", Kind: "invalid_request_error"}},
		{Name: "400 of the provider", Body: with("an-400"), raises: both("BadRequestError"), want: messageResult{Status: 400, Kind: "invalid_request_error"}, asked: 1},
		{Name: "401", Key: "pg_wrong", Body: with("gpt-4o"), raises: both("AuthenticationError"), want: messageResult{Status: 401, Code: "invalid_api_key", Kind: "authentication_error"}},
		{Name: "403", Key: weak, Body: with("gpt-4o"), raises: both("PermissionDeniedError"), want: messageResult{Status: 403, Code: "permission_denied", Kind: "permission_error"}},
		{Name: "404", Body: with("prompt/support/none"), raises: both("NotFoundError"), want: messageResult{Status: 404, Code: "prompt_not_found", Kind: "not_found_error"}},
		{Name: "429 that is not worth a retry", Retries: 2, Body: with("an-429"), raises: both("RateLimitError"), want: messageResult{Status: 429, Kind: "rate_limit_error"}, asked: 1},
		{Name: "529", Body: with("an-529"), raises: both("InternalServerError"), want: messageResult{Status: 502, Code: "provider_error", Kind: "api_error"}, asked: 3},
		{Name: "529, tried again", Retries: 2, Body: with("an-529-again"), raises: both("InternalServerError"), want: messageResult{Status: 502, Code: "provider_error", Kind: "api_error"}, asked: 5},
		{Name: "our credential there", Retries: 2, Body: with("an-401"), raises: both("InternalServerError"), want: messageResult{Status: 502, Code: "provider_auth", Kind: "api_error"}, asked: 1},
		{Name: "what is not served", Retries: 2, Body: with("an-400-container", "container", "container_1"), raises: raises("NotImplementedError", "HTTPNotImplementedError"), want: messageResult{Status: 501, Code: "not_implemented", Kind: "api_error"}},
		{Name: "cut between events", Body: with("an-cut", "stream", true), raises: raises("APIError", "APIStatusError"), want: messageResult{Code: "provider_truncated", Kind: "api_error"}},
		{Name: "cut inside an event", Body: with("an-cut-inside", "stream", true), raises: raises("APIError", "APIStatusError"), want: messageResult{Code: "provider_truncated", Kind: "api_error"}},
		{Name: "the provider's own error in a stream", Body: with("an-error", "stream", true), raises: raises("APIError", "APIStatusError"), want: messageResult{Kind: "overloaded_error"}},
	}
	for i := range cases {
		cases[i].BaseURL = p.url
		if cases[i].Key == "" {
			cases[i].Key = p.key
		}
	}
	return cases
}

// TestAnthropicSDKs: Anthropic's official SDKs work with nothing changed but the base URL and the key, and raise their own typed errors with our codes and messages.
func TestAnthropicSDKs(t *testing.T) {
	up := newClaude(t)
	name := filepath.Join(t.TempDir(), "promptgate.yaml")
	require.NoError(t, os.WriteFile(name, fmt.Appendf(nil, "providers:\n  - {name: echo, kind: echo, models: [\"gpt-*\", echo]}\n"+
		"  - {name: claude, kind: anthropic, base_url: %q, api_key: sk-ant-upstream, models: [\"an-*\"], allow_private: true}\n", up.URL+"/v1"), 0o600))
	p := startGateway(t, t.TempDir(), nil, "--demo", "--config", name)
	weak := strings.TrimSpace(p.cli("key", "create", "weak", "--call", "support/triage@production"))
	root, err := filepath.Abs("../../.cache")
	require.NoError(t, err)
	for sdk, command := range map[string][]string{
		"node": {"node", "testdata/sdk/messages.mjs"}, "python": {filepath.Join(root, "venv", "bin", "python"), "testdata/sdk/messages.py"},
	} {
		t.Run(sdk, func(t *testing.T) {
			cases := messageCases(p, weak)
			results := runMessages(t, cases, filepath.Join(root, "node"), command)
			require.Len(t, results, len(cases))
			for i, c := range cases {
				t.Run(c.Name, func(t *testing.T) {
					checkMessage(t, sdk, c, results[i])
					if c.asked > 0 {
						require.Equal(t, c.asked, up.take(c.Body["model"].(string)), "how often the provider was asked")
					}
					if c.Op == "cancel" {
						select {
						case <-up.gone:
						case <-time.After(10 * time.Second):
							t.Error("the provider was left working")
						}
					}
				})
			}
		})
	}
}

func runMessages(t *testing.T, cases []messageCase, node string, command []string) (results []messageResult) {
	t.Helper()
	in, err := json.Marshal(cases)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env, cmd.Stdin = cleanEnv("SDK_ROOT="+node), bytes.NewReader(in)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	require.NoError(t, err, "run `make tools` when the SDK is missing\n%s", &errOut)
	for line := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n") {
		var r messageResult
		require.NoError(t, json.Unmarshal([]byte(line), &r), line)
		results = append(results, r)
	}
	return results
}

func checkMessage(t *testing.T, sdk string, c messageCase, r messageResult) {
	t.Helper()
	require.Equal(t, c.Name, r.Name)
	require.Equal(t, c.raises[sdk], r.Error, "%+v", r)
	if r.Error != "" {
		if c.want.Status != 0 {
			require.Equal(t, c.want.Status, r.Status)
			require.NotEmpty(t, r.Request, "errors name the request")
		}
		require.Equal(t, c.want.Code, r.Code)
		require.Equal(t, c.want.Kind, r.Kind)
		require.NotEmpty(t, r.Message)
		require.NotContains(t, r.Message, "sk-ant")
		return
	}
	require.Contains(t, r.Text+r.Streamed, c.text)
	require.Equal(t, c.want.Stop, r.Stop)
	require.Equal(t, c.want.Signature, r.Signature)
	if c.want.ID != "" {
		require.Equal(t, c.want.ID, r.ID)
	}
	if c.want.Blocks != nil {
		require.Equal(t, c.want.Blocks, r.Blocks)
	}
	switch {
	case c.want.Usage != 0:
		require.Equal(t, c.want.Usage, r.Usage)
	case c.Op != "models" && c.Op != "cancel":
		require.Positive(t, r.Usage)
	}
	if c.Body["stream"] == true && c.Op == "" {
		require.Greater(t, r.Chunks, 2)
	}
}
