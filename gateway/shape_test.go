package gateway_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/openai"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

// toy is a shape unlike chat: system text stands in a field of its own, messages in another, events are typed, and usage is spread over them.
type toy struct{}

var _ wire.API = toy{}

func (toy) Name() string                                       { return "toy" }
func (toy) Endpoint() string                                   { return "toy" }
func (toy) OutputLimit(*wire.Body, []wire.Edit) (int64, int64) { return 0, 1 }
func (toy) EndUser(b *wire.Body) string                        { return b.Text("for") }
func (toy) LastUserText(*wire.Body) (json.RawMessage, bool)    { return nil, false }
func (toy) UsageEdit(*wire.Body) (e wire.Edit, needed bool)    { return e, false }
func (toy) AppendRefusal(dst, _ []byte, _ int) []byte          { return append(dst, `{"wrong":"refused"}`...) }
func (toy) Continues(*wire.Body, []wire.Edit) (string, string) { return "", "" }
func (toy) Keeps() bool                                        { return false }
func (toy) Unserved(*wire.Body) string                         { return "" }
func (toy) References(*wire.Body) []string                     { return nil }
func (toy) Stores() bool                                       { return false }
func (toy) RunsOn(*wire.Body, []wire.Edit) bool                { return false }
func (toy) Finishes(string) bool                               { return true }
func (toy) Free() bool                                         { return false }
func (toy) Onward(http.Header, []wire.Edit) http.Header        { return nil }
func (toy) RequestID() string                                  { return "Toy-Id" }
func (toy) AppendErrorEvent(dst []byte, err error, id string) []byte {
	return append(toy{}.AppendError(append(dst, "event: wrong\ndata: "...), err, id), "\n\n"...)
}
func (toy) Field(_ int, parent, name []byte) wire.Field {
	return map[string]wire.Field{"begin/usage": wire.FieldUsage, "/says": wire.FieldContent}[string(parent)+"/"+string(name)]
}
func (toy) AppendError(dst []byte, err error, _ string) []byte {
	code, message, _ := wire.Told(err)
	return append(dst, `{"wrong":"`+string(code)+`","why":`+quote(message)+`}`...)
}

func (toy) Compose(b *wire.Body, p wire.Prompt, dst []byte, edits []wire.Edit) (wire.Composed, error) {
	all, err := p.Values.Render()
	c := wire.Composed{Merged: wire.Merged{Edits: edits, Model: p.Version.Content().Model}, Rendered: dst}
	own, _ := b.Get("turns")
	turns, system := []string{}, ""
	for _, m := range all {
		if m.Message.Role == "system" {
			system += string(m.Parts[0].Text)
		} else {
			turns = append(turns, `{"who":"`+m.Message.Role+`","says":"`+string(m.Parts[0].Text)+`"}`)
		}
	}
	if inner := strings.Trim(string(own), "[]"); inner != "" {
		turns = append(turns, inner)
	}
	c.Rendered = append(c.Rendered, "["+strings.Join(turns, ",")+"]"...)
	c.Messages = c.Rendered[len(dst):]
	c.Edits = append(c.Edits, wire.Edit{Name: "turns", Value: c.Messages}, wire.Edit{Name: "system", Value: []byte(`"` + system + `"`)})
	return c, err
}

func (toy) ReadAnswer(body []byte) (c wire.Completion, whole bool) {
	var said struct {
		ID, Says     string
		Wrong, Usage json.RawMessage
	}
	whole = json.Unmarshal(body, &said) == nil
	c.ID, c.Error, c.Bytes = said.ID, said.Wrong, len(said.Says)
	c.Answers = min(c.Bytes, 1)
	c.Usage, c.Cost, _ = wire.Usage(said.Usage)
	return c, whole
}

func (toy) ReadEvent(r *wire.StreamResult, ev wire.Event) bool {
	said, _ := toy{}.ReadAnswer(ev.Data)
	switch string(ev.Name) {
	case "begin":
		r.ID, r.Usage = said.ID, said.Usage
	case "word":
		r.Events++
		r.Started = true
	case "wrong":
		r.SetError(ev.Data)
	case "end":
		r.Done = true
		r.Usage.Output = said.Usage.Output
	}
	return false
}

func quote(s string) string { b, _ := json.Marshal(s); return string(b) }

const (
	toyBegin = "event: begin\ndata: {\"id\":\"toy-1\",\"usage\":{\"input_tokens\":7,\"output_tokens\":0}}\n\n"
	toyWord  = "event: word\ndata: {\"says\":\"Hi\"}\n\n"
	toyEnd   = "event: end\ndata: {\"usage\":{\"output_tokens\":3}}\n\n"
	toyCall  = `{"prompt":{"id":"support/triage","variables":{"ticket":"a \"lost\" card"}},"for":"ann","turns":[{"who":"user","says":"now"}]`
)

// withToy is a gateway that serves the toy shape at /v1/toy.
func withToy(t *testing.T, change ...func(*setup)) *env {
	e := newEnv(t, change...)
	engine := e.gw.Engine()
	engine.POST("/v1/toy", e.gw.Calls(toy{}))
	e.server = httptest.NewServer(engine)
	t.Cleanup(e.server.Close)
	return e
}

// TestAnotherShape drives a second shape through the pipeline: nothing in it may know chat completions.
func TestAnotherShape(t *testing.T) {
	ask := func(e *env, more string) answer { return e.post("/v1/toy", toyCall+more+"}") }

	t.Run("answer", func(t *testing.T) {
		e := withToy(t)
		e.upstream.set(respondJSON(200, `{"id":"toy-1","says":"Hi","usage":{"input_tokens":7,"output_tokens":3}}`))
		got := ask(e, "")
		require.Equal(t, 200, got.status, string(got.body))
		assert.Equal(t, `{"id":"toy-1","says":"Hi","usage":{"input_tokens":7,"output_tokens":3}}`, string(got.body))
		sent, _ := e.upstream.last()
		assert.JSONEq(t, `{"model":"gpt-test","system":"Sort tickets.","for":"ann",
			"turns":[{"who":"user","says":"Ticket: a \"lost\" card"},{"who":"user","says":"now"}]}`, string(sent))
		rec := e.only()
		assert.Equal(t, "toy", rec.Endpoint)
		assert.Equal(t, "toy-1", rec.CompletionID)
		assert.Equal(t, metrics.Tokens{Input: 7, Output: 3, Reported: true}, rec.Tokens)
		assert.Equal(t, "hash:"+project+":ann", rec.EndUser)
	})
	t.Run("stream", func(t *testing.T) {
		e := withToy(t)
		e.upstream.set(respondEvents(toyBegin, toyWord, toyEnd))
		got := ask(e, `,"stream":true`)
		assert.Equal(t, toyBegin+toyWord+toyEnd, string(got.body))
		rec := e.only()
		assert.Equal(t, metrics.Tokens{Input: 7, Output: 3, Reported: true}, rec.Tokens)
		assert.Equal(t, metrics.OutcomeOK, rec.Outcome)
		assert.Positive(t, rec.FirstToken)
	})
	t.Run("cut stream", func(t *testing.T) {
		e := withToy(t)
		e.upstream.set(respondEvents(toyBegin, toyWord))
		got := ask(e, `,"stream":true`)
		rest, ok := bytes.CutPrefix(got.body, []byte(toyBegin+toyWord+"event: wrong\ndata: {\"wrong\":\"provider_truncated\""))
		assert.True(t, ok, string(got.body))
		assert.True(t, bytes.HasSuffix(rest, []byte("}\n\n")))
		assert.Equal(t, metrics.OutcomeTruncated, e.only().Outcome)
	})
	t.Run("stream that fails at once", func(t *testing.T) {
		e := withToy(t)
		e.upstream.set(respondEvents("event: wrong\ndata: {\"wrong\":\"busy\"}\n\n"))
		got := ask(e, `,"stream":true`)
		assert.Equal(t, 502, got.status)
		assert.Contains(t, string(got.body), `{"wrong":"provider_error"`)
	})
	t.Run("error in an answer", func(t *testing.T) {
		e := withToy(t)
		e.upstream.set(respondJSON(200, `{"wrong":{"why":"busy"}}`))
		got := ask(e, "")
		assert.Equal(t, 502, got.status)
		assert.Equal(t, string(fault.ProviderError), e.only().ErrorCode)
		assert.Contains(t, string(got.body), `{"wrong":"provider_error"`)
	})
	t.Run("our own refusal", func(t *testing.T) {
		e := withToy(t)
		got := e.post("/v1/toy", `{"prompt":{"id":"support/triage"}}`)
		assert.Equal(t, http.StatusBadRequest, got.status)
		assert.Contains(t, string(got.body), `{"wrong":"missing_variable"`)
		got = e.post("/v1/toy", `{"prompt":{"id":"support/triage"}}`, "Authorization", "Bearer wrong")
		assert.Equal(t, http.StatusUnauthorized, got.status)
		assert.Contains(t, string(got.body), `{"wrong":"invalid_api_key"`)
	})
	t.Run("refusal of the provider, for who may not read", func(t *testing.T) {
		e := withToy(t)
		e.upstream.set(respondJSON(400, `{"wrong":"Sort tickets."}`))
		got := e.post("/v1/toy", toyCall+"}", "Authorization", "Bearer prompts")
		assert.Equal(t, 400, got.status)
		assert.Equal(t, `{"wrong":"refused"}`, string(got.body))
	})
}

// TestTargetsSpeakTheShape: a target that does not speak the caller's shape is passed over, and when none does the call is refused by name; such a
// target is never asked.
func TestTargetsSpeakTheShape(t *testing.T) {
	e := withToy(t)
	mute := newUpstream(t)
	t.Cleanup(mute.Close)
	o := upAt(mute.URL, "mute", "sk-mute")
	o.APIs = []string{"chat"}
	p, err := openai.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	speaks := e.router.targets["gpt-test"][0]
	e.upstream.set(respondJSON(200, `{"id":"toy-1","says":"Hi","usage":{"input_tokens":7,"output_tokens":3}}`))

	both := []provider.Target{{Provider: p, Model: "gpt-test"}, speaks}
	e.router.targets["gpt-test"] = both
	got := e.post("/v1/toy", toyCall+"}")
	require.Equal(t, 200, got.status, string(got.body))
	assert.Equal(t, "up", got.header.Get("X-Promptgate-Provider"))
	assert.Equal(t, "mute", both[0].Provider.Name(), "the router's list is everybody's")

	e.router.targets["gpt-test"] = both[:1]
	got = e.post("/v1/toy", toyCall+"}")
	assert.Equal(t, http.StatusNotImplemented, got.status)
	assert.Contains(t, string(got.body), `{"wrong":"not_implemented"`)
	assert.Contains(t, string(got.body), `\"mute\"`)
	assert.Equal(t, string(fault.NotImplemented), e.recorder.last().ErrorCode)
	assert.Zero(t, mute.count())
}
