package gateway_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/metrics"
)

const triage = `{"prompt":{"id":"support/triage","variables":{"ticket":"Card charged twice"}}}`

func TestManagedCall(t *testing.T) {
	e := newEnv(t)
	a := e.chat(`{"prompt":{"id":"support/triage","label":"production","variables":{"ticket":"Card \"charged\" <twice> & {{more}}"}},"user":"u1","seed":0,"messages":[{"role":"user","content":"and {{this}}"}]}`)
	require.Equal(t, http.StatusOK, a.status, string(a.body))
	assert.Equal(t, okJSON, string(a.body), "the provider's body is unchanged")

	sent, head := e.upstream.last()
	assert.JSONEq(t, `{"user":"u1","seed":0,"model":"gpt-test","temperature":0.3,"messages":[
		{"role":"system","content":"Sort tickets."},{"role":"user","content":"Ticket: Card \"charged\" <twice> & {{more}}"},
		{"role":"user","content":"and {{this}}"}]}`, string(sent))
	assert.Equal(t, "Bearer sk-provider", head.Get("Authorization"))

	id := a.header.Get("X-Promptgate-Call-Id")
	assert.True(t, e.ids.Owned(project, "key_caller", id))
	for key, want := range map[string]string{
		"Prompt": "support/triage", "Version": "1", "Label": "production", "Digest": "sha256:d", "Provider": "up", "Model": "gpt-test",
		"Cost-Usd": "0.012000", "Stale": "", "Error-Origin": "",
	} {
		assert.Equal(t, want, a.header.Get("X-Promptgate-"+key), key)
	}
	prj, scored, ok := e.ids.ReadToken(a.header.Get("X-Promptgate-Feedback-Token"))
	assert.True(t, ok)
	assert.Equal(t, []string{project, id}, []string{prj, scored})

	c := e.only()
	assert.Equal(t, id, c.ID)
	assert.Equal(t, metrics.OutcomeOK, c.Outcome)
	assert.Equal(t, metrics.Tokens{Input: 11, Output: 2, Reported: true}, c.Tokens)
	require.NotNil(t, c.CostMicros)
	assert.EqualValues(t, 12000, *c.CostMicros)
	assert.Equal(t, "chatcmpl-1", c.CompletionID)
	assert.Equal(t, "hash:prj_one:u1", c.EndUser)
	assert.Equal(t, "pmpt_supporttriage", c.PromptID)
	assert.Equal(t, 200, c.Status)
	require.Len(t, c.Attempts, 1)
	assert.Equal(t, 200, c.Attempts[0].Status)
	assert.Equal(t, c.Tokens, c.Attempts[0].Tokens)
	assert.Positive(t, c.Total)
	assert.GreaterOrEqual(t, c.Total, c.Overhead)
	assert.EqualValues(t, 1, e.meter.observed.Load())
}

func TestBareCallByteForByte(t *testing.T) {
	e := newEnv(t)
	body := "{ \"model\" : \"gpt-test\",\r\n \"temperature\":0, \"x\\u002fy\":[1.0,1e3,null], \"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9 {{no}}\"}] }\n"
	a := e.chat(body)
	require.Equal(t, http.StatusOK, a.status, string(a.body))
	sent, _ := e.upstream.last()
	assert.Equal(t, body, string(sent))
	assert.Zero(t, e.registry.resolves.Load(), "no prompt code ran")
	assert.Empty(t, a.header.Get("X-Promptgate-Prompt"))

	escaped := `{"model":"gpt\u002dtest","messages":[]}`
	require.Equal(t, http.StatusOK, e.chat(escaped).status)
	sent, _ = e.upstream.last()
	assert.Equal(t, escaped, string(sent), "the same model, spelled otherwise, is left alone")

	a = e.chat(`{"temperature":0,"model":"alias","messages":[]}`)
	require.Equal(t, http.StatusOK, a.status)
	sent, _ = e.upstream.last()
	assert.Equal(t, `{"temperature":0,"model":"gpt-test","messages":[]}`, string(sent), "an alias rewrites model and nothing else")
}

func TestNamingForms(t *testing.T) {
	e := newEnv(t)
	for _, c := range []struct {
		name, path, body string
		header           []string
		version          string
	}{
		{"model", "/v1/chat/completions", `{"model":"prompt/support/triage@staging","prompt_variables":{"ticket":"T"}}`, nil, "2"},
		{"model with version", "/v1/chat/completions", `{"model":"prompt/support/triage@2","prompt_variables":{"ticket":"T"}}`, nil, "2"},
		{"stable id", "/v1/chat/completions", `{"prompt":{"id":"pmpt_supporttriage","version":"2","variables":{"ticket":"T"}}}`, nil, "2"},
		{"headers", "/v1/chat/completions", `{}`, []string{"x-promptgate-prompt", "support/triage", "x-promptgate-label", "staging", "x-promptgate-variables", `{"ticket":"T"}`}, "2"},
		{"path", "/v1/prompts/support/triage@staging/completions", `{"variables":{"ticket":"T"}}`, nil, "2"},
		{"encoded path", "/v1/prompts/support%2Ftriage%402/completions", `{"variables":{"ticket":"T"}}`, nil, "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := e.post(c.path, c.body, c.header...)
			require.Equal(t, http.StatusOK, a.status, string(a.body))
			assert.Equal(t, c.version, a.header.Get("X-Promptgate-Version"))
			sent, head := e.upstream.last()
			assert.JSONEq(t, `{"model":"gpt-test","messages":[{"role":"system","content":"Version two: Tcalm"}]}`, string(sent))
			for k := range head {
				assert.NotContains(t, k, "X-Promptgate", "our headers stay here")
			}
		})
	}
}

func TestOverridesAndVariablesOfOtherVersions(t *testing.T) {
	e := newEnv(t)
	a := e.chat(`{"model":"alias","prompt":{"id":"support/triage","variables":{"ticket":"T","mood":"only version 2 declares it"}},"temperature":0.3,"max_tokens":0}`)
	require.Equal(t, http.StatusOK, a.status, string(a.body))
	sent, _ := e.upstream.last()
	assert.Equal(t, "gpt-test", gjson.GetBytes(sent, "model").String())
	assert.Equal(t, "0", gjson.GetBytes(sent, "max_tokens").Raw)
	assert.Equal(t, "0.3", gjson.GetBytes(sent, "temperature").Raw)
}

func TestStale(t *testing.T) {
	e := newEnv(t)
	e.registry.stale = 61_200_000_000
	assert.Equal(t, "62", e.chat(triage).header.Get("X-Promptgate-Stale"))
}
