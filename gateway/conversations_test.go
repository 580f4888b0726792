package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/openai"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/registry/template"
)

const aConversation = `{"id":"conv_1","object":"conversation","created_at":1,"metadata":{}}`

// withConversations is a gateway before an upstream that keeps conversations.
func withConversations(t *testing.T) (*env, *keeper) {
	e := newEnv(t)
	k := e.keeper()
	k.answer["POST /v1/conversations"] = aConversation
	k.answer["GET /v1/conversations/conv_1"] = aConversation
	k.answer["POST /v1/conversations/conv_1"] = aConversation
	k.answer["GET /v1/conversations/conv_1/items"] = keptItems
	k.answer["POST /v1/conversations/conv_1/items"] = keptItems
	k.answer["GET /v1/conversations/conv_1/items/msg_a"] = `{"id":"msg_a"}`
	k.answer["DELETE /v1/conversations/conv_1/items/msg_a"] = aConversation
	k.answer["DELETE /v1/conversations/conv_1"] = `{"id":"conv_1","deleted":true}`
	return e, k
}

func (e *env) converse(body string, header ...string) answer {
	e.t.Helper()
	return e.post("/v1/conversations", body, header...)
}

// TestConversations: one is made at the provider that serves the model or the prompt that is named, is its maker's, and responses go on in it.
func TestConversations(t *testing.T) {
	e, k := withConversations(t)
	const items = `"items":[{"type":"message","role":"user","content":"Hello"}],"metadata":{"a":"b"}`
	for name, c := range map[string]struct{ body, sent string }{
		"a model":       {`{"model":"alias",` + items + `}`, "{" + items + "}"},
		"a prompt":      {`{"prompt":{"id":"support/triage"},` + items + `}`, "{" + items + "}"},
		"a prompt name": {`{` + items + `,"model":"prompt/support/triage@production"}`, "{" + items + "}"},
		"nothing":       {`{` + items + `}`, "{" + items + "}"},
	} {
		a := e.converse(c.body)
		require.Equal(t, 200, a.status, "%s: %s", name, a.body)
		assert.Equal(t, aConversation, string(a.body))
		sent, _ := e.upstream.last()
		assert.Equal(t, c.sent, string(sent), name)
		rec := e.recorder.last()
		assert.Equal(t, "conversations", rec.Endpoint)
		assert.Equal(t, "conv_1", rec.CompletionID)
		assert.Equal(t, metrics.Tokens{}, rec.Tokens, "it costs nothing")
		assert.Zero(t, *rec.CostMicros)
	}
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/v1/conversations/conv_1", ""}, {"POST", "/v1/conversations/conv_1", `{"metadata":{"k":"v"}}`},
		{"GET", "/v1/conversations/conv_1/items?limit=2", ""}, {"POST", "/v1/conversations/conv_1/items", `{"items":[{"role":"user","content":"x"}]}`},
		{"GET", "/openai/v1/conversations/conv_1/items/msg_a", ""}, {"DELETE", "/v1/conversations/conv_1/items/msg_a", ""},
	} {
		a := e.do(e.request(c.method, c.path, c.body))
		require.Equal(t, 200, a.status, "%s %s: %s", c.method, c.path, a.body)
		sent, _ := e.upstream.last()
		assert.Equal(t, c.body, string(sent), c.path)
		asked := k.count()
		a = e.do(e.request(c.method, c.path, c.body, "Authorization", "Bearer override"))
		assert.Equal(t, 404, a.status, "another key's: %s", a.body)
		assert.Equal(t, asked, k.count())
	}
	asked := k.count()
	assert.Equal(t, 501, e.post("/v1/conversations/conv_1/items", `{"items":[{"type":"item_reference","id":"msg_x"}]}`).status)
	assert.Equal(t, 501, e.converse(`{"model":"gpt-test","items":[{"type":"item_reference","id":"msg_x"}]}`).status)
	assert.Equal(t, 400, e.post("/v1/conversations/conv_1/items", `{"items":`).status)
	assert.Equal(t, 400, e.converse(`{"model":5}`).status)
	assert.Equal(t, asked, k.count())
}

// TestConversationPermissions: who may call but a prompt names it, and nobody uses another's conversation.
func TestConversationPermissions(t *testing.T) {
	e, k := withConversations(t)
	key := []string{"Authorization", "Bearer prompts"} // may call support/* at production, and no model
	for body, status := range map[string]int{`{}`: 403, `{"model":"gpt-test"}`: 403, `{"prompt":{"id":"support/triage","label":"staging"}}`: 403, `{"prompt":{"id":"nope"}}`: 404} {
		a := e.converse(body, key...)
		assert.Equal(t, status, a.status, "%s: %s", body, a.body)
		assert.Zero(t, k.count(), body)
	}
	require.Equal(t, 200, e.converse(`{"prompt":{"id":"support/triage"}}`, key...).status)
	use := func(more string, header ...string) answer {
		return e.respond(`{"prompt":{"id":"support/triage","variables":{"ticket":"T"}},"input":"x"`+more+`}`, header...)
	}
	a := use(`,"conversation":{"id":"conv_1"}`, key...)
	require.Equal(t, 200, a.status, "%s", a.body)
	sent, _ := e.upstream.last()
	assert.Equal(t, `{"id":"conv_1"}`, gjson.GetBytes(sent, "conversation").Raw)
	assert.NotContains(t, string(sent), "Ticket: T", "a version's messages stay out of a conversation")
	assert.Equal(t, "Sort tickets.", gjson.GetBytes(sent, "instructions").String())
	assert.Equal(t, 200, use(`,"conversation":"conv_1"`, key...).status)
	asked := k.count()
	for name, a := range map[string]answer{
		"another's":          use(`,"conversation":"conv_1"`),
		"unknown":            use(`,"conversation":"conv_2"`, key...),
		"no text":            use(`,"conversation":7`, key...),
		"an odd object":      use(`,"conversation":{"name":"conv_1"}`, key...),
		"for another prompt": e.respond(`{"prompt":{"id":"support/reply"},"model":"gpt-test","input":"x","conversation":"conv_1"}`, key...),
	} {
		assert.Contains(t, []string{"stateful_reference_refused", "permission_denied"}, a.code(), "%s: %s", name, a.body)
	}
	assert.Equal(t, asked, k.count())
	k.answer["POST /v1/conversations"] = strings.Replace(aConversation, "conv_1", "conv_3", 1)
	require.Equal(t, 200, e.converse(`{"prompt":{"id":"support/triage"}}`).status)
	require.Equal(t, 200, use(`,"conversation":"conv_3"`).status)
	for _, other := range []string{`"model":"gpt-test"`, `"prompt":{"id":"support/reply"},"model":"gpt-test"`} {
		a = e.respond(`{` + other + `,"input":"x","conversation":"conv_3"}`)
		assert.Equal(t, "stateful_reference_refused", a.code(), "one that was made for a prompt: %s", a.body)
	}
	a = e.do(e.request(http.MethodGet, "/v1/conversations/conv_1/items", "", key...))
	assert.Equal(t, keptItems, string(a.body), "nothing of a prompt's is in it")
}

// TestConversationsAndPrompts: a conversation that was made for no prompt goes with any, but with one that locks messages, and for those who may not
// read it with one that writes around the last message.
func TestConversationsAndPrompts(t *testing.T) {
	e, k := withConversations(t)
	strictPrompt(e)
	e.registry.add("support/last", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "Sort."}, {Role: "user", Text: "CANARY {{t}}"}}, Model: "gpt-test",
		Variables: map[string]template.Variable{"t": {Schema: raw(`{"type":"string"}`), LastUserMessage: true}},
	})
	require.Equal(t, 200, e.converse(`{}`).status)
	ask := func(prompt string) answer {
		return e.respond(`{"prompt":{"id":"` + prompt + `"},"input":"x","conversation":"conv_1"}`)
	}
	require.Equal(t, 200, ask("support/last").status, "who may read it sees nothing new there")
	asked := k.count()
	assert.Equal(t, "parameter_locked", ask("support/strict").code())
	caller := e.keys.keys["caller"]
	caller.Grants[0].Actions = caller.Grants[0].Actions[:1] // call
	assert.Equal(t, "stateful_reference_refused", ask("support/last").code())
	assert.Equal(t, asked, k.count())
	assert.Equal(t, 200, e.respond(`{"model":"gpt-test","input":"x","conversation":"conv_1"}`).status, "without a prompt")
}

// TestConversationsNeedOneProvider: where nothing says which provider is meant, there has to be one.
func TestConversationsNeedOneProvider(t *testing.T) {
	e, k := withConversations(t)
	o := upAt(e.upstream.URL, "second", "sk-2")
	second, err := openai.New(o)
	require.NoError(t, err)
	e.router.targets["second"] = []provider.Target{{Provider: second, Model: "second"}}
	a := e.converse(`{}`)
	assert.Equal(t, 400, a.status)
	assert.Contains(t, a.message(), "2 providers")
	assert.Zero(t, k.count())
	require.Equal(t, 200, e.converse(`{"model":"second"}`).status)
	assert.Equal(t, "second", e.recorder.last().Provider)
	a = e.respond(`{"model":"gpt-test","input":"x","conversation":"conv_1"}`)
	assert.Equal(t, "stateful_reference_refused", a.code(), "the provider that keeps it does not serve that model")
	require.Equal(t, 200, e.respond(`{"model":"second","input":"x","conversation":"conv_1"}`).status)
}
