package gateway_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/metrics"
)

// spoken is a shape of requests as the faults of its provider are tried in it.
type spoken struct {
	path   string
	body   string   // of a call of a prompt, to its end but for the brace
	bare   string   // of a call without one
	answer string   // that is no stream
	empty  []string // answers with a status of success that are none
	events []string
	silent int    // so many of them say nothing yet
	whole  int    // after so many the answer is whole
	long   int    // the event that holds "Hi"
	fails  string // the provider's own error event, with SECRET in it
	end    string // what only a whole stream ends with
	fault  string // what our own error event begins with
}

func shapes() map[string]spoken {
	return map[string]spoken{
		"chat": {
			path: "/v1/chat/completions", body: `{"prompt":{"id":"support/full","variables":{"what":"x"}}`, bare: `{"model":"gpt-test","messages":[]`, answer: okJSON,
			empty: []string{`{"error":{"message":"x"}}`, `{"id":"c","choices":[]}`, `{}`, `null`, ``, `{"id":"c","choices":[{"mess`}, events: []string{delta("Hi"), delta(" you"), finishEvent, doneEvent},
			whole: 3, fails: "data: {\"error\":{\"message\":\"SECRET\"}}\n\n", end: "[DONE]", fault: "data: ",
		},
		"responses": {
			path: "/v1/responses", body: `{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now"`, bare: `{"model":"gpt-test","input":"x"`, answer: aResponse,
			empty:  []string{`{"error":{"message":"x"}}`, `{"id":"r","status":"completed","output":[]}`, `{}`, `null`, ``, `{"id":"r","outp`},
			events: responseStream(), silent: 2, whole: 6, long: 3, fails: event("error", `,"code":"c","message":"SECRET"`), end: "response.completed", fault: "event: error\ndata: ",
		},
		"messages": {
			path: "/v1/messages", body: fullMessages, bare: `{"model":"gpt-test","max_tokens":9,"messages":[{"role":"user","content":"x"}]`, answer: aMessage,
			empty: []string{
				`{"type":"error","error":{"type":"overloaded_error","message":"x"}}`, `{"type":"error"}`, `{"id":"m","type":"message","content":[],"stop_reason":null}`,
				`{"id":"m","type":"message","stop_reason":"end_turn"}`, `{}`, `null`, ``, `{"id":"m","content":[{"ty`,
			},
			events: messageStream(), silent: 2, whole: 9, long: 3, fails: said("error", `,"error":{"type":"overloaded_error","message":"SECRET"}`), end: "message_stop", fault: "event: error\ndata: ",
		},
	}
}

const once = "X-Stainless-Retry-Count"

// eachShape runs a test in each shape of requests.
func eachShape(t *testing.T, f func(t *testing.T, s spoken)) {
	for name, s := range shapes() {
		t.Run(name, func(t *testing.T) { f(t, s) })
	}
}

// TestStreamsCutInEveryShape: after each event, and inside each, a cut ends the stream in the shape's own error event, and in nothing that a whole one ends with.
func TestStreamsCutInEveryShape(t *testing.T) {
	eachShape(t, func(t *testing.T, s spoken) {
		for n := range len(s.events) + 1 {
			for _, inside := range []bool{false, true} {
				sent := s.events[:n:n]
				if inside {
					if n == len(s.events) {
						continue
					}
					sent = append(sent, s.events[n][:len(s.events[n])*2/3])
				}
				at := fmt.Sprintf("%d %v", n, inside)
				e := withMessages(t)
				e.upstream.set(respondEvents(sent...))
				a := e.post(s.path, s.body+`,"stream":true}`, once, "1")
				rec := e.only()
				switch {
				case n <= s.silent:
					assert.Equal(t, 502, a.status, "nothing was said yet: %s", at)
					assert.NotEmpty(t, a.code())
					assert.NotEqual(t, metrics.OutcomeOK, rec.Outcome)
				case n >= s.whole && (!inside || s.end != "[DONE]"):
					assert.Equal(t, strings.Join(s.events[:n], ""), string(a.body), at)
					assert.Equal(t, metrics.OutcomeOK, rec.Outcome, at)
				default:
					require.Equal(t, 200, a.status, at)
					rest, ok := strings.CutPrefix(string(a.body), strings.Join(s.events[:n], ""))
					require.True(t, ok, "%s: %s", at, a.body)
					last, ok := strings.CutPrefix(rest, s.fault)
					require.True(t, ok, "%s: %s", at, rest)
					assert.Equal(t, "provider_truncated", gjson.Get(last, "error.code").String(), at)
					assert.NotContains(t, rest, s.end, at)
					assert.Equal(t, metrics.OutcomeTruncated, rec.Outcome, at)
					assert.Positive(t, rec.Tokens.Input, at)
				}
			}
		}
	})
}

// TestStreamsPassInEveryShape: whatever the line ends, the pieces and the size of an event are, the bytes are kept and the answer is whole.
func TestStreamsPassInEveryShape(t *testing.T) {
	eachShape(t, func(t *testing.T, s spoken) {
		text := strings.Join(s.events, "")
		huge := append([]string{}, s.events...)
		huge[s.long] = strings.Replace(huge[s.long], "Hi", strings.Repeat("0123456789abcdef", 4<<20/16), 1)
		for name, pieces := range map[string][]string{
			"byte by byte": strings.Split(text, ""), "CRLF": {strings.ReplaceAll(text, "\n", "\r\n")}, "CR byte by byte": strings.Split(strings.ReplaceAll(text, "\n", "\r"), ""),
			"4 MiB": huge, "comments": {": hello\n\n" + text}, "one piece": {text},
		} {
			e := withMessages(t)
			e.upstream.set(respondEvents(pieces...))
			a := e.post(s.path, s.body+`,"stream":true}`)
			require.NoError(t, a.err)
			require.True(t, strings.Join(pieces, "") == string(a.body), name)
			rec := e.only()
			assert.Equal(t, metrics.OutcomeOK, rec.Outcome, name)
			assert.Positive(t, rec.FirstToken, name)
		}
	})
}

// TestErrorsOfProvidersInEveryShape: an error that comes first is no answer, one that comes later is passed on in the provider's own words, and in ours to who may
// not read the prompt; what is no answer at all, or no success, is told in the shape of the call.
func TestErrorsOfProvidersInEveryShape(t *testing.T) {
	const runs = "Bearer prompts"
	eachShape(t, func(t *testing.T, s spoken) {
		stream := s.body + `,"stream":true}`
		for n := range s.whole {
			sent := append(s.events[:n:n], s.fails)
			e := withMessages(t)
			e.upstream.set(respondEvents(sent...))
			a := e.post(s.path, stream, once, "1")
			assert.Equal(t, metrics.OutcomeProvider, e.only().Outcome)
			if n <= s.silent {
				assert.Equal(t, 502, a.status, n)
				assert.Equal(t, "provider_error", a.code())
				assert.NotContains(t, string(a.body), "SECRET")
				second := e.second(t)
				second.set(respondEvents(s.events...))
				a = e.post(s.path, stream)
				assert.Equal(t, strings.Join(s.events, ""), string(a.body), "who is asked next answers")
				continue
			}
			assert.Equal(t, strings.Join(sent, ""), string(a.body), "the provider's own words, and nothing behind them: %d", n)
			a = e.post(s.path, stream, once, "1", "Authorization", runs)
			assert.NotContains(t, string(a.body), "SECRET", n)
			told := strings.Count(string(a.body), s.fault)
			if s.path == "/v1/chat/completions" { // whose errors have no name
				told = strings.Count(string(a.body), `"error":{`)
			}
			assert.Equal(t, 1, told, "it is told of, in our words or with its words taken out: %s", a.body)
			assert.NotContains(t, string(a.body), s.end)
		}
		for name, serve := range map[string]http.HandlerFunc{
			"HTML": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				_, _ = w.Write([]byte("<html>SECRET</html>"))
			},
			"HTML that says it is JSON": respondJSON(200, "<html>SECRET</html>"), "HTML in a stream": respondEvents("<html>SECRET</html>\n\n"),
			"529": respondJSON(529, `{"type":"error","error":{"type":"overloaded_error","message":"SECRET"}}`), "500": respondJSON(500, `SECRET`),
		} {
			for _, more := range []string{`}`, `,"stream":true}`} {
				e := withMessages(t)
				e.upstream.set(serve)
				a := e.post(s.path, s.body+more)
				assert.Equal(t, 502, a.status, name)
				assert.Contains(t, []string{"provider_error", "provider_truncated"}, a.code(), name)
				assert.NotContains(t, string(a.body), "SECRET")
				assert.Equal(t, s.path == "/v1/messages", a.kind() == "api_error", "%s", a.body)
				if name == "529" {
					assert.Equal(t, 3, e.upstream.count(), "it is tried again, as 503 is")
				}
				second := e.second(t)
				second.set(respondJSON(200, s.answer))
				a = e.post(s.path, s.body+`}`)
				assert.Equal(t, s.answer, string(a.body), name)
			}
		}
		for _, body := range s.empty {
			e := withMessages(t)
			e.upstream.set(respondJSON(200, body))
			a := e.post(s.path, s.body+`}`, once, "1")
			assert.Equal(t, 502, a.status, body)
			assert.Contains(t, []string{"provider_error", "provider_truncated"}, a.code(), body)
			assert.NotEqual(t, metrics.OutcomeOK, e.only().Outcome, body)
		}
		e := withMessages(t)
		limited := `{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}`
		e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.Header().Set("Anthropic-Ratelimit-Tokens-Remaining", "0")
			respondJSON(429, limited)(w, r)
		})
		a := e.post(s.path, s.body+`}`)
		assert.Equal(t, 429, a.status)
		assert.Equal(t, limited, string(a.body))
		assert.Equal(t, "3600", a.header.Get("Retry-After"))
		assert.Equal(t, "0", a.header.Get("Anthropic-Ratelimit-Tokens-Remaining"))
		assert.Equal(t, 1, e.upstream.count(), "so long it is not waited for")
	})
}

// TestEveryEventOfMessages: each kind of event, block and delta that the API's reference names, and some of tomorrow, pass byte for byte and are read for what they say.
func TestEveryEventOfMessages(t *testing.T) {
	all, err := os.ReadFile("testdata/messages.sse")
	require.NoError(t, err)
	for _, kind := range []string{"message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop", "ping", "text_delta",
		"input_json_delta", "citations_delta", "thinking_delta", "signature_delta", "redacted_thinking", "server_tool_use", "web_search_tool_result", "container_upload"} {
		require.Contains(t, string(all), kind)
	}
	for _, size := range []int{1, 13, len(all)} {
		var pieces []string
		for rest := all; len(rest) > 0; {
			n := min(size, len(rest))
			pieces, rest = append(pieces, string(rest[:n])), rest[n:]
		}
		for _, key := range []string{"Bearer caller", "Bearer prompts"} {
			e := withMessages(t)
			e.upstream.set(respondEvents(pieces...))
			a := e.message(fullMessages+`,"stream":true}`, "Authorization", key)
			require.True(t, bytes.Equal(all, a.body), "%d %s", size, key)
			rec := e.only()
			assert.Equal(t, metrics.OutcomeOK, rec.Outcome)
			assert.Equal(t, metrics.Tokens{Input: 72, CachedInput: 40, CacheWrite: 7, Output: 11, Reasoning: 4, Reported: true}, rec.Tokens)
		}
	}
}

// TestExecuteOnlyKeysLearnNothingInEveryShape: whatever a provider says of a prompt when it fails or refuses, who may run the prompt and not read it sees nothing of it, in
// no header, body or event; the lock, the name and the code stay.
func TestExecuteOnlyKeysLearnNothingInEveryShape(t *testing.T) {
	const canary = "CANARY"
	eachShape(t, func(t *testing.T, s spoken) {
		e := withMessages(t)
		search := func(a answer, status int, why string) {
			t.Helper()
			why = why[:min(len(why), 60)]
			assert.Equal(t, status, a.status, why)
			assert.False(t, strings.Contains(string(a.body), canary), "%s: %.300s", why, a.body)
			for key, values := range a.header {
				assert.NotContains(t, strings.Join(values, " "), canary, key)
			}
		}
		ask := func(more string) answer {
			return e.post(s.path, s.body+more, "Authorization", "Bearer prompts", once, "1")
		}
		for _, body := range []string{
			`{"type":"error","error":{"type":"invalid_request_error","message":"CANARY","param":"CANARY x"},"request_id":"req_1"}`, `{"error":{"message":"CANARY","code":"bad","CANARY":1}}`,
			`CANARY`, `{"error":"CANARY"}`, `{"CANARY":`, `{"error":{"message":"` + strings.Repeat("CANARY ", 300_000) + `"}}`,
		} {
			for _, status := range []int{400, 404, 413, 422, 429} {
				e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("X-Ratelimit-Reason", canary)
					w.Header().Set("Anthropic-Ratelimit-Reason", canary)
					respondJSON(status, body)(w, r)
				})
				search(ask("}"), status, body)
			}
			for _, status := range []int{200, 401, 403, 500, 503, 529} {
				e.upstream.set(respondJSON(status, body))
				search(ask("}"), 502, body)
			}
		}
		for n := s.silent + 1; n < s.whole; n++ {
			for _, broken := range []string{
				strings.ReplaceAll(s.fails, "SECRET", canary), "event: error\ndata: CANARY\n\n", "event: error\ndata: {\"message\":\"CANARY\"}\n\n",
				strings.ReplaceAll(s.fails, "SECRET", canary+strings.Repeat(" ", 3000)),
			} {
				events := make([]string, 0, n+1)
				for _, ev := range s.events[:n] {
					events = append(events, strings.ReplaceAll(ev, canary, "x"))
				}
				e.upstream.set(respondEvents(append(events, broken)...))
				search(ask(`,"stream":true}`), 200, broken)
			}
		}
	})
}
