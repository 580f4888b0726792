package gateway_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/openai"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry/template"
)

const (
	aFile       = `{"id":"file-1","object":"file","bytes":5,"created_at":1,"filename":"a.txt","purpose":"user_data","status":"processed"}`
	fileDeleted = `{"id":"file-1","object":"file","deleted":true}`
	formKind    = "multipart/form-data; boundary=b"
)

// part is one of a form's parts; a file when it has a file's name.
func part(name, filename, value string) string {
	if filename != "" {
		name += `"; filename="` + filename
	}
	return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
}

func uploadOf(purpose, content string, more ...string) string {
	return part("purpose", "", purpose) + strings.Join(more, "") + part("file", "a.txt", content) + "--b--\r\n"
}

func (e *env) upload(body string, header ...string) answer {
	e.t.Helper()
	return e.post("/v1/files", body, append([]string{"Content-Type", formKind}, header...)...)
}

// withFiles is a gateway before an upstream that keeps files.
func withFiles(t *testing.T, change ...func(*setup)) (*env, *keeper) {
	e := newEnv(t, change...)
	k := e.keeper()
	k.set("POST /v1/files", aFile)
	k.set("GET /v1/files/file-1", aFile)
	k.set("DELETE /v1/files/file-1", fileDeleted)
	return e, k
}

// ledgered has the gateway find what it does not remember in what was recorded.
func ledgered(s *setup) { s.deps.Calls = s.deps.Recorder.(*fakeRecorder) }

// TestFiles: a file is uploaded byte for byte, costs nothing, and is its maker's alone.
func TestFiles(t *testing.T) {
	e, k := withFiles(t)
	sent := uploadOf("user_data", "\x00h\r\ni\xff", part("expires_after[anchor]", "", "created_at"), part("expires_after[seconds]", "", "3600"))
	for _, base := range []string{"/v1", "/openai/v1"} {
		a := e.post(base+"/files", sent, "Content-Type", formKind)
		require.Equal(t, 200, a.status, "%s", a.body)
		assert.Equal(t, aFile, string(a.body))
		got, head := e.upstream.last()
		assert.Equal(t, sent, string(got), "byte for byte")
		assert.Equal(t, formKind, head.Get("Content-Type"))
		rec := e.recorder.last()
		assert.Equal(t, []any{"files", "file-1", "up", metrics.OutcomeOK}, []any{rec.Endpoint, rec.CompletionID, rec.Provider, rec.Outcome})
		assert.Equal(t, metrics.Tokens{}, rec.Tokens)
		if assert.NotNil(t, rec.CostMicros) {
			assert.Zero(t, *rec.CostMicros)
		}
	}
	for _, c := range [][3]string{
		{"GET", "/v1/files/file-1", aFile}, {"GET", "/openai/v1/files/file-1", aFile}, {"DELETE", "/v1/files/file-1", fileDeleted},
	} {
		a := e.do(e.request(c[0], c[1], ""))
		require.Equal(t, 200, a.status, "%v: %s", c, a.body)
		assert.Equal(t, c[2], string(a.body))
		rec := e.recorder.last()
		assert.Equal(t, c[0]+" files/{id}", rec.Endpoint)
		assert.Empty(t, rec.CompletionID)
		asked := k.count()
		for name, key := range map[string]string{"another key's": "override", "another project's": "foreign"} {
			assert.Equal(t, 404, e.do(e.request(c[0], c[1], "", "Authorization", "Bearer "+key)).status, name)
			assert.Equal(t, 404, e.do(e.request("GET", "/v1/files/file-1/content", "", "Authorization", "Bearer "+key)).status, name)
		}
		assert.Equal(t, asked, k.count())
	}
	asked := k.count()
	for _, path := range []string{"/v1/files/file-2", "/v1/files/..", "/v1/files/file-1%2f..%2f..%2fresponses", "/v1/files/file.1", "/v1/files/file-2/content", "/v1/files/../responses/content"} {
		assert.Contains(t, []int{404, 501}, e.do(e.request("GET", path, "")).status, path)
	}
	for _, path := range []string{"/v1/files", "/v1/batches", "/openai/v1/files?purpose=batch"} {
		a := e.do(e.request("GET", path, ""))
		assert.Equal(t, "not_implemented", a.code(), "%s", a.body)
		assert.Contains(t, a.message(), "what every key made", "it says why")
		assert.Equal(t, 401, e.do(e.request("GET", path, "", "Authorization", "Bearer wrong")).status)
	}
	for name, c := range map[string][2]string{
		"no form":       {`{"purpose":"user_data"}`, "application/json"},
		"two purposes":  {uploadOf("user_data", "x", part("purpose", "", "batch")), formKind},
		"a file for it": {part("purpose", "p", "user_data") + uploadOf("x", "x")[len(part("purpose", "", "x")):], formKind},
		"cut":           {sent[:len(sent)-20], formKind},
	} {
		a := e.post("/v1/files", c[0], "Content-Type", c[1])
		assert.Equal(t, 400, a.status, "%s: %s", name, a.body)
	}
	assert.Equal(t, asked, k.count())
}

// TestFilePermissions: who may call but a prompt names it in a header; a model in the form says who serves it, and neither goes on.
func TestFilePermissions(t *testing.T) {
	e, k := withFiles(t)
	second, err := openai.New(upAt(e.upstream.URL, "second", "sk-2"))
	require.NoError(t, err)
	sent := uploadOf("user_data", "x")
	key := []string{"Authorization", "Bearer prompts"}
	for name, c := range map[string]struct {
		body   string
		header []string
		status int
	}{
		"nothing named":         {sent, nil, 403},
		"a model":               {uploadOf("user_data", "x", part("model", "", "gpt-test")), nil, 403},
		"another label":         {sent, []string{"x-promptgate-prompt", "support/triage", "x-promptgate-label", "staging"}, 403},
		"no such prompt":        {sent, []string{"x-promptgate-prompt", "nope"}, 404},
		"a model beside it":     {uploadOf("user_data", "x", part("model", "", "gpt-test")), []string{"x-promptgate-prompt", "support/triage"}, 403},
		"two prompts":           {uploadOf("user_data", "x", part("prompt_id", "", "support/reply")), []string{"x-promptgate-prompt", "support/triage"}, 400},
		"a prompt and no model": {sent, []string{"x-promptgate-prompt", "support/reply"}, 200}, // the only provider serves it
		"a prompt":              {sent, []string{"x-promptgate-prompt", "support/triage"}, 200},
		"a prompt in the form":  {uploadOf("user_data", "x", part("prompt_id", "", "support/triage")), nil, 200},
		"a prompt as model":     {uploadOf("user_data", "x", part("model", "", "prompt/support/triage@production")), nil, 200},
	} {
		asked := k.count()
		a := e.upload(c.body, append(c.header, key...)...)
		require.Equal(t, c.status, a.status, "%s: %s", name, a.body)
		if c.status != 200 {
			assert.Equal(t, asked, k.count(), name)
			continue
		}
		got, _ := e.upstream.last()
		assert.Equal(t, sent, string(got), "%s: nothing of ours goes on", name)
	}
	assert.Equal(t, 200, e.do(e.request("GET", "/v1/files/file-1", "", key...)).status)
	e.keys.keys["prompts"].Grants[0].Labels = []string{"staging"}
	e.keys.keys["prompts"].Grants[0].Prompts = []string{"other/*"}
	k.set("GET /v1/files/file-1", aFile)
	assert.Equal(t, 404, e.do(e.request("GET", "/v1/files/file-1", "", key...)).status, "it may not run that prompt any more")

	e.router.targets["second"] = []provider.Target{{Provider: second, Model: "second"}}
	asked := k.count()
	a := e.upload(sent)
	assert.Equal(t, 400, a.status, "%s", a.body)
	assert.Contains(t, a.message(), "2 providers")
	assert.Equal(t, asked, k.count())
	require.Equal(t, 200, e.upload(uploadOf("user_data", "x", part("model", "", "second"))).status)
	assert.Equal(t, "second", e.recorder.last().Provider)
	got, _ := e.upstream.last()
	assert.Equal(t, sent, string(got))
}

// TestFileContent: any type and size passes; a cut one does not pass for whole.
func TestFileContent(t *testing.T) {
	e, _ := withFiles(t, func(s *setup) { s.opts.BufferAnswer, s.up.MaxBody = 1<<10, 1<<16 })
	require.Equal(t, 200, e.upload(uploadOf("user_data", "x")).status)
	get := func(serve http.HandlerFunc) answer {
		e.upstream.set(serve)
		return e.do(e.request("GET", "/v1/files/file-1/content", ""))
	}
	large := bytes.Repeat([]byte("{\"error\":\x00\xff"), 100_000)
	for name, c := range map[string]struct {
		kind, want string
		body       []byte
	}{
		"bytes":             {"application/octet-stream", "application/octet-stream", []byte("\x00\xff")},
		"lines":             {"application/jsonl", "application/jsonl", []byte("{\"error\":{}}\n{\"a\":1}\n")},
		"JSON in name":      {"application/json", "application/json", []byte("{\"error\":{}}\n{\"a\":")},
		"nothing":           {"text/plain", "text/plain", nil},
		"large":             {"image/png", "image/png", large},
		"large and JSON":    {"application/json", "application/json", large},
		"no type":           {"", "application/octet-stream", []byte("<html>")},
		"an impossible one": {strings.Repeat("x", 2000), "application/octet-stream", []byte("x")},
	} {
		for _, chunked := range []bool{false, true} {
			a := get(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{c.kind}
				if c.kind == "" {
					w.Header()["Content-Type"] = nil
				}
				if !chunked {
					w.Header().Set("Content-Length", itoa(len(c.body)))
				} else {
					_ = http.NewResponseController(w).Flush()
				}
				_, _ = w.Write(c.body)
			})
			require.NoError(t, a.err, name)
			require.Equal(t, 200, a.status, "%s: %s", name, a.body)
			assert.True(t, bytes.Equal(c.body, a.body), name)
			assert.Equal(t, c.want, a.header.Get("Content-Type"), name)
			assert.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"))
			_, head := e.upstream.last()
			assert.Equal(t, "*/*", head.Get("Accept"))
			rec := e.recorder.last()
			assert.Equal(t, "GET files/{id}/content", rec.Endpoint)
			assert.Equal(t, metrics.OutcomeOK, rec.Outcome)
			assert.Equal(t, metrics.Tokens{}, rec.Tokens)
		}
	}
	for name, body := range map[string][]byte{"small": []byte("ab"), "large": large} {
		a := get(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", itoa(len(body)+1))
			_, _ = w.Write(body)
		})
		assert.True(t, a.err != nil || a.status == 502, "%s: a part must not pass for the whole: %d", name, a.status)
		require.Eventually(t, func() bool { return e.recorder.last().Outcome == metrics.OutcomeTruncated }, 5*time.Second, time.Millisecond, name)
	}
	for _, kind := range []string{"application/jsonl", "application/json"} { // nothing marks its end
		a := get(func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			assert.NoError(t, err)
			_, _ = rw.WriteString("HTTP/1.1 200 OK\r\nContent-Type: " + kind + "\r\nConnection: close\r\n\r\n{\"a\":1}\n")
			_ = rw.Flush()
			_ = conn.Close()
		})
		assert.Equal(t, 502, a.status, "%s: %s", kind, a.body)
	}
	a := get(respondJSON(404, `{"error":{"message":"No such file","code":"not_found"}}`))
	assert.Equal(t, 404, a.status)
	assert.Contains(t, string(a.body), "No such file")
	assert.Equal(t, 502, get(respondJSON(500, "{}")).status)
}

// naming are requests that refer to a file, in each shape.
func naming(id string) map[string][2]string {
	return map[string][2]string{
		"chat":       {"/v1/chat/completions", `{"model":"gpt-test","messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"` + id + `"}}]}]}`},
		"responses":  {"/v1/responses", `{"model":"gpt-test","input":[{"role":"user","content":[{"type":"input_file","file_id":"` + id + `"}]}]}`},
		"a tool":     {"/v1/responses", `{"model":"gpt-test","input":"x","tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["` + id + `"]}}]}`},
		"messages":   {"/v1/messages", `{"model":"gpt-test","max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"` + id + `"}}]}]}`},
		"a variable": {"/v1/responses", `{"prompt":{"id":"support/any","variables":{"doc":{"type":"input_file","file_id":"` + id + `"}}}}`},
		"items":      {"/v1/conversations", `{"model":"gpt-test","items":[{"role":"user","content":[{"type":"input_file","file_id":"` + id + `"}]}]}`},
		"escaped":    {"/v1/responses", `{"model":"gpt-test","input":[{"role":"user","content":[{"type":"input_file","\u0066ile\u005fid":"` + id + `"}]}]}`},
	}
}

// TestFileReferences: a key's own files can be named, another's never; an unknown one where the provider is the project's own.
func TestFileReferences(t *testing.T) {
	e, k := withFiles(t)
	k.set("POST /v1/conversations", aConversation)
	k.set("POST /v1/chat/completions", okJSON)
	k.set("POST /v1/messages", `{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"text","text":"Hi"}],"model":"m","stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}`)
	k.set("POST /v1/conversations/conv_1/items", keptItems)
	e.registry.add("support/any", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "user", Text: "Read {{doc}}"}}, Model: "gpt-test", Variables: map[string]template.Variable{"doc": {Required: true}},
	})
	require.Equal(t, 200, e.upload(uploadOf("user_data", "x")).status)
	e.keys.keys["second"] = &policy.Principal{ID: "key_second", Kind: "key", Project: project, Grants: e.keys.keys["caller"].Grants}
	shared := func(is bool) {
		for model, targets := range e.router.targets {
			e.router.targets[model] = []provider.Target{{Provider: targets[0].Provider, Model: "gpt-test", Shared: is}}
		}
	}
	for _, is := range []bool{false, true} {
		shared(is)
		for name, c := range naming("file-1") {
			a := e.post(c[0], c[1])
			require.Equal(t, 200, a.status, "%s: %s", name, a.body)
			asked := k.count()
			a = e.post(c[0], c[1], "Authorization", "Bearer second")
			assert.Equal(t, 400, a.status, "%s: %s", name, a.body)
			assert.Contains(t, string(a.body), "stateful_reference_refused", name)
			assert.Equal(t, asked, k.count(), name)
		}
		for name, c := range naming("file-elsewhere") {
			asked := k.count()
			a := e.post(c[0], c[1])
			if !is {
				require.Equal(t, 200, a.status, "%s: uploaded at the provider by its owners: %s", name, a.body)
				continue
			}
			assert.Contains(t, string(a.body), "stateful_reference_refused", "%s", name)
			assert.Equal(t, asked, k.count(), name)
		}
	}
	require.Equal(t, 200, e.converse(`{}`).status)
	for id, status := range map[string]int{"file-1": 200, "file-elsewhere": 400} {
		a := e.post("/v1/conversations/conv_1/items", `{"items":[{"role":"user","content":[{"type":"input_file","file_id":"`+id+`"}]}]}`)
		assert.Equal(t, status, a.status, "%s: %s", id, a.body)
	}
	a := e.respond(`{"prompt":{"id":"support/any"}}`, "x-promptgate-variables", `{"doc":{"type":"input_file","file_id":"file-elsewhere"}}`)
	assert.Equal(t, "stateful_reference_refused", a.code(), "variables in a header: %s", a.body)

	// The version's own: uploaded by whoever, through us.
	e.registry.add("support/own", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "user", Parts: []template.Part{{Type: "file", Value: raw(`{"file_id":"file-1"}`)}}}}, Model: "gpt-test",
	})
	a = e.chat(`{"prompt":{"id":"support/own"}}`, "Authorization", "Bearer second")
	assert.Equal(t, 200, a.status, "%s", a.body)
	asked := k.count()
	a = e.chat(`{"prompt":{"id":"support/reply"},"model":"gpt-test","messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"file-1"}}]}]}`, "Authorization", "Bearer second")
	assert.Equal(t, "stateful_reference_refused", a.code(), "%s", a.body)
	assert.Equal(t, asked, k.count())
}

// TestFilePinsItsProvider: a request that refers to a file goes to the provider that keeps it.
func TestFilePinsItsProvider(t *testing.T) {
	e, k := withFiles(t)
	second, err := openai.New(upAt(e.upstream.URL, "second", "sk-2"))
	require.NoError(t, err)
	first := e.router.targets["gpt-test"][0]
	e.router.targets["both"] = []provider.Target{first, {Provider: second, Model: "gpt-test"}}
	e.router.targets["second"] = []provider.Target{{Provider: second, Model: "second"}}
	require.Equal(t, 200, e.upload(uploadOf("user_data", "x", part("model", "", "second"))).status)
	ask := func(model string) answer {
		return e.respond(`{"model":"` + model + `","input":[{"role":"user","content":[{"type":"input_file","file_id":"file-1"}]}]}`)
	}
	require.Equal(t, 200, ask("both").status)
	assert.Equal(t, "second", e.recorder.last().Provider)
	asked := k.count()
	assert.Equal(t, "stateful_reference_refused", ask("gpt-test").code())
	assert.Equal(t, asked, k.count())
}

// TestFilesOfTheLedger: a replica knows a file that another took, and looks up one that nobody took here but now and then.
func TestFilesOfTheLedger(t *testing.T) {
	now := time.Now()
	looked := &lookups{}
	e, k := withFiles(t, ledgered, func(s *setup) {
		looked.fakeRecorder = s.deps.Recorder.(*fakeRecorder)
		s.deps.Calls, s.deps.Clock = looked, func() time.Time { return now }
	})
	made := metrics.Call{ID: "call_1", Project: project, Principal: "key_caller", Provider: "up", Endpoint: "files", CompletionID: "file-1"}
	require.NoError(t, e.recorder.RecordCall(t.Context(), &made))
	theirs := made
	theirs.ID, theirs.Principal, theirs.CompletionID = "call_2", "key_x", "file-theirs"
	require.NoError(t, e.recorder.RecordCall(t.Context(), &theirs))
	foreign := made
	foreign.ID, foreign.Project, foreign.CompletionID = "call_3", other, "file-foreign"
	require.NoError(t, e.recorder.RecordCall(t.Context(), &foreign))
	ask := func(id string) answer { c := naming(id)["responses"]; return e.post(c[0], c[1]) }
	for range 3 {
		require.Equal(t, 200, ask("file-1").status)
		require.Equal(t, 200, ask("file-elsewhere").status)
	}
	assert.Equal(t, 2, looked.n, "each is looked up once")
	now = now.Add(2 * time.Minute)
	require.Equal(t, 200, ask("file-elsewhere").status)
	assert.Equal(t, 3, looked.n, "and again after a while")
	asked := k.count()
	assert.Equal(t, "stateful_reference_refused", ask("file-theirs").code())
	looked.err = fault.New(fault.Conflict, "two")
	assert.Equal(t, "stateful_reference_refused", ask("file-twice").code(), "nobody's for sure")
	looked.err = fault.New(fault.RegistryUnavailable, "away")
	assert.Equal(t, "registry_unavailable", ask("file-any").code())
	looked.err = nil
	assert.Equal(t, asked, k.count())
	for model, targets := range e.router.targets {
		e.router.targets[model] = []provider.Target{{Provider: targets[0].Provider, Model: "gpt-test", Shared: true}}
	}
	assert.Equal(t, "stateful_reference_refused", ask("file-foreign").code(), "another project's")
	assert.Equal(t, asked, k.count())
}

// lookups counts what the ledger is asked.
type lookups struct {
	*fakeRecorder
	n   int
	err error
}

func (l *lookups) FindCall(ctx context.Context, prj, id, completion string) (metrics.Call, error) {
	if l.n++; l.err != nil {
		return metrics.Call{}, l.err
	}
	return l.fakeRecorder.FindCall(ctx, prj, id, completion)
}
