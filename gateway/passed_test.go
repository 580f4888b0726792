package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/openai"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
)

// passing is one endpoint that runs no prompt: a request, an answer of the provider's, and what the ledger gets of it.
type passing struct {
	path   string
	fields map[string]string // of a form, in which there is a file as well; nil: the body is JSON
	body   string
	kind   string // of the answer; "" is JSON
	answer string
	tokens metrics.Tokens
	cost   int64 // -1: unknown
}

const (
	vectorsJSON = `{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAPw=="}],"model":"gpt-test","usage":{"prompt_tokens":8,"total_tokens":8}}`
	imagesJSON  = `{"created":1,"data":[{"b64_json":"aGk="}],"usage":{"total_tokens":60,"input_tokens":10,"output_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":0}}}`
	heardJSON   = `{"text":"hi","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":4,"audio_tokens":10},"output_tokens":5,"total_tokens":19}}`
)

func allPassing() []passing {
	return []passing{
		{path: "embeddings", body: `{"model":"gpt-test","input":["a \u00e9"], "dimensions" : 1,"x":1e2}`, answer: vectorsJSON, tokens: metrics.Tokens{Input: 8, Reported: true}, cost: 8000},
		{path: "completions", body: `{"model":"gpt-test","prompt":["Once"], "logprobs": 0}`, answer: `{"id":"cmpl-1","object":"text_completion","choices":[{"index":0,"text":" upon","finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`,
			tokens: metrics.Tokens{Input: 1, Output: 2, Reported: true}, cost: 2000},
		{path: "moderations", body: `{"model":"gpt-test","input":"x"}`, answer: `{"id":"modr-1","model":"omni","results":[{"flagged":false}]}`},
		{path: "images/generations", body: `{"model":"gpt-test","prompt":"A cat","n":1}`, answer: imagesJSON, tokens: metrics.Tokens{Input: 10, Output: 50, Reported: true}, cost: 35000},
		{path: "images/edits", fields: map[string]string{"prompt": "A cat"}, cost: -1, tokens: metrics.Tokens{Input: 40, Output: 50, Reported: true},
			answer: strings.Replace(imagesJSON, `"input_tokens":10,"output_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":0}`,
				`"input_tokens":40,"output_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":30}`, 1)},
		{path: "images/variations", fields: map[string]string{"n": "1"}, answer: `{"created":1,"data":[{"url":"https://x.test/a.png"}]}`, cost: -1},
		{path: "audio/speech", body: `{"model":"gpt-test","input":"Hello","voice":"alloy"}`, kind: "audio/mpeg", answer: "ID3\x00\xff\xfb{\"usage\":{\"input_tokens\":9}}", cost: -1},
		{path: "audio/transcriptions", fields: map[string]string{"language": "en"}, answer: heardJSON, tokens: metrics.Tokens{Input: 14, AudioInput: 10, Output: 5, Reported: true}, cost: 16500},
		{path: "audio/translations", fields: map[string]string{"response_format": "srt"}, kind: "text/plain; charset=utf-8", answer: "1\n00:00 --> 00:01\n{\"usage\":{\"input_tokens\":9,\"output_tokens\":9}}\n", cost: -1},
	}
}

// form is a body of multipart/form-data as Go writes it, and its Content-Type. The model comes in the middle.
func form(model string, fields map[string]string) (body, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, value := range fields {
		_ = w.WriteField(name, value)
	}
	if model != "" {
		_ = w.WriteField("model", model)
	}
	f, _ := w.CreateFormFile("file", "a \"cat\".png")
	_, _ = f.Write([]byte("\x89PNG\r\n\x00--\r\n--x\xff"))
	_ = w.Close()
	return b.String(), w.FormDataContentType()
}

// request is the body and its Content-Type, of a model.
func (p *passing) request(model string) (body, contentType string) {
	if p.fields != nil {
		return form(model, p.fields)
	}
	return strings.Replace(p.body, `"gpt-test"`, `"`+model+`"`, 1), "application/json"
}

func (p *passing) serve(w http.ResponseWriter, _ *http.Request) {
	kind := p.kind
	if kind == "" {
		kind = "application/json"
	}
	w.Header().Set("Content-Type", kind)
	_, _ = io.WriteString(w, p.answer)
}

// TestPassing: every endpoint passes the caller's bytes and the provider's, and is recorded as what it is.
func TestPassing(t *testing.T) {
	require.Len(t, allPassing(), len(wire.Passing()))
	for _, p := range allPassing() {
		t.Run(p.path, func(t *testing.T) {
			for _, base := range []string{"/v1/", "/openai/v1/"} {
				e := newEnv(t)
				e.upstream.set(p.serve)
				body, kind := p.request("gpt-test")
				a := e.post(base+p.path, body, "Content-Type", kind)
				require.Equal(t, 200, a.status, "%s", a.body)
				assert.Equal(t, p.answer, string(a.body))
				sent, head := e.upstream.last()
				assert.Equal(t, body, string(sent), "byte for byte")
				assert.Equal(t, kind, head.Get("Content-Type"))
				assert.Equal(t, itoa(len(body)), head.Get("Content-Length"))
				assert.Equal(t, "Bearer sk-provider", head.Get("Authorization"))
				if p.kind != "" {
					assert.Equal(t, p.kind, a.header.Get("Content-Type"))
				}
				rec := e.only()
				assert.Equal(t, p.path, rec.Endpoint)
				assert.Equal(t, p.tokens, rec.Tokens)
				assert.Equal(t, metrics.OutcomeOK, rec.Outcome)
				if p.cost < 0 {
					assert.Nil(t, rec.CostMicros, "unknown is not nothing")
				} else if assert.NotNil(t, rec.CostMicros) {
					assert.Equal(t, p.cost, *rec.CostMicros)
				}
			}
		})
	}
}

// An alias changes the model and nothing else; so does Azure's address.
func TestPassingByAlias(t *testing.T) {
	for _, p := range allPassing() {
		t.Run(p.path, func(t *testing.T) {
			e := newEnv(t)
			e.upstream.set(p.serve)
			body, kind := p.request("alias")
			require.Equal(t, 200, e.post("/v1/"+p.path, body, "Content-Type", kind).status)
			sent, head := e.upstream.last()
			assert.Equal(t, strings.Replace(body, "alias", "gpt-test", 1), string(sent))
			assert.Equal(t, itoa(len(sent)), head.Get("Content-Length"))
			assert.Equal(t, kind, head.Get("Content-Type"))

			a := e.post("/openai/deployments/alias/"+p.path+"?api-version=1", body, "Content-Type", kind)
			require.Equal(t, 200, a.status, "%s", a.body)
			sent, _ = e.upstream.last()
			assert.Equal(t, strings.Replace(body, "alias", "gpt-test", 1), string(sent))
			if p.fields == nil {
				return
			}
			body, kind = p.request("") // Azure's clients send none
			require.Equal(t, 200, e.post("/openai/deployments/gpt-test/"+p.path, body, "Content-Type", kind).status)
			sent, _ = e.upstream.last()
			assert.True(t, strings.HasSuffix(string(sent), "\r\n"+body))
			_, boundary, _ := strings.Cut(kind, "boundary=")
			read, err := multipart.NewReader(bytes.NewReader(sent), boundary).ReadForm(1 << 20)
			require.NoError(t, err)
			assert.Equal(t, []string{"gpt-test"}, read.Value["model"])
		})
	}
}

// Nothing is sent for who may not, for what names no model, and for what names a prompt.
func TestPassingRefusals(t *testing.T) {
	for _, p := range allPassing() {
		t.Run(p.path, func(t *testing.T) {
			e := newEnv(t)
			e.upstream.set(p.serve)
			e.router.prompts = map[string]string{"my-bot": "support/triage"}
			e.keys.keys["small"] = &policy.Principal{ID: "key_small", Kind: "key", Project: project, Grants: []policy.Grant{{
				Actions: []policy.Action{policy.ActionCall}, Models: []string{"gpt-other"}, Labels: []string{policy.LabelModel}}}}
			refused := func(status int, code, param, model string, header ...string) answer {
				t.Helper()
				body, kind := p.request(model)
				a := e.post("/v1/"+p.path, body, append([]string{"Content-Type", kind}, header...)...)
				require.Equal(t, status, a.status, "%s", a.body)
				assert.Equal(t, code, a.code())
				assert.Equal(t, param, gjson.GetBytes(a.body, "error.param").String())
				return a
			}
			refused(403, "permission_denied", "model", "gpt-test", "Authorization", "Bearer nothing")
			refused(403, "permission_denied", "model", "gpt-test", "Authorization", "Bearer small")
			refused(403, "permission_denied", "model", "gpt-test", "Authorization", "Bearer prompts")
			refused(403, "permission_denied", "model", "gpt-test", "Authorization", "Bearer override") // models beside a prompt only
			refused(401, "invalid_api_key", "", "gpt-test", "Authorization", "")
			refused(404, "model_not_found", "model", "gpt-none")
			for _, model := range []string{"prompt/support/triage@production", "@prompt/support/triage", "my-bot"} {
				a := refused(400, "invalid_prompt_reference", "model", model)
				assert.Contains(t, a.message(), "chat/completions, responses or messages")
			}
			refused(400, "invalid_prompt_reference", "x-promptgate-prompt", "gpt-test", "X-Promptgate-Prompt", "support/triage")
			assert.Contains(t, refused(400, "invalid_request", "model", "default").message(), "names no model")
			assert.Zero(t, e.upstream.count())
			for _, rec := range e.recorder.all() {
				assert.Equal(t, p.path, rec.Endpoint)
				assert.Nil(t, rec.CostMicros, "nothing was asked")
			}
			refused(200, "", "", "gpt-test", "X-Promptgate-Label", "staging") // a client's default header
		})
	}
	e := newEnv(t)
	for body, param := range map[string]string{
		`{"model":"gpt-test","prompt":{"id":"support/triage"}}`:        "prompt.id",
		`{"model":"gpt-test","prompt":{}}`:                             "prompt",
		`{"model":"gpt-test","prompt":{"template":"x"}}`:               "prompt.template",
		`{"model":"gpt-test","prompt":"x","prompt_id":"support/x"}`:    "prompt_id",
		`{"model":"gpt-test","prompt":"x","prompt_variables":{"a":1}}`: "prompt_variables",
	} {
		for _, path := range []string{"embeddings", "completions", "images/generations"} {
			a := e.post("/v1/"+path, body)
			assert.Equal(t, 400, a.status, body)
			assert.Equal(t, "invalid_prompt_reference", a.code())
			assert.Equal(t, param, gjson.GetBytes(a.body, "error.param").String())
		}
	}
	for name, want := range map[string]string{"prompt[id]": "prompt", "prompt_id": "prompt_id"} {
		body, kind := form("gpt-test", map[string]string{name: "support/triage"})
		a := e.post("/v1/images/edits", body, "Content-Type", kind)
		assert.Equal(t, "invalid_prompt_reference", a.code(), name)
		assert.Equal(t, want, gjson.GetBytes(a.body, "error.param").String())
	}
	// What leads to other models is for those who may call every model, in a form as well.
	body, kind := form("gpt-test", map[string]string{"provider[order]": "x"})
	e.keys.keys["one"] = &policy.Principal{ID: "key_one", Kind: "key", Project: project, Grants: []policy.Grant{{
		Actions: []policy.Action{policy.ActionCall}, Models: []string{"gpt-test"}, Labels: []string{policy.LabelModel}}}}
	a := e.post("/v1/images/edits", body, "Content-Type", kind, "Authorization", "Bearer one")
	assert.Equal(t, 403, a.status, "%s", a.body)
	a = e.post("/v1/embeddings", `{"model":"gpt-test","input":"x","models":["gpt-test","gpt-dear"]}`, "Authorization", "Bearer one")
	assert.Equal(t, 403, a.status, "%s", a.body)
	a = e.post("/v1/audio/speech", `{"model":"gpt-test","input":"x","voice":{"id":"voice_1"}}`)
	assert.Equal(t, 501, a.status)
	assert.Zero(t, e.upstream.count())
}

// JSON where a form is due, and the reverse, is refused in plain words.
func TestPassingWrongKinds(t *testing.T) {
	e := newEnv(t)
	for _, p := range allPassing() {
		body, kind := form("gpt-test", nil)
		want := "takes JSON"
		if p.fields != nil {
			body, kind, want = `{"model":"gpt-test"}`, "application/json", "takes a form"
		}
		for _, kind := range []string{kind, strings.ToUpper(kind)} {
			a := e.post("/v1/"+p.path, body, "Content-Type", kind)
			assert.Equal(t, 400, a.status, p.path)
			assert.Contains(t, a.message(), want)
			assert.Equal(t, "Content-Type", gjson.GetBytes(a.body, "error.param").String())
		}
	}
	assert.Zero(t, e.upstream.count())
}

// What is no answer of its shape is a provider's error, and the next target is asked.
func TestPassingWithoutAnAnswer(t *testing.T) {
	for _, p := range allPassing() {
		for name, serve := range map[string]http.HandlerFunc{
			"an error in a 200": respondJSON(200, `{"error":{"message":"boom"}}`),
			"an error beside":   respondJSON(200, `{"error":{"message":"boom"},"data":[{}],"results":[{}],"choices":[{"text":"x"}],"text":"x"}`),
			"nothing":           respondJSON(200, ``),
			"an empty object":   respondJSON(200, `{}`),
			"empty lists":       respondJSON(200, `{"data":[],"results":[],"choices":[]}`),
			"a nameless list":   respondJSON(200, `{"":[{}]}`),
			"lists of nothing":  respondJSON(200, `{"data":[null],"results":[null],"choices":[null]}`),
			"a page":            respond("text/html", "<h1>hi</h1>"),
			"no sound":          respond("audio/mpeg", ""),
			"a picture":         respond("image/png", "\x89PNG"),
			"events":            respond("text/event-stream", "data: {\"type\":\"x.done\"}\n\n"),
		} {
			t.Run(p.path+"/"+name, func(t *testing.T) {
				e := newEnv(t)
				e.upstream.set(serve)
				body, kind := p.request("gpt-test")
				a := e.post("/v1/"+p.path, body, "Content-Type", kind)
				require.Equal(t, 502, a.status, "%s", a.body)
				assert.Equal(t, "provider_error", a.code())

				second := newUpstream(t)
				defer second.Close()
				second.set(p.serve)
				up, err := openai.New(upAt(second.URL, "second", "sk-2"))
				require.NoError(t, err)
				defer up.Close()
				first := e.router.targets["gpt-test"][0]
				e.router.targets["gpt-test"] = []provider.Target{first, {Provider: up, Model: "gpt-second"}}
				a = e.post("/v1/"+p.path, body, "Content-Type", kind)
				require.Equal(t, 200, a.status, "%s", a.body)
				assert.Equal(t, p.answer, string(a.body))
				sent, _ := second.last()
				assert.Equal(t, strings.Replace(body, "gpt-test", "gpt-second", 1), string(sent))
				assert.Equal(t, "second", a.header.Get("X-Promptgate-Provider"))
			})
		}
	}
}

func respond(kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, body)
	}
}

// An answer that was cut is a 502, or a cut connection, never a part that looks whole.
func TestPassingCut(t *testing.T) {
	for _, p := range allPassing() {
		for size, status := range map[int]int{100: 502, 3 << 20: 200} {
			for _, chunked := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/%v", p.path, size, chunked), func(t *testing.T) {
					e := newEnv(t)
					e.upstream.set(func(w http.ResponseWriter, _ *http.Request) {
						begin, kind := `{"data":[{"x":"`, "application/json"
						if p.kind != "" {
							begin, kind = "sound", p.kind
						}
						w.Header().Set("Content-Type", kind)
						if !chunked {
							w.Header().Set("Content-Length", itoa(2*size))
						}
						_, _ = io.WriteString(w, begin+strings.Repeat("x", size))
						_ = http.NewResponseController(w).Flush()
						panic(http.ErrAbortHandler)
					})
					body, kind := p.request("gpt-test")
					a := e.post("/v1/"+p.path, body, "Content-Type", kind)
					assert.Equal(t, status, a.status)
					if status == 200 {
						assert.Error(t, a.err, "the connection is cut")
					} else {
						assert.Equal(t, "provider_truncated", a.code())
					}
					assert.Equal(t, metrics.OutcomeTruncated, e.only().Outcome)
				})
			}
		}
	}
}

// An end of sound that nothing marks is no end.
func TestPassingWithoutAnEnd(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = rw.WriteString("HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nConnection: close\r\n\r\nsound")
			_ = rw.Flush()
			_ = conn.Close()
		}
	})
	a := e.post("/v1/audio/speech", `{"model":"gpt-test","input":"x"}`)
	assert.Equal(t, 502, a.status)
	assert.Equal(t, "provider_truncated", a.code())
}

// Answers of any size pass whole, and are recorded with what they say before they end.
func TestPassingLarge(t *testing.T) {
	for _, size := range []int{10, 1 << 20, 4 << 20, 20 << 20} {
		for _, chunked := range []bool{false, true} {
			for path, c := range map[string]struct{ body, kind, begin, end string }{
				"embeddings":         {`{"model":"gpt-test","input":"x"}`, "application/json", `{"data":[{"embedding":"`, `"}],"usage":{"prompt_tokens":5,"total_tokens":5}}`},
				"images/generations": {`{"model":"gpt-test","prompt":"x"}`, "application/json", `{"data":[{"b64_json":"`, `"}],"usage":{"input_tokens":5,"output_tokens":7}}`},
				"audio/speech":       {`{"model":"gpt-test","input":"x"}`, "audio/wav", `RIFF{"usage":{"input_tokens":5,"output_tokens":7}}`, `e`},
			} {
				e := newEnv(t)
				recorded := make(chan struct{})
				e.recorder.hook = func(*metrics.Call) { close(recorded) }
				whole := c.begin + strings.Repeat("A", size) + c.end
				e.upstream.set(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", c.kind)
					if !chunked {
						w.Header().Set("Content-Length", itoa(len(whole)))
					}
					_ = http.NewResponseController(w).Flush() // small answers would get a length otherwise
					_, _ = io.WriteString(w, whole)
				})
				a := e.post("/v1/"+path, c.body)
				select {
				case <-recorded:
				default:
					t.Error("the answer ended before it was recorded")
				}
				require.NoError(t, a.err)
				require.Equal(t, 200, a.status)
				require.True(t, whole == string(a.body), "%s %d", path, size)
				assert.Equal(t, c.kind, a.header.Get("Content-Type"))
				rec := e.only()
				if path == "audio/speech" {
					assert.Zero(t, rec.Tokens)
					assert.Nil(t, rec.CostMicros)
				} else {
					assert.EqualValues(t, 5, rec.Tokens.Input)
					assert.True(t, rec.Tokens.Reported)
				}
			}
		}
	}
}

// Where a provider says no usage: the input of embeddings can be told from its text, a completion like a chat's; the rest is unknown.
func TestPassingWithoutUsage(t *testing.T) {
	for path, c := range map[string]struct {
		body, answer string
		want         metrics.Tokens
	}{
		"embeddings":         {`{"model":"gpt-test","input":"` + strings.Repeat("x", 100) + `"}`, `{"data":[{"embedding":"` + strings.Repeat("A", 4000) + `"}]}`, metrics.Tokens{Input: 32, Estimated: true}},
		"completions":        {`{"model":"gpt-test","prompt":"` + strings.Repeat("x", 100) + `"}`, `{"choices":[{"text":"hihi hihi hihi"}]}`, metrics.Tokens{Input: 33, Output: 6, Estimated: true}},
		"images/generations": {`{"model":"gpt-test","prompt":"x"}`, `{"data":[{"b64_json":"x"}]}`, metrics.Tokens{}},
	} {
		e := newEnv(t)
		e.upstream.set(respondJSON(200, c.answer))
		require.Equal(t, 200, e.post("/v1/"+path, c.body).status, path)
		rec := e.only()
		assert.Equal(t, c.want, rec.Tokens, path)
		assert.Equal(t, c.want.Estimated, rec.CostMicros != nil, path)
	}
	e := newEnv(t)
	e.upstream.set(respondJSON(200, `{"text":"","usage":{"type":"duration","seconds":4}}`))
	body, kind := form("gpt-test", nil)
	require.Equal(t, 200, e.post("/v1/audio/transcriptions", body, "Content-Type", kind).status, "silence is an answer")
	rec := e.only()
	assert.Zero(t, rec.Tokens, "seconds are no tokens")
	assert.Nil(t, rec.CostMicros)
}

// A provider that does not speak a shape is not asked, and named.
func TestPassingUnspoken(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.up.APIs = []string{provider.APIChat} })
	for _, p := range allPassing() {
		body, kind := p.request("gpt-test")
		a := e.post("/v1/"+p.path, body, "Content-Type", kind)
		assert.Equal(t, 501, a.status, p.path)
		assert.Contains(t, a.message(), `"up", which does not speak the API "`+p.path+`"`)
		assert.Equal(t, "false", a.header.Get("X-Should-Retry"))
	}
	assert.Zero(t, e.upstream.count())
}

// A provider's refusal passes as it is, and its trouble is tried again, forms as well.
func TestPassingRetries(t *testing.T) {
	for _, p := range allPassing() {
		e := newEnv(t)
		body, kind := p.request("alias")
		e.upstream.set(respondJSON(400, `{"error":{"message":"no","type":"invalid_request_error","param":"x","code":"c"}}`))
		a := e.post("/v1/"+p.path, body, "Content-Type", kind)
		assert.Equal(t, 400, a.status)
		assert.Equal(t, "no", a.message())
		tries := 0
		e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
			if tries++; tries == 1 {
				respondJSON(503, `{}`)(w, r)
				return
			}
			p.serve(w, r)
		})
		require.Equal(t, 200, e.post("/v1/"+p.path, body, "Content-Type", kind).status, p.path)
		sent, _ := e.upstream.last()
		assert.Equal(t, strings.Replace(body, "alias", "gpt-test", 1), string(sent))
	}
}
