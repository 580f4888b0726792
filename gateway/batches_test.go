package gateway_test

import (
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
)

const (
	chatLine   = `{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-test","messages":[{"role":"user","content":"hi"}]}}`
	makeBatch  = `{"input_file_id":"file-1","endpoint":"/v1/chat/completions","completion_window":"24h", "metadata":{"k":"v"}}`
	aBatch     = `{"id":"batch_1","object":"batch","status":"validating","input_file_id":"file-1","output_file_id":null,"error_file_id":null,"created_at":1700000000,"usage":null}`
	batchUsage = `"usage":{"input_tokens":40,"input_tokens_details":{"cached_tokens":10},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":45}`
)

// ended is the batch in one of its last states.
func batchEnded(status string) string {
	return `{"id":"batch_1","object":"batch","status":"` + status + `","output_file_id":"file-out","error_file_id":"file-err","created_at":1700000000,` + batchUsage + `}`
}

// withBatches is a gateway before an upstream that keeps files and batches.
func withBatches(t *testing.T, change ...func(*setup)) (*env, *keeper) {
	e, k := withRuns(t, change...)
	k.set("POST /v1/files", aFile)
	k.set("POST /v1/batches", aBatch)
	k.set("GET /v1/batches/batch_1", aBatch)
	k.set("POST /v1/batches/batch_1/cancel", strings.Replace(aBatch, "validating", "cancelling", 1))
	k.set("GET /v1/files/file-out/content", `{"custom_id":"a"}`)
	k.set("GET /v1/files/file-err/content", `{"custom_id":"b"}`)
	return e, k
}

// TestBatchFileLines: every line is judged as the call that it will be; nothing is sent when one fails, and the answer says which.
func TestBatchFileLines(t *testing.T) {
	e, k := withBatches(t, ledgered)
	e.router.prompts = map[string]string{"triage": "support/triage@production"}
	e.router.targets["triage"] = e.router.targets["gpt-test"]
	with := func(more string) string { return strings.Replace(chatLine, `"messages"`, more+`"messages"`, 1) }
	response := func(more string) string {
		return `{"custom_id":"a","method":"POST","url":"/v1/responses","body":{"model":"gpt-test","input":"x"` + more + `}}`
	}
	for name, c := range map[string]struct {
		line string
		code fault.Code
	}{
		"no JSON":            {`{"custom_id"`, fault.InvalidJSON},
		"empty":              {"", fault.InvalidJSON},
		"a list":             {`[1]`, fault.InvalidJSON},
		"twice":              {strings.Replace(chatLine, `"url"`, `"url":"/v1/responses","url"`, 1), fault.InvalidJSON},
		"twice inside":       {with(`"model":"x",`), fault.InvalidJSON},
		"by case":            {with(`"Model":"x",`), fault.InvalidJSON},
		"outside by case":    {strings.Replace(chatLine, `"url"`, `"URL":"/v1/responses","url"`, 1), fault.InvalidRequest},
		"another member":     {strings.Replace(chatLine, `"url"`, `"x":1,"url"`, 1), fault.InvalidRequest},
		"another method":     {strings.Replace(chatLine, `POST`, `GET`, 1), fault.InvalidRequest},
		"no method":          {strings.Replace(chatLine, `"method":"POST",`, ``, 1), fault.InvalidRequest},
		"another address":    {strings.Replace(chatLine, `/v1/chat/completions`, `/v1/files`, 1), fault.InvalidRequest},
		"an address upwards": {strings.Replace(chatLine, `/v1/chat/completions`, `/v1/chat/../responses`, 1), fault.InvalidRequest},
		"a form":             {strings.Replace(chatLine, `/v1/chat/completions`, `/v1/audio/transcriptions`, 1), fault.InvalidRequest},
		"no body":            {`{"custom_id":"a","method":"POST","url":"/v1/chat/completions"}`, fault.InvalidRequest},
		"a body as text":     {`{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":"{}"}`, fault.InvalidRequest},
		"no model":           {strings.Replace(chatLine, `"model":"gpt-test",`, ``, 1), fault.InvalidRequest},
		"default model":      {strings.Replace(chatLine, `gpt-test`, `default`, 1), fault.InvalidRequest},
		"another model":      {strings.Replace(chatLine, `gpt-test`, `gpt-other`, 1), fault.InvalidRequest},
		"a model of no text": {strings.Replace(chatLine, `"gpt-test"`, `7`, 1), fault.InvalidRequest},
		"another url":        {response(""), fault.InvalidRequest},
		"a prompt":           {with(`"prompt":{"id":"support/triage"},`), fault.InvalidPromptReference},
		"a prompt's id":      {with(`"prompt_id":"support/triage",`), fault.InvalidPromptReference},
		"a prompt as model":  {strings.Replace(chatLine, `gpt-test`, `prompt/support/triage`, 1), fault.InvalidPromptReference},
		"models":             {with(`"models":["x"],`), fault.NotImplemented},
		"routing":            {with(`"fallbacks":["x"],`), fault.NotImplemented},
		"routing by case":    {with(`"Extra_Body":{"model":"x"},`), fault.NotImplemented},
		"a stream":           {with(`"stream":true,`), fault.InvalidRequest},
		"a carriage return":  {strings.Replace(chatLine, `{"role"`, "\r"+`{"custom_id":"z","method":"POST","url":"/v1/chat/completions","body":{"model":"x","messages":[]}}`+"\r", 1), fault.InvalidRequest},
		"another's file":     {with(`"x":{"file_id":"file-theirs"},`), fault.StatefulReferenceRefused},
		"tools":              {with(`"tools":7,"x":"model",`), fault.InvalidRequest},
	} {
		require.NoError(t, e.recorder.RecordCall(t.Context(), &metrics.Call{ID: "call_" + name, Project: project, Principal: "key_x", Provider: "up", CompletionID: "file-theirs"}))
		for n, content := range []string{c.line + "\n" + chatLine, chatLine + "\n" + c.line + "\n", chatLine + "\r\n" + chatLine + "\n" + c.line + "\n" + chatLine} {
			if n == 0 && (name == "another model" || name == "another url") {
				continue // the first line says which it is
			}
			if name == "tools" {
				content = strings.Replace(content, "7", `["model"]`, 1)
			}
			asked := k.count()
			a := e.upload(uploadOf("batch", content))
			assert.Equal(t, string(c.code), a.code(), "%s: %s", name, a.body)
			assert.Contains(t, a.message(), "Line "+itoa(n+1)+" of the file", name)
			assert.Equal(t, asked, k.count(), "%s: something was sent", name)
			assert.Contains(t, []string{"files/batch"}, e.recorder.last().Endpoint)
		}
	}
	for name, line := range map[string]string{
		"goes on": response(`,"previous_response_id":"resp_1"`), "a conversation": response(`,"conversation":"conv_1"`),
		"background": response(`,"background":true`), "an item": strings.Replace(response(""), `"x"`, `[{"type":"item_reference","id":"msg_1"}]`, 1), "its own id": response(`,"request_id":"r"`),
	} {
		asked := k.count()
		a := e.upload(uploadOf("batch", line))
		assert.Contains(t, a.message(), "Line 1", "%s: %s", name, a.body)
		assert.Equal(t, asked, k.count(), name)
	}
	asked := k.count()
	for name, c := range map[string]struct {
		body string
		code fault.Code
	}{
		"no file":        {part("purpose", "", "batch") + "--b--\r\n", fault.InvalidRequest},
		"no lines":       {uploadOf("batch", ""), fault.InvalidJSON},
		"two files":      {uploadOf("batch", chatLine, part("file", "b", "x")), fault.InvalidRequest},
		"another file":   {uploadOf("batch", chatLine, part("other", "b", "x")), fault.InvalidRequest},
		"a list of them": {uploadOf("batch", chatLine, part("file[]", "", "x")), fault.InvalidRequest},
		"another model":  {uploadOf("batch", chatLine, part("model", "", "alias")), fault.InvalidRequest},
		"an alias":       {uploadOf("batch", strings.Replace(chatLine, "gpt-test", "alias", 1)), fault.InvalidRequest},
		"no such model":  {uploadOf("batch", strings.Replace(chatLine, "gpt-test", "none", 1)), fault.ModelNotFound},
		"a prompt alias": {uploadOf("batch", strings.Replace(chatLine, "gpt-test", "triage", 1)), fault.InvalidPromptReference},
		"too many lines": {uploadOf("batch", strings.Repeat(chatLine+"\n", 50_001)), fault.InvalidRequest},
	} {
		a := e.upload(c.body)
		assert.Equal(t, string(c.code), a.code(), "%s: %s", name, a.body)
	}
	for name, content := range map[string]string{"one": chatLine, "some": chatLine + "\n" + with(`"service_tier":"auto",`) + "\r\n" + chatLine + "\n"} {
		sent := uploadOf("batch", content)
		a := e.upload(sent)
		require.Equal(t, 200, a.status, "%s: %s", name, a.body)
		got, _ := e.upstream.last()
		assert.Equal(t, sent, string(got))
		rec := e.recorder.last()
		assert.Equal(t, []any{"files/batch", "gpt-test", "file-1"}, []any{rec.Endpoint, rec.Model, rec.CompletionID})
	}
	assert.Equal(t, asked+2, k.count())
}

// TestBatchPermissions: the key needs the permission to call the model as one without a prompt, as it uploads and as it makes the batch.
func TestBatchPermissions(t *testing.T) {
	e, k := withBatches(t)
	sent := uploadOf("batch", chatLine)
	count := func() int { // what is asked of runs aside
		n := 0
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, a := range k.asked {
			if strings.HasPrefix(a, "POST") {
				n++
			}
		}
		return n
	}
	for _, key := range []string{"prompts", "override", "nothing", "fenced", "wrong"} {
		for _, header := range [][]string{nil, {"x-promptgate-prompt", "support/triage"}} {
			a := e.upload(sent, append([]string{"Authorization", "Bearer " + key}, header...)...)
			assert.Contains(t, []int{401, 403, 404}, a.status, "%s %v: %s", key, header, a.body)
		}
	}
	assert.Zero(t, count())
	caller := e.keys.keys["caller"]
	grants := caller.Grants
	narrow := policy.Grant{Actions: []policy.Action{policy.ActionCall}, Labels: []string{policy.LabelModel}, Models: []string{"gpt-test"}}
	caller.Grants = []policy.Grant{narrow}
	drawing := strings.Replace(chatLine, `"messages"`, `"tools":[{"type":"image_generation","model":"gpt-image"}],"messages"`, 1)
	a := e.upload(uploadOf("batch", chatLine+"\n"+drawing))
	assert.Equal(t, "permission_denied", a.code(), "%s", a.body)
	assert.Contains(t, a.message(), "Line 2")
	require.Equal(t, 200, e.upload(sent).status)
	require.Equal(t, 1, count())
	make1 := func(body string, key string) answer {
		return e.post("/v1/batches", body, "Authorization", "Bearer "+key)
	}
	caller.Grants = []policy.Grant{{Actions: narrow.Actions, Labels: narrow.Labels, Models: []string{"other"}}}
	a = make1(makeBatch, "caller")
	assert.Equal(t, "permission_denied", a.code(), "the permission is gone: %s", a.body)
	caller.Grants = grants
	for name, c := range map[string]struct {
		body, key string
		code      fault.Code
	}{
		"another key's":     {makeBatch, "override", fault.StatefulReferenceRefused},
		"another project's": {makeBatch, "foreign", fault.StatefulReferenceRefused},
		"unknown":           {strings.Replace(makeBatch, "file-1", "file-7", 1), "caller", fault.StatefulReferenceRefused},
		"no file":           {strings.Replace(makeBatch, `"file-1"`, `null`, 1), "caller", fault.StatefulReferenceRefused},
		"a path":            {strings.Replace(makeBatch, "file-1", "../files", 1), "caller", fault.StatefulReferenceRefused},
		"by case":           {strings.Replace(makeBatch, `{`, `{"Input_File_Id":"file-7",`, 1), "caller", fault.InvalidJSON},
		"another endpoint":  {strings.Replace(makeBatch, "chat/completions", "files", 1), "caller", fault.InvalidRequest},
		"a model":           {strings.Replace(makeBatch, `{`, `{"model":"gpt-test",`, 1), "caller", fault.InvalidRequest},
		"a prompt":          {strings.Replace(makeBatch, `{`, `{"prompt":{"id":"support/triage"},`, 1), "caller", fault.InvalidRequest},
		"routing":           {strings.Replace(makeBatch, `{`, `{"provider":"x",`, 1), "caller", fault.InvalidRequest},
		"no JSON":           {`{`, "caller", fault.InvalidJSON},
	} {
		a := make1(c.body, c.key)
		assert.Equal(t, string(c.code), a.code(), "%s: %s", name, a.body)
	}
	targets := e.router.targets["gpt-test"]
	e.router.targets["gpt-test"] = []provider.Target{{Provider: targets[0].Provider, Model: "gpt-dear"}}
	assert.Equal(t, "invalid_request", make1(makeBatch, "caller").code(), "the name means another model now")
	e.router.targets["gpt-test"] = targets
	assert.Equal(t, 1, count())

	// A file with another purpose was not looked at.
	k.set("POST /v1/files", strings.Replace(aFile, "file-1", "file-2", 1))
	require.Equal(t, 200, e.upload(uploadOf("user_data", "{}")).status)
	assert.Equal(t, "stateful_reference_refused", make1(strings.Replace(makeBatch, "file-1", "file-2", 1), "caller").code())
	require.Equal(t, 200, make1(makeBatch, "caller").status)
	k.mu.Lock()
	assert.Contains(t, k.asked, "POST /v1/batches")
	k.mu.Unlock()
}

// TestBatchesGoToTheFilesProvider: with several providers, too.
func TestBatchesGoToTheFilesProvider(t *testing.T) {
	e, _ := withBatches(t)
	second, err := openai.New(upAt(e.upstream.URL, "second", "sk-2"))
	require.NoError(t, err)
	e.router.targets["gpt-2"] = []provider.Target{{Provider: second, Model: "gpt-2"}}
	require.Equal(t, 200, e.upload(uploadOf("batch", strings.Replace(chatLine, "gpt-test", "gpt-2", 1))).status, "the lines say who serves it")
	assert.Equal(t, "second", e.recorder.last().Provider)
	a := e.post("/openai/v1/batches", makeBatch)
	require.Equal(t, 200, a.status, "%s", a.body)
	assert.Equal(t, aBatch, string(a.body))
	assert.Equal(t, "second", a.header.Get("x-promptgate-provider"))
}

// TestBatchFollowed: a batch is followed to its end, and recorded with what its provider says that it used; what it made is its maker's.
func TestBatchFollowed(t *testing.T) {
	used := metrics.Tokens{Input: 40, CachedInput: 10, Output: 5, Reasoning: 2, Reported: true}
	for name, c := range map[string]struct {
		state   string
		outcome metrics.Outcome
		code    fault.Code
		tokens  metrics.Tokens
	}{
		"completed":     {batchEnded("completed"), metrics.OutcomeOK, "", used},
		"without usage": {strings.Replace(batchEnded("completed"), ","+batchUsage, "", 1), metrics.OutcomeOK, "", metrics.Tokens{}},
		"failed":        {strings.Replace(aBatch, "validating", "failed", 1), metrics.OutcomeProvider, fault.ProviderError, metrics.Tokens{}},
		"expired":       {batchEnded("expired"), metrics.OutcomeTruncated, fault.ProviderTruncated, used},
		"cancelled":     {batchEnded("cancelled"), metrics.OutcomeCancelled, "", used},
		"lost":          {"", metrics.OutcomeTruncated, fault.ProviderTruncated, metrics.Tokens{}},
	} {
		t.Run(name, func(t *testing.T) {
			e, k := withBatches(t)
			require.Equal(t, 200, e.upload(uploadOf("batch", chatLine)).status)
			a := e.post("/v1/batches", makeBatch)
			require.Equal(t, 200, a.status, "%s", a.body)
			assert.Equal(t, aBatch, string(a.body))
			begun := e.recorder.all()[1]
			assert.Equal(t, []any{metrics.OutcomeRunning, "batches", "batch_1", "gpt-test", "up"}, []any{begun.Outcome, begun.Endpoint, begun.CompletionID, begun.Model, begun.Provider})
			assert.Equal(t, metrics.Tokens{}, begun.Tokens, "nobody knows yet")
			assert.Nil(t, begun.CostMicros)
			for _, state := range []string{"in_progress", "finalizing", "cancelling"} {
				k.set("GET /v1/batches/batch_1", strings.Replace(aBatch, "validating", state, 1))
				asked := k.count()
				require.Eventually(t, func() bool { return k.count() > asked+1 }, 10*time.Second, time.Millisecond)
				require.Len(t, e.recorder.all(), 2, "%s is no end", state)
			}
			k.set("GET /v1/batches/batch_1", c.state)
			rec := e.batchEnd(begun.ID)
			assert.Equal(t, []any{c.outcome, string(c.code), c.tokens}, []any{rec.Outcome, rec.ErrorCode, rec.Tokens})
			assert.Nil(t, rec.CostMicros, "no list says what a batch costs")
			if !strings.Contains(c.state, "file-out") {
				return
			}
			for _, id := range []string{"file-out", "file-err"} {
				assert.Equal(t, 200, e.do(e.request("GET", "/v1/files/"+id+"/content", "")).status, id)
				assert.Equal(t, 404, e.do(e.request("GET", "/v1/files/"+id+"/content", "", "Authorization", "Bearer override")).status, id)
			}
		})
	}
}

// batchEnd is the second record of a call.
func (e *env) batchEnd(id string) (end metrics.Call) {
	e.t.Helper()
	require.Eventually(e.t, func() bool {
		for _, c := range e.recorder.all() {
			if c.ID == id && c.Outcome != metrics.OutcomeRunning {
				end = c
				return true
			}
		}
		return false
	}, 10*time.Second, time.Millisecond)
	return end
}

// TestBatchFilesAreRecordedOnce: whichever replica sees a batch's files, by asking or being asked, they are recorded under the same ids, and a replica that has not
// seen them finds them there.
func TestBatchFilesAreRecordedOnce(t *testing.T) {
	e, k := withBatches(t, ledgered)
	require.Equal(t, 200, e.upload(uploadOf("batch", chatLine)).status)
	require.Equal(t, 200, e.post("/v1/batches", makeBatch).status)
	k.set("GET /v1/batches/batch_1", batchEnded("completed"))
	ids := func(e *env) map[string]string {
		made := map[string]string{}
		for _, c := range e.recorder.all() {
			if c.Endpoint == "batches/files" {
				assert.Empty(t, made[c.CompletionID], "%s is recorded once", c.CompletionID)
				assert.True(t, e.ids.Owned(project, "key_caller", c.ID))
				made[c.CompletionID] = c.ID
			}
		}
		return made
	}
	require.Eventually(t, func() bool { return len(ids(e)) == 2 }, 10*time.Second, time.Millisecond)
	for range 3 {
		a := e.do(e.request("GET", "/v1/batches/batch_1", ""))
		require.Equal(t, batchEnded("completed"), string(a.body))
	}
	first := ids(e)

	// Another replica, which knows the batch by the ledger alone.
	other, theirs := withFiles(t, ledgered)
	theirs.set("GET /v1/batches/batch_1", batchEnded("completed"))
	theirs.set("GET /v1/files/file-out/content", "x")
	for _, c := range e.recorder.all() {
		if c.CompletionID == "batch_1" {
			require.NoError(t, other.recorder.RecordCall(t.Context(), &c))
		}
	}
	require.Equal(t, 404, other.do(other.request("GET", "/v1/batches/batch_1", "", "Authorization", "Bearer override")).status)
	require.Equal(t, 200, other.do(other.request("GET", "/v1/batches/batch_1", "")).status)
	assert.Equal(t, first, ids(other))
	require.Equal(t, 200, other.do(other.request("GET", "/v1/files/file-out/content", "")).status)

	third, again := withFiles(t, ledgered)
	again.set("GET /v1/files/file-out/content", "x")
	for _, c := range e.recorder.all() {
		if c.Endpoint == "batches/files" {
			require.NoError(t, third.recorder.RecordCall(t.Context(), &c))
		}
	}
	assert.Equal(t, 200, third.do(third.request("GET", "/v1/files/file-out/content", "")).status, "by the record")
	assert.Equal(t, 404, third.do(third.request("GET", "/v1/files/file-out/content", "", "Authorization", "Bearer override")).status)
	a := third.post("/v1/batches", strings.Replace(makeBatch, "file-1", "file-out", 1))
	assert.NotEqual(t, 200, a.status, "what a provider made was not looked at")
}

// TestBatchOfAnother: a batch that another replica left behind is taken over.
func TestBatchOfAnother(t *testing.T) {
	e, k := withBatches(t)
	k.set("GET /v1/batches/batch_1", batchEnded("completed"))
	left := metrics.Call{ID: "call_left", Project: project, Principal: "key_caller", Provider: "up", Model: "gpt-test", Endpoint: "batches", CompletionID: "batch_1",
		Start: time.Now().Add(-30 * time.Hour), Outcome: metrics.OutcomeRunning}
	require.NoError(t, e.recorder.RecordCall(t.Context(), &left))
	e.follow()
	assert.Equal(t, int64(40), e.batchEnd("call_left").Tokens.Input)
	assert.Equal(t, 200, e.do(e.request(http.MethodGet, "/v1/files/file-out/content", "")).status)
}

// TestBatchEndsAtOnce: a provider that has answered a batch as it is made has ended it; and what is asked about one passes.
func TestBatchEndsAtOnce(t *testing.T) {
	e, k := withBatches(t)
	require.Equal(t, 200, e.upload(uploadOf("batch", chatLine)).status)
	k.set("POST /v1/batches", batchEnded("completed"))
	a := e.post("/v1/batches", makeBatch)
	require.Equal(t, 200, a.status, "%s", a.body)
	assert.Equal(t, batchEnded("completed"), string(a.body))
	rec := e.recorder.last()
	assert.Equal(t, []any{metrics.OutcomeOK, int64(40)}, []any{rec.Outcome, rec.Tokens.Input})
	assert.Nil(t, rec.CostMicros)
	assert.Empty(t, a.header.Get("x-promptgate-cost-usd"))
	assert.Equal(t, 200, e.do(e.request("GET", "/v1/files/file-err/content", "")).status)
	a = e.post("/v1/batches/batch_1/cancel", "")
	assert.Equal(t, 200, a.status, "%s", a.body)
	assert.Contains(t, string(a.body), "cancelling")
	asked := k.count()
	assert.Equal(t, 404, e.post("/v1/batches/batch_1/cancel", "", "Authorization", "Bearer override").status)
	assert.Equal(t, 404, e.do(e.request("GET", "/v1/batches/batch_2", "")).status)
	assert.Equal(t, asked, k.count())
}

// TestBatchesNeedFollowing: where nobody follows them, none is made.
func TestBatchesNeedFollowing(t *testing.T) {
	e, k := withFiles(t)
	require.Equal(t, 200, e.upload(uploadOf("batch", chatLine)).status)
	asked := k.count()
	assert.Equal(t, "not_implemented", e.post("/v1/batches", makeBatch).code())
	assert.Equal(t, asked, k.count())
}
