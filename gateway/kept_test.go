package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
)

// keeper is an upstream that keeps responses as OpenAI does: what it is asked for it answers with bytes that a test knows.
type keeper struct {
	mu     sync.Mutex
	asked  []string // method, path and query
	bodies []string
	answer map[string]string // by "METHOD path"; "" is 404
	made   string            // the answer to POST /v1/responses
}

const (
	keptResponse = `{"id":"resp_1","object":"response","status":"completed","instructions":"CANARY","input":[{"role":"user","content":"CANARY"}],"tools":[{"name":"CANARY"}],"text":{"format":{"schema":"CANARY"}},"tool_choice":{"name":"CANARY"},` +
		`"output":[{"id":"msg_1","type":"message","content":[{"type":"output_text","text":"Hi"}]}],` + responseUsage + `}`
	keptItems = `{"object":"list","data":[{"id":"msg_a","type":"message","role":"user","status":"completed","content":[{"type":"input_text","text":"CANARY"}]},` +
		`{"id":"fc_1","type":"function_call","name":"CANARY","arguments":"{\"CANARY\":1}","call_id":"c"},` +
		`{"id":"rs_1","type":"reasoning","summary":[{"text":"CANARY"}],"x_new":{"CANARY":["CANARY"]}}],"first_id":"msg_a","last_id":"fc_1","has_more":false}`
	deleted = `{"id":"resp_1","object":"response","deleted":true}`
)

func (e *env) keeper() *keeper {
	k := &keeper{made: aResponse, answer: map[string]string{
		"GET /v1/responses/resp_1":             keptResponse,
		"DELETE /v1/responses/resp_1":          deleted,
		"POST /v1/responses/resp_1/cancel":     strings.Replace(keptResponse, `"completed"`, `"cancelled"`, 1),
		"GET /v1/responses/resp_1/input_items": keptItems,
	}}
	e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		k.asked = append(k.asked, r.Method+" "+r.URL.RequestURI())
		answer := k.answer[r.Method+" "+r.URL.Path]
		if r.Method == http.MethodPost && r.URL.Path == "/v1/responses" {
			answer = k.made
		}
		k.mu.Unlock()
		switch {
		case answer == "":
			respondJSON(404, `{"error":{"message":"No response CANARY.","type":"invalid_request_error","param":null,"code":"response_not_found"}}`)(w, r)
		case r.URL.Query().Get("stream") == "true":
			respondEvents(responseStream()...)(w, r)
		default:
			respondJSON(200, answer)(w, r)
		}
	})
	return k
}

func (k *keeper) last() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.asked) == 0 {
		return ""
	}
	return k.asked[len(k.asked)-1]
}

func (k *keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.asked)
}

const makeKept = `{"prompt":{"id":"support/triage","variables":{"ticket":"T"}}}`

// TestKeptResponses: what a caller made it gets, cancels and deletes, byte for byte, and is billed once.
func TestKeptResponses(t *testing.T) {
	e := newEnv(t)
	k := e.keeper()
	require.Equal(t, 200, e.respond(makeKept).status)
	for i, c := range []struct{ method, path, sent, want string }{
		{"GET", "/v1/responses/resp_1", "GET /v1/responses/resp_1", keptResponse},
		{"GET", "/openai/v1/responses/resp_1?include[]=a&include[]=b", "GET /v1/responses/resp_1?include%5B%5D=a&include%5B%5D=b", keptResponse},
		{"GET", "/v1/responses/resp_1/input_items?limit=2&after=msg_a", "GET /v1/responses/resp_1/input_items?after=msg_a&limit=2", keptItems},
		{"POST", "/v1/responses/resp_1/cancel", "POST /v1/responses/resp_1/cancel", strings.Replace(keptResponse, `"completed"`, `"cancelled"`, 1)},
		{"GET", "/v1/responses/resp_1?stream=true&starting_after=3", "GET /v1/responses/resp_1?starting_after=3&stream=true", strings.Join(responseStream(), "")},
		{"DELETE", "/v1/responses/resp_1", "DELETE /v1/responses/resp_1", deleted},
	} {
		a := e.do(e.request(c.method, c.path, ""))
		require.Equal(t, 200, a.status, "%s %s: %s", c.method, c.path, a.body)
		assert.Equal(t, c.want, string(a.body), c.path)
		assert.Equal(t, c.sent, k.last())
		calls := e.recorder.all()
		require.Len(t, calls, i+2)
		rec := calls[i+1]
		assert.Equal(t, metrics.OutcomeOK, rec.Outcome)
		assert.Empty(t, rec.PromptID, "it counts for no prompt")
		assert.Empty(t, rec.CompletionID, "feedback on the id means the call that made it")
		assert.Equal(t, metrics.Tokens{}, rec.Tokens, "paid for when it was made")
		assert.Zero(t, *rec.CostMicros)
		assert.Contains(t, rec.Endpoint, "responses/{id}")
		assert.NotContains(t, rec.Endpoint, "resp_1")
		assert.Equal(t, a.header.Get("x-promptgate-call-id"), rec.ID)
	}
	k.answer["GET /v1/responses/resp_1"] = ""
	a := e.do(e.request("GET", "/v1/responses/resp_1", ""))
	assert.Equal(t, 404, a.status)
	assert.Equal(t, "response_not_found", a.code(), "the provider's own words")
	failed := strings.Replace(keptResponse, `"completed"`, `"failed","error":{"code":"x","message":"m"}`, 1)
	k.answer["GET /v1/responses/resp_1"] = failed
	a = e.do(e.request("GET", "/v1/responses/resp_1", ""))
	assert.Equal(t, 200, a.status, "a response that failed is an answer to who asks for it")
	assert.Equal(t, failed, string(a.body))

	told := event("response.created", `,"response":`+aResponse) + event("response.failed", `,"response":`+failed)
	e.upstream.set(respondEvents(told))
	a = e.do(e.request("GET", "/v1/responses/resp_1?stream=true", ""))
	assert.Equal(t, told, string(a.body), "and so is its stream, with nothing added")
	assert.Equal(t, metrics.OutcomeOK, e.recorder.last().Outcome)
}

// TestKeptIsTheCallers: what another made, or a prompt that one may not run any more, is not there; nothing is sent.
func TestKeptIsTheCallers(t *testing.T) {
	e := newEnv(t)
	k := e.keeper()
	require.Equal(t, 200, e.respond(makeKept).status)
	sent := k.count()
	routes := [][2]string{{"GET", "/v1/responses/%s"}, {"DELETE", "/v1/responses/%s"}, {"POST", "/v1/responses/%s/cancel"}, {"GET", "/v1/responses/%s/input_items"}}
	var none string
	for name, c := range map[string]struct{ id, key string }{
		"unknown": {"resp_77", "caller"}, "another key's": {"resp_1", "override"}, "another project's": {"resp_1", "foreign"},
		"dots": {"..", "caller"}, "a slash": {"resp_1%2f..%2f..%2ffiles", "caller"}, "by case": {"RESP_1", "caller"}, "of another kind": {"chatcmpl-1", "caller"},
	} {
		for _, r := range routes {
			a := e.do(e.request(r[0], fmt.Sprintf(r[1], c.id), "", "Authorization", "Bearer "+c.key))
			assert.Equal(t, sent, k.count(), "%s: something was sent", name)
			if strings.Contains(c.id, "%") { // it is no such address at all
				assert.Contains(t, []int{404, 501}, a.status)
				continue
			}
			assert.Equal(t, 404, a.status, "%s %v: %s", name, r, a.body)
			if none == "" {
				none = string(a.body)
			}
			assert.Equal(t, none, string(a.body), "%s: what is another's looks like what is not there", name)
		}
	}
	assert.Equal(t, 401, e.do(e.request("GET", "/v1/responses/resp_1", "", "Authorization", "Bearer wrong")).status)
	assert.Equal(t, 403, e.do(e.request("GET", "/v1/responses/resp_1", "", "Authorization", "Bearer fenced")).status)
	assert.Equal(t, 400, e.do(e.request("GET", "/v1/responses/resp_1?a=%zz", "")).status)
	assert.Equal(t, 400, e.do(e.request("GET", "/v1/responses/resp_1?a="+strings.Repeat("x", 5000), "")).status)
	assert.Equal(t, 405, e.do(e.request("PUT", "/v1/responses/resp_1", "")).status)
	assert.Equal(t, sent, k.count())

	caller := e.keys.keys["caller"]
	grants := caller.Grants
	caller.Grants = []policy.Grant{{Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"other/**"}, Labels: []string{"production"}, Models: []string{"*"}}}
	a := e.do(e.request("GET", "/v1/responses/resp_1", ""))
	assert.Equal(t, 404, a.status, "the permission to run the prompt is gone")
	assert.Equal(t, none, string(a.body))
	caller.Grants = []policy.Grant{{Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"support/**"}, Labels: []string{"staging"}}}
	assert.Equal(t, 404, e.do(e.request("GET", "/v1/responses/resp_1", "")).status, "under that label")
	caller.Grants = grants
	assert.Equal(t, 200, e.do(e.request("GET", "/v1/responses/resp_1", "")).status)
	// A version called by its number needs that permission again.
	k.made = strings.Replace(aResponse, "resp_1", "resp_2", 1)
	k.answer["GET /v1/responses/resp_2"] = strings.Replace(keptResponse, "resp_1", "resp_2", 1)
	require.Equal(t, 200, e.respond(strings.Replace(makeKept, `"variables"`, `"version":1,"variables"`, 1)).status)
	require.Equal(t, 200, e.do(e.request("GET", "/v1/responses/resp_2", "")).status)
	caller.Grants = []policy.Grant{{Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"support/**"}, Labels: []string{"production"}}}
	assert.Equal(t, 404, e.do(e.request("GET", "/v1/responses/resp_2", "")).status)
	assert.Equal(t, 200, e.do(e.request("GET", "/v1/responses/resp_1", "")).status)
	caller.Grants = grants

	// Where slashes can be part of a parameter, as beside the management API, an id with some leads nowhere.
	require.NoError(t, e.recorder.RecordCall(t.Context(), &metrics.Call{Project: project, Principal: caller.ID, Provider: "up", CompletionID: "../files"}))
	engine := e.gw.Engine()
	engine.UseRawPath = true
	e.gw.Routes(engine)
	sent = k.count()
	for _, path := range []string{"/v1/responses/..%2ffiles", "/v1/conversations/resp_1/items/..%2f..%2ffiles"} {
		w := httptest.NewRecorder()
		engine.ServeHTTP(w, e.request("GET", path, ""))
		assert.Equal(t, 404, w.Code, path)
		assert.Equal(t, sent, k.count(), path)
	}

	delete(e.router.targets, "gpt-test")
	delete(e.router.targets, "alias")
	a = e.do(e.request("GET", "/v1/responses/resp_1", ""))
	assert.Equal(t, 404, a.status)
	assert.Contains(t, a.message(), "up", "it says which provider is gone")
}

// TestKeptHidesThePrompt: who may run a prompt and not read it sees its text in nothing that a provider keeps.
func TestKeptHidesThePrompt(t *testing.T) {
	e := newEnv(t)
	k := e.keeper()
	key := []string{"Authorization", "Bearer prompts"}
	require.Equal(t, 200, e.respond(makeKept, key...).status)
	for _, path := range []string{"/v1/responses/resp_1", "/v1/responses/resp_1?stream=true", "/v1/responses/resp_1/input_items"} {
		a := e.do(e.request("GET", path, "", key...))
		require.Equal(t, 200, a.status, "%s", a.body)
		assert.NotContains(t, string(a.body), "CANARY", path)
		assert.Contains(t, string(a.body), "[managed prompt]", path)
		if !strings.Contains(path, "stream") {
			require.True(t, gjson.ValidBytes(a.body), "%s", a.body)
		}
	}
	a := e.do(e.request("GET", "/v1/responses/resp_1", "", key...))
	assert.Equal(t, "Hi", gjson.GetBytes(a.body, "output.0.content.0.text").String(), "what the model said passes")
	a = e.do(e.request("GET", "/v1/responses/resp_1/input_items", "", key...))
	assert.JSONEq(t, `{"object":"list","data":[{"id":"msg_a","type":"message","role":"user","status":"completed","content":[{"type":"input_text","text":"[managed prompt]"}]},
		{"id":"fc_1","type":"function_call","name":"[managed prompt]","arguments":"[managed prompt]","call_id":"[managed prompt]"},
		{"id":"rs_1","type":"reasoning","summary":[{"type":"input_text","text":"[managed prompt]"}],"x_new":"[managed prompt]"}],"first_id":"msg_a","last_id":"fc_1","has_more":false}`, string(a.body))
	k.answer = map[string]string{}
	a = e.do(e.request("GET", "/v1/responses/resp_1", "", key...))
	assert.Equal(t, 404, a.status)
	assert.NotContains(t, string(a.body), "CANARY", "a refusal")
}

// TestItemReferences: a caller may refer to what it was answered with, by the same prompt, and to nothing else.
func TestItemReferences(t *testing.T) {
	e := newEnv(t)
	k := e.keeper()
	const first = `{"prompt":{"id":"support/triage","variables":{"ticket":"T"}}`
	k.made = strings.Replace(aResponse, `{"type":"message"`, `{"type":"reasoning","id":"rs_1"},{"id":"msg_1","type":"message"`, 1)
	require.Equal(t, 200, e.respond(first+"}").status)
	refer := func(id string) string {
		return `,"input":[{"type":"item_reference","id":"` + id + `"},{"role":"user","content":"go on"}]}`
	}
	for _, id := range []string{"rs_1", "msg_1"} {
		a := e.respond(first + refer(id))
		require.Equal(t, 200, a.status, "%s", a.body)
		sent, _ := e.upstream.last()
		assert.Contains(t, string(sent), `{"type":"item_reference","id":"`+id+`"}`)
	}
	require.Equal(t, 200, e.respond(first+`,"input":[{"id":"msg_1"},{"role":"user","content":"x"}]}`).status)
	asked := k.count()
	for name, a := range map[string]answer{
		"unknown":        e.respond(first + refer("msg_9")),
		"without a type": e.respond(first + `,"input":[{"id":"msg_9"},{"role":"user","content":"x"}]}`),
		"a type of null": e.respond(first + `,"input":[{"type":null,"id":"msg_9"}]}`),
		"no id":          e.respond(first + `,"input":[{"type":"item_reference"}]}`),
		"no text":        e.respond(first + `,"input":[{"type":"item_reference","id":7}]}`),
		"escaped":        e.respond(first + `,"input":[{"\u0074ype":"item\u005freference","id":"msg_9"}]}`),
		"another's":      e.respond(first+refer("msg_1"), "Authorization", "Bearer override"),
		"no prompt":      e.respond(`{"model":"gpt-test"` + refer("msg_1")),
		"another prompt": e.respond(`{"prompt":{"id":"support/reply"},"model":"gpt-test"` + refer("msg_1")),
		"one of several": e.respond(first + `,"input":[{"type":"item_reference","id":"msg_1"},{"type":"item_reference","id":"msg_9"}]}`),
	} {
		assert.Equal(t, "stateful_reference_refused", a.code(), "%s: %s", name, a.body)
	}
	assert.Equal(t, asked, k.count())

	e.upstream.set(respondEvents(append([]string{event("response.created", `,"response":`+strings.Replace(aResponse, "resp_1", "resp_s", 1)),
		event("response.output_item.added", `,"item":{"id":"msg_s","type":"message"}`)}, responseStream()[3:]...)...))
	require.Equal(t, 200, e.respond(first+`,"stream":true}`).status)
	assert.Equal(t, 200, e.respond(first+`,"stream":true`+refer("msg_s")).status, "of a stream")
}
