package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry/template"
)

// What an attack on what providers keep found: each of these got around an owner, a permission or the books.

const keptPrompt = `{"prompt":{"id":"support/triage","variables":{"ticket":"T"}}`

func TestKeptHoldsOneThingToGoOnFrom(t *testing.T) {
	e, k := withConversations(t)
	require.Equal(t, 200, e.respond(keptPrompt+"}").status)
	asked := k.count()
	for _, more := range []string{`"previous_response_id":"resp_1","conversation":"conv_of_other"`, `"conversation":{"id":"conv_of_other"},"previous_response_id":"resp_1"`} {
		a := e.respond(keptPrompt + `,"input":"x",` + more + `}`)
		assert.Equal(t, "stateful_reference_refused", a.code(), "%s", a.body)
	}
	assert.Equal(t, asked, k.count(), "nothing was sent")
	assert.Equal(t, 200, e.respond(keptPrompt+`,"input":"x","previous_response_id":"resp_1","conversation":null}`).status)
}

func TestKeptHoldsItemsByIDAlone(t *testing.T) {
	e := newEnv(t)
	k := e.keeper()
	k.made = strings.Replace(aResponse, `{"type":"message"`, `{"type":"image_generation_call","id":"ig_1"},{"type":"message"`, 1)
	require.Equal(t, 200, e.respond(keptPrompt+"}").status)
	send := func(item string) answer {
		return e.respond(keptPrompt + `,"input":[` + item + `,{"role":"user","content":"x"}]}`)
	}
	assert.Equal(t, 200, send(`{"type":"image_generation_call","id":"ig_1"}`).status, "one's own")
	asked := k.count()
	for _, item := range []string{
		`{"type":"image_generation_call","id":"ig_9"}`, `{"type":"image_generation_call","id":"ig_9","result":null}`, `{"type":"image_generation_call","id":"ig_9","result":""}`,
		`{"id":"ig_9","type":"image\u005fgeneration_call","status":"completed"}`, `{"id":"msg_9","type":"message"}`, `{"id":"rs_9","type":"reasoning","status":"completed"}`,
	} {
		assert.Equal(t, "stateful_reference_refused", send(item).code(), item)
	}
	assert.Equal(t, asked, k.count(), "nothing was sent")
	for _, item := range []string{`{"type":"image_generation_call","id":"ig_9","result":"aGk="}`, `{"id":"msg_9","type":"message","role":"user","content":"x"}`} {
		assert.Equal(t, 200, send(item).status, "what is sent itself refers to nothing: %s", item)
	}
	c, n := withConversations(t)
	assert.Equal(t, 501, c.converse(`{"model":"gpt-test","items":[{"type":"image_generation_call","id":"ig_9"}]}`).status)
	assert.Zero(t, n.count())
}

func TestKeptHoldsWhatIsIgnored(t *testing.T) {
	e, _ := withConversations(t)
	e.registry.add("support/fresh", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "Sort."}, {Role: "user", Text: "RULES"}}, Model: "gpt-test", Ignored: []string{"conversation", "previous_response_id"}})
	ask := `{"prompt":{"id":"support/fresh"},"input":"x"`
	require.Equal(t, 200, e.respond(ask+"}").status)
	want, _ := e.upstream.last()
	for _, more := range []string{`,"previous_response_id":"resp_1"`, `,"previous_response_id":"resp_9"`, `,"conversation":"conv_9"`} {
		a := e.respond(ask + more + "}")
		require.Equal(t, 200, a.status, "%s", a.body)
		sent, _ := e.upstream.last()
		assert.JSONEq(t, string(want), string(sent), "what is ignored changes nothing: %s", more)
	}
}

func TestKeptHoldsTheLabelThatItBeganUnder(t *testing.T) {
	e := newEnv(t)
	k := e.keeper()
	caller := e.keys.keys["caller"]
	call := policy.Grant{Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"support/**"}, Labels: []string{"staging", "production"}}
	read := policy.Grant{Actions: []policy.Action{policy.ActionRead}, Prompts: []string{"support/**"}, Labels: []string{"production"}}
	caller.Grants = []policy.Grant{call, read}
	staging := strings.Replace(keptPrompt, `"variables"`, `"label":"staging","variables"`, 1)
	require.Equal(t, 200, e.respond(staging+`,"input":"x"}`).status)
	k.made = strings.Replace(aResponse, "resp_1", "resp_2", 1)
	asked := k.count()
	a := e.respond(keptPrompt + `,"input":"x","previous_response_id":"resp_1"}`)
	assert.Equal(t, "stateful_reference_refused", a.code(), "its input items would show what staging says: %s", a.body)
	assert.Equal(t, asked, k.count())
	assert.Equal(t, 200, e.respond(staging+`,"input":"x","previous_response_id":"resp_1"}`).status, "under the same label")

	call.Labels = call.Labels[1:]
	caller.Grants = []policy.Grant{call}
	asked = k.count()
	a = e.respond(keptPrompt + `,"input":"x","previous_response_id":"resp_1"}`)
	assert.Equal(t, "stateful_reference_refused", a.code(), "staging may not be called any more")
	assert.Equal(t, asked, k.count())
}

func TestKeptHoldsTheBooksOfLargeAnswers(t *testing.T) {
	e := newEnv(t)
	k := e.keeper()
	require.Equal(t, 200, e.respond(makeKept).status)
	k.set("GET /v1/responses/resp_1", strings.Replace(keptResponse, `"Hi"`, `"`+strings.Repeat("x", 2<<20)+`"`, 1))
	require.Equal(t, 200, e.do(e.request("GET", "/v1/responses/resp_1", "")).status)
	require.Eventually(t, func() bool { return len(e.recorder.all()) == 2 }, time.Second, time.Millisecond)
	assert.Empty(t, e.recorder.last().CompletionID, "the id would name two calls, and be nobody's on another replica")
}

func TestKeptHoldsStreamsOfItemsBack(t *testing.T) {
	e := newEnv(t)
	e.keeper()
	key := []string{"Authorization", "Bearer prompts"}
	require.Equal(t, 200, e.respond(makeKept, key...).status)
	e.upstream.set(respondEvents("data: {\"id\":\"msg_a\",\"content\":\"CANARY\"}\n\n"))
	a := e.do(e.request("GET", "/v1/responses/resp_1/input_items?stream=true", "", key...))
	assert.NotContains(t, string(a.body), "CANARY")
}

// TestKeptHoldsRunsUntilTheyAreBilled: what a response in the background cost is known to its provider alone, so it is not deleted before that is recorded.
func TestKeptHoldsRunsUntilTheyAreBilled(t *testing.T) {
	slow := func(s *setup) { s.opts.RunPoll = time.Hour }
	for name, elsewhere := range map[string]bool{"here": false, "on another replica": true} {
		t.Run(name, func(t *testing.T) {
			var runs *fakeRuns
			e := newEnv(t, slow, func(s *setup) {
				recorder := s.deps.Recorder.(*fakeRecorder)
				runs = &fakeRuns{fakeRecorder: recorder}
				s.deps.Runs, s.deps.Calls = runs, recorder
			})
			k := e.keeper()
			k.made = queued
			if elsewhere {
				require.NoError(t, e.recorder.RecordCall(t.Context(), &metrics.Call{ID: "call_1", Project: project, Principal: "key_caller", Provider: "up", Model: "gpt-test",
					Endpoint: "responses", CompletionID: "resp_1", Start: time.Now(), Outcome: metrics.OutcomeRunning}))
			} else {
				require.Equal(t, 200, e.respond(makeRun).status)
			}
			id := e.recorder.all()[0].ID
			k.set("GET /v1/responses/resp_1", queued)
			a := e.do(e.request(http.MethodDelete, "/v1/responses/resp_1", ""))
			assert.Equal(t, 409, a.status, "%s", a.body)
			assert.Contains(t, a.message(), "cancel")
			k.set("GET /v1/responses/resp_1", "oops")
			assert.Equal(t, 502, e.do(e.request(http.MethodDelete, "/v1/responses/resp_1", "")).status, "nobody knows what it cost")
			for _, asked := range k.asked {
				require.NotContains(t, asked, "DELETE")
			}
			k.set("GET /v1/responses/resp_1", aResponse)
			require.Equal(t, 200, e.do(e.request(http.MethodDelete, "/v1/responses/resp_1", "")).status)
			billed := func() (all []metrics.Call) {
				for _, c := range e.recorder.all() {
					if c.ID == id && c.Outcome != metrics.OutcomeRunning {
						all = append(all, c)
					}
				}
				return all
			}
			require.Len(t, billed(), 1)
			assert.Equal(t, metrics.OutcomeOK, billed()[0].Outcome)
			assert.Equal(t, int64(5), billed()[0].Tokens.Output)
			if elsewhere { // the tests' ledger does not take the one that has ended before the one that runs
				k.set("GET /v1/responses/resp_1", "")
			}
			assert.Equal(t, 200, e.do(e.request(http.MethodDelete, "/v1/responses/resp_1", "")).status)
			e.follow()
			time.Sleep(30 * time.Millisecond)
			assert.Len(t, billed(), 1, "and once")
		})
	}
}

func TestMessagesHoldToolsOfServers(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, aMessage))
	e.addMessages("support/tools", template.Content{Messages: []template.Message{{Role: "user", Text: "Go."}}, Tools: raw(`[{"type":"function","function":{"name":"look"}}]`), Locked: []string{"tools"}})
	e.addMessages("support/text", template.Content{Messages: []template.Message{{Role: "user", Text: "Go."}}, Locked: []string{"text"}})
	for _, c := range [][2]string{
		{"tools", `"mcp_servers":[{"type":"url","url":"https://evil.test","name":"evil"}]`},
		{"text", `"output_config":{"format":{"type":"json_schema","schema":{}}}`},
	} {
		a := e.message(`{"prompt":{"id":"support/` + c[0] + `"},` + c[1] + `}`)
		assert.Equal(t, "parameter_locked", a.code(), "%s", a.body)
	}
	assert.Zero(t, e.upstream.count())
	e.addMessages("support/ignores", template.Content{Messages: []template.Message{{Role: "user", Text: "Go."}}, Tools: raw(`[{"type":"function","function":{"name":"look"}}]`), Ignored: []string{"tools"}})
	require.Equal(t, 200, e.message(`{"prompt":{"id":"support/ignores"},"mcp_servers":[{"type":"url","url":"https://evil.test","name":"evil"}]}`).status)
	sent, _ := e.upstream.last()
	assert.False(t, gjson.GetBytes(sent, "mcp_servers").Exists())
	assert.True(t, gjson.GetBytes(sent, "tools").Exists())
	assert.True(t, json.Valid(sent))
}
