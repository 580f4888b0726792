package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const ticketFor = `{"prompt":{"id":"support/triage","label":"production","variables":{"ticket":"x"}}`

// TestExecuteOnlyKeysLearnNothing: a key that may call a prompt and not read it is told nothing of its text: not by a digest that can be compared with
// guesses, not by locks that answer one value otherwise than another, and not by a provider that repeats what it was sent.
func TestExecuteOnlyKeysLearnNothing(t *testing.T) {
	const reader, executor = "Bearer caller", "Bearer prompts"
	t.Run("digest", func(t *testing.T) {
		e := newEnv(t)
		require.Equal(t, "sha256:d", e.chat(ticketFor+`}`, "Authorization", reader).header.Get("X-Promptgate-Digest"))
		require.Equal(t, "keyed:prj_one:8", e.chat(ticketFor+`}`, "Authorization", executor).header.Get("X-Promptgate-Digest"))
		require.Equal(t, "keyed:prj_one:8", e.chat(`{"prompt":{"id":"support/triage"}}`, "Authorization", executor).header.Get("X-Promptgate-Digest"), "with a refusal, too")
		require.Equal(t, "sha256:d", e.recorder.last().Digest, "the record has the real one")
	})
	t.Run("locks", func(t *testing.T) {
		e := newEnv(t)
		require.Equal(t, http.StatusOK, e.chat(ticketFor+`,"temperature":0.3}`, "Authorization", reader).status)
		right := e.chat(ticketFor+`,"temperature":0.3}`, "Authorization", executor)
		wrong := e.chat(ticketFor+`,"temperature":0.4}`, "Authorization", executor)
		require.Equal(t, http.StatusBadRequest, right.status)
		require.Equal(t, string(wrong.body), string(right.body))
		require.Equal(t, http.StatusOK, e.chat(ticketFor+`}`, "Authorization", executor).status)
		require.Equal(t, http.StatusBadRequest, e.chat(ticketFor+`,"Temperature":0.3}`, "Authorization", reader).status)
	})
	t.Run("what a provider is asked to repeat", func(t *testing.T) {
		e := newEnv(t)
		for _, more := range []string{
			`"debug":{"echo_upstream_body":true}`, `"prompt_logprobs":1`, `"return_token_ids":true`, `"Echo":true`, `"extra_body":{"echo":true}`,
		} {
			a := e.chat(ticketFor+`,`+more+`}`, "Authorization", executor)
			require.Contains(t, []int{http.StatusForbidden, http.StatusBadRequest}, a.status, more) // 400: a lock was first
			require.Zero(t, e.upstream.count(), more)
		}
		require.Equal(t, http.StatusOK, e.chat(ticketFor+`,"prompt_logprobs":1}`, "Authorization", reader).status)
		require.Equal(t, http.StatusOK, e.chat(ticketFor+`,"prompt_logprobs":null}`, "Authorization", executor).status)
	})
	t.Run("a provider's refusal", func(t *testing.T) {
		e := newEnv(t)
		const said = `{"error":{"message":"Bad: Sort tickets. canary","type":"invalid_request_error","param":"messages[0].content","code":"bad_value","canary":1}}`
		long := `{"error":{"type":"invalid_request_error","param":"Sort tickets. canary","code":"x","message":"` + strings.Repeat("canary ", 300_000) + `"}}`
		for _, body := range []string{said, long, `canary`, `{"error":"canary"}`, `{"canary":`, `null`} {
			for _, status := range []int{400, 404, 413, 422, 429} {
				e.upstream.set(respondJSON(status, body))
				a := e.chat(ticketFor+`}`, "Authorization", executor, "X-Stainless-Retry-Count", "1")
				require.Equal(t, status, a.status)
				require.NotContains(t, string(a.body), "canary")
				require.NotContains(t, string(a.body), "Sort tickets")
				require.Contains(t, a.message(), "keys that may read it")
				require.Equal(t, "provider", a.header.Get("X-Promptgate-Error-Origin"))
			}
		}
		e.upstream.set(respondJSON(400, said))
		a := e.chat(ticketFor+`}`, "Authorization", executor)
		require.Equal(t, "bad_value", a.code())
		require.Contains(t, string(a.body), `"param":"messages[0].content"`)
		require.Equal(t, said, string(e.chat(ticketFor+`}`, "Authorization", reader).body))
		require.Equal(t, said, string(e.chat(plainCall).body), "without a prompt there is nothing to hide")
	})
}

// TestLimitsHoldHoweverTheyAreSpelled: a model is the same model in any case, a locked field the same field under its other names, and what lets the
// provider choose another model asks for the right to every model.
func TestLimitsHoldHoweverTheyAreSpelled(t *testing.T) {
	const limited = "Bearer override" // gpt-*
	e := newEnv(t)
	for _, field := range []string{
		`"models":["gpt-test","o3"]`, `"models":["gpt-test"," o3"]`, `"fallbacks":["o3"]`, `"Fallbacks":[{"gpt-test":["o3"]}]`, `"provider":{"order":["x"]}`, `"route":"fallback"`,
		`"api_base":"http://elsewhere"`, `"custom_llm_provider":"x"`, `"model_list":[]`, `"engine":"o3"`, `"MODEL_LIST":[1]`,
	} {
		a := e.chat(ticketFor+`,"model":"gpt-test",`+field+`}`, "Authorization", limited)
		require.Contains(t, []int{400, 403}, a.status, field)
		require.Zero(t, e.upstream.count(), field)
		require.Equal(t, http.StatusOK, e.chat(ticketFor+`,"model":"gpt-test",`+strings.NewReplacer(`" o3"`, `"o3"`).Replace(field)+`}`).status, "%s is for those who may call every model", field)
		e.upstream.mu.Lock()
		e.upstream.bodies = nil
		e.upstream.mu.Unlock()
	}
	for _, model := range []string{" gpt-test", "gpt-test ", "gpt-test\\n", "\\tgpt-test"} {
		require.Equal(t, http.StatusBadRequest, e.chat(`{"model":"`+model+`","messages":[]}`).status, model)
	}
}
