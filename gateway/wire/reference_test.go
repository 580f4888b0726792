package wire

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/testenv/corpora"
	"github.com/promptgate/promptgate/registry"
)

func label(s string) registry.Selector {
	return registry.Selector{Kind: registry.SelectLabel, Label: s}
}

func version(n int) registry.Selector {
	return registry.Selector{Kind: registry.SelectVersion, Version: n}
}

// headers takes pairs, in any case.
func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

type refCase struct {
	name, body string
	h          http.Header
	handle     string
	selector   registry.Selector
	draft      string
	vars       string // JSON; "" for none
	strip      []string
}

// Every row of the contract's naming forms.
func namingForms() []refCase {
	all := `{"id":"support/triage","label":"production","variables":{"ticket":"My card was charged twice","n":0,"none":null}}`
	return []refCase{
		{name: "canonical", body: `{"prompt":` + all + `}`, handle: "support/triage", selector: label("production"),
			vars: `{"ticket":"My card was charged twice","n":0,"none":null}`, strip: []string{"prompt"}},
		{name: "id only", body: `{"prompt":{"id":"pmpt_123"}}`, handle: "pmpt_123", strip: []string{"prompt"}},
		{name: "prompt_id for id", body: `{"prompt":{"prompt_id":"a/b"}}`, handle: "a/b", strip: []string{"prompt"}},
		{name: "id and prompt_id agree", body: `{"prompt":{"prompt_id":"a/b","id":"a\/b"}}`, handle: "a/b", strip: []string{"prompt"}},
		{name: "version number", body: `{"prompt":{"id":"a","version":7}}`, handle: "a", selector: version(7), strip: []string{"prompt"}},
		{name: "version digits", body: `{"prompt":{"id":"a","version":"7"}}`, handle: "a", selector: version(7), strip: []string{"prompt"}},
		{name: "nulls are absent", body: `{"prompt":{"id":"a","version":null,"label":"staging","variables":null,"draft":null}}`, handle: "a",
			selector: label("staging"), strip: []string{"prompt"}},
		{name: "draft", body: `{"prompt":{"id":"a","draft":"drf_1X"}}`, handle: "a", draft: "drf_1X", strip: []string{"prompt"}},
		{name: "draft alone", body: `{"prompt":{"draft":"drf_1X"}}`, draft: "drf_1X", strip: []string{"prompt"}},
		{name: "OpenAI's parts", body: `{"prompt":{"id":"a","variables":{"x":{"type":"input_text","text":"t"}}}}`, handle: "a",
			vars: `{"x":{"type":"input_text","text":"t"}}`, strip: []string{"prompt"}},
		{name: "escaped names", body: `{"prom\u0070t":{"\u0069d":"a"}}`, handle: "a", strip: []string{"prompt"}},
		{name: "model with label", body: `{"model":"prompt/support/triage@production"}`, handle: "support/triage", selector: label("production")},
		{name: "model with version", body: `{"model":"prompt/support/triage@7"}`, handle: "support/triage", selector: version(7)},
		{name: "model alone", body: `{"model":"prompt/support/triage"}`, handle: "support/triage"},
		{name: "model splits at the last @", body: `{"model":"prompt/me@home/x@staging"}`, handle: "me@home/x", selector: label("staging")},
		{name: "model escaped", body: `{"model":"\u0070rompt\/x@latest"}`, handle: "x", selector: label("latest")},
		{name: "LLM Gateway", body: `{"model":"@prompt/support/triage@production"}`, handle: "support/triage", selector: label("production")},
		{name: "LLM Gateway alone", body: `{"model":"@prompt/triage"}`, handle: "triage"},
		{name: "LiteLLM", body: `{"prompt_id":"a","prompt_variables":{"x":1},"prompt_version":3}`, handle: "a", selector: version(3),
			vars: `{"x":1}`, strip: []string{"prompt_id", "prompt_variables", "prompt_version"}},
		{name: "LiteLLM with label", body: `{"prompt_id":"a","prompt_label":"staging","prompt_version":null}`, handle: "a", selector: label("staging"),
			strip: []string{"prompt_id", "prompt_label", "prompt_version"}},
		{name: "LiteLLM model", body: `{"model":"prompt/a","prompt_label":"staging"}`, handle: "a", selector: label("staging"), strip: []string{"prompt_label"}},
		{name: "Helicone", body: `{"prompt_id":"a","environment":"staging","inputs":{"x":false}}`, handle: "a", selector: label("staging"),
			vars: `{"x":false}`, strip: []string{"prompt_id", "environment", "inputs"}},
		{name: "Helicone version", body: `{"inputs":{},"version_id":"12","prompt_id":"a"}`, handle: "a", selector: version(12),
			strip: []string{"inputs", "version_id", "prompt_id"}},
		{name: "headers", body: `{}`, h: headers("x-promptgate-prompt", "a/b", "X-PROMPTGATE-LABEL", "staging", "x-promptgate-variables", `{"x":[1]}`),
			handle: "a/b", selector: label("staging"), vars: `{"x":[1]}`},
		{name: "header version", body: `{"messages":[]}`, h: headers("x-promptgate-prompt", "a", "x-promptgate-version", "4"), handle: "a", selector: version(4)},
		{name: "header variable named like a field", body: `{}`, h: headers("x-promptgate-prompt", "a", "x-promptgate-variables", `{"Model":1}`),
			handle: "a", vars: `{"Model":1}`},
		{name: "headers complete the body", body: `{"prompt":{"id":"a","variables":{"x":1}}}`,
			h:      headers("x-promptgate-label", "staging", "x-promptgate-variables", `{"y":2,"x":1.0}`),
			handle: "a", selector: label("staging"), vars: `{"x":1,"y":2}`, strip: []string{"prompt"}},
		{name: "the same twice", body: `{"model":"@prompt/a@staging","prompt":{"id":"a","label":"staging","variables":{"x":{"b":1,"a":2}}},"prompt_id":"a",` +
			`"prompt_label":"staging","environment":"staging","inputs":{"x":{"a":2,"b":1}}}`,
			h: headers("x-promptgate-prompt", "a", "x-promptgate-label", "staging"), handle: "a", selector: label("staging"), vars: `{"x":{"b":1,"a":2}}`,
			strip: []string{"prompt", "prompt_id", "prompt_label", "environment", "inputs"}},
		{name: "a selector in one form only", body: `{"model":"prompt/a","prompt":{"id":"a","version":2}}`, handle: "a", selector: version(2),
			strip: []string{"prompt"}},
		{name: "a null prompt beside it", body: `{"model":"prompt/a","prompt":null,"prompt_id":null}`, handle: "a", strip: []string{"prompt", "prompt_id"}},
		{name: "a legacy text is no reference", body: `{"model":"prompt/a","prompt":"Once upon a time"}`, handle: "a"},
	}
}

func TestNamingForms(t *testing.T) {
	for _, c := range namingForms() {
		t.Run(c.name, func(t *testing.T) {
			b := scanned(t, c.body)
			r, err := ParseReference(b, c.h)
			require.NoError(t, err)
			assert.True(t, r.Present)
			assert.Equal(t, c.handle, r.Handle)
			assert.Equal(t, c.selector, r.Selector)
			assert.Equal(t, c.draft, r.Draft)
			assert.Equal(t, c.strip, r.Fields)
			if c.vars == "" {
				assert.Empty(t, r.Variables)
			} else {
				got, err := json.Marshal(r.Variables)
				require.NoError(t, err)
				assert.JSONEq(t, c.vars, string(got))
			}
			// Nothing of it reaches the provider but for the model, which the pipeline replaces.
			sent := string(b.Splice(nil, r.Strip([]Edit{Set("model", "m")})))
			if !strings.Contains(c.body, "Once") {
				assert.Equal(t, `{"model":"m"}`, strings.Replace(sent, `"messages":[],`, "", 1))
			}
		})
	}
}

func TestNoReference(t *testing.T) {
	for _, body := range []string{
		`{}`, `{"model":"gpt-4o","messages":[]}`, `{"prompt":"Once upon a time"}`, `{"prompt":["a","b"]}`, `{"prompt":[1,2]}`, `{"prompt":null}`,
		`{"model":"promptly"}`, `{"model":"other/prompt/x"}`, `{"model":3}`, `{"model":null}`, `{"model":""}`, `{"model":{"prompt/":1}}`,
		`{"inputs":{"x":1}}`, `{"environment":"x y","version_id":"abc","inputs":"text"}`, `{"Inputs":1}`, `{"variables":{"x":1},"version":"a","label":3,"draft":{}}`,
		`{"prompt_id":null,"prompt_variables":null}`,
	} {
		r, err := ParseReference(scanned(t, body), headers("content-type", "application/json"))
		require.NoError(t, err, body)
		assert.Equal(t, Reference{}, r, body)
		assert.Empty(t, r.Strip(nil))
	}
}

func TestRefusedReferences(t *testing.T) {
	long := strings.Repeat("x", registry.MaxNameBytes+1)
	for _, c := range []struct {
		name, body string
		h          http.Header
		param      string
		want       string
	}{
		// Parts without a prompt.
		{"stray variables", `{"prompt_variables":{"x":1}}`, nil, "prompt_variables", "no prompt is named"},
		{"stray version", `{"prompt_version":1}`, nil, "prompt_version", "no prompt is named"},
		{"stray label", `{"prompt_label":"a"}`, nil, "prompt_label", "no prompt is named"},
		{"empty object", `{"prompt":{}}`, nil, "prompt", "no prompt is named"},
		{"null id", `{"prompt":{"id":null,"variables":{"x":1}}}`, nil, "prompt", "no prompt is named"},
		// Disagreements.
		{"two handles", `{"prompt":{"id":"a"},"prompt_id":"b"}`, nil, "prompt_id", "different prompts"},
		{"two handles in one object", `{"prompt":{"id":"a","prompt_id":"b"}}`, nil, "prompt.prompt_id", "different prompts"},
		{"model and object", `{"prompt":{"id":"a"},"model":"prompt/b"}`, nil, "model", "different prompts"},
		{"body and header", `{"prompt":{"id":"a"}}`, headers("x-promptgate-prompt", "A"), "x-promptgate-prompt", "different prompts"},
		{"two headers", `{}`, headers("x-promptgate-prompt", "a", "x-promptgate-prompt", "b"), "x-promptgate-prompt", "different prompts"},
		{"two labels", `{"model":"prompt/a@staging","prompt_label":"production"}`, nil, "prompt_label", "different labels"},
		{"Helicone's label", `{"prompt_id":"a","prompt_label":"production","environment":"staging"}`, nil, "environment", "different labels"},
		{"two versions", `{"model":"prompt/a@1","prompt_version":"2"}`, nil, "prompt_version", "different versions"},
		{"two drafts", `{"prompt":{"draft":"drf_1"},"model":"prompt/a@b","prompt_label":"b"}`, nil, "prompt.draft", "names a draft and"},
		{"two variables", `{"prompt":{"id":"a","variables":{"x":1}},"inputs":{"x":2}}`, nil, "inputs", "different values"},
		{"label and version", `{"prompt":{"id":"a","label":"b","version":1}}`, nil, "prompt.version", "only one of them"},
		{"label and version over forms", `{"model":"prompt/a@b"}`, headers("x-promptgate-version", "1"), "x-promptgate-version", "only one of them"},
		{"draft and version", `{"prompt":{"id":"a","draft":"drf_1","version":1}}`, nil, "prompt.draft", "only one of them"},
		{"draft and label", `{"prompt":{"id":"a","draft":"drf_1","label":"b"}}`, nil, "prompt.draft", "only one of them"},
		// Wrong shapes.
		{"unknown field", `{"prompt":{"id":"a","lable":"production"}}`, nil, "prompt.lable", `unknown field "lable"`},
		{"field of other case", `{"prompt":{"Id":"a"}}`, nil, "prompt.Id", `unknown field "Id"`},
		{"id is a number", `{"prompt":{"id":1}}`, nil, "prompt.id", "must be a string"},
		{"empty id", `{"prompt":{"id":""}}`, nil, "prompt.id", "empty"},
		{"empty prompt_id", `{"prompt_id":""}`, nil, "prompt_id", "empty"},
		{"long id", `{"prompt_id":"` + long + `"}`, nil, "prompt_id", "longer"},
		{"control characters", `{"prompt_id":"a\nb"}`, nil, "prompt_id", "control characters"},
		{"C1 control characters", `{"prompt_id":"a` + "\u0085" + `b"}`, nil, "prompt_id", "control characters"},
		{"header that is no UTF-8", `{}`, http.Header{"X-Promptgate-Prompt": {"\xff"}}, "x-promptgate-prompt", "UTF-8"},
		{"version zero", `{"prompt":{"id":"a","version":0}}`, nil, "prompt.version", "version number"},
		{"version negative", `{"prompt":{"id":"a","version":-1}}`, nil, "prompt.version", "version number"},
		{"version with a sign", `{"prompt":{"id":"a","version":"+1"}}`, nil, "prompt.version", "version number"},
		{"version fraction", `{"prompt":{"id":"a","version":1.0}}`, nil, "prompt.version", "version number"},
		{"version huge", `{"prompt":{"id":"a","version":2147483648}}`, nil, "prompt.version", "version number"},
		{"version text", `{"prompt":{"id":"a","version":"v3"}}`, nil, "prompt.version", "version number"},
		{"version object", `{"prompt":{"id":"a","version":{}}}`, nil, "prompt.version", "version number"},
		{"Helicone's foreign version", `{"prompt_id":"a","version_id":"5f0c"}`, nil, "version_id", "version number"},
		{"label of digits", `{"prompt":{"id":"a","label":"3"}}`, nil, "prompt.label", "send it as the version"},
		{"label empty", `{"prompt":{"id":"a","label":""}}`, nil, "prompt.label", "cannot be a label"},
		{"label with capitals", `{"prompt":{"id":"a","label":"Production"}}`, nil, "prompt.label", "cannot be a label"},
		{"label with a line", `{"prompt":{"id":"a","label":"a\r\nx: y"}}`, nil, "prompt.label", "cannot be a label"},
		{"label is no string", `{"prompt":{"id":"a","label":3}}`, nil, "prompt.label", "must be a string"},
		{"draft", `{"prompt":{"draft":"x"}}`, nil, "prompt.draft", "draft's id"},
		{"draft with a slash", `{"prompt":{"draft":"drf_/../x"}}`, nil, "prompt.draft", "draft's id"},
		{"variables are no object", `{"prompt":{"id":"a","variables":[1]}}`, nil, "prompt.variables", "must be an object"},
		{"inputs are no object", `{"prompt_id":"a","inputs":"x"}`, nil, "inputs", "must be an object"},
		{"header variables", `{"prompt_id":"a"}`, headers("x-promptgate-variables", `x`), "x-promptgate-variables", "one JSON object"},
		{"header variables twice", `{"prompt_id":"a"}`, headers("x-promptgate-variables", `{"a":1,"a":2}`), "x-promptgate-variables", "stands twice"},
		{"model without a name", `{"model":"prompt/"}`, nil, "model", "empty"},
		{"model with a label only", `{"model":"prompt/@production"}`, nil, "model", "empty"},
		{"model without a label", `{"model":"prompt/a@"}`, nil, "model", "ends in @"},
		{"model with a bad label", `{"model":"prompt/a@B"}`, nil, "model", "cannot be a label"},
		{"case of a shared word", `{"prompt_id":"a","Inputs":{"x":1}}`, nil, "inputs", "differs only by case"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := ParseReference(scanned(t, c.body), c.h)
			require.Error(t, err)
			assert.Equal(t, Reference{}, r, "nothing is returned beside an error")
			var f *fault.Error
			require.ErrorAs(t, err, &f)
			assert.Equal(t, fault.InvalidPromptReference, f.Code)
			assert.Equal(t, c.param, f.Param)
			assert.Contains(t, f.Message, c.want)
			assert.Less(t, len(f.Message), 500)
		})
	}
}

func TestPathReference(t *testing.T) {
	for _, c := range []struct {
		path, body string
		handle     string
		selector   registry.Selector
		vars       int
		strip      []string
	}{
		{"support/triage", `{"variables":{"x":1},"stream":true}`, "support/triage", registry.Selector{}, 1, []string{"variables"}},
		{"a@12", `{}`, "a", version(12), 0, nil},
		{"a@staging", `{"label":"staging","model":"gpt-4o"}`, "a", label("staging"), 0, []string{"label"}},
		{"a", `{"version":"3","prompt":{"id":"a"}}`, "a", version(3), 0, []string{"version", "prompt"}},
		{"a", `{"model":"prompt/a@latest"}`, "a", label("latest"), 0, nil},
	} {
		r, err := ParsePathReference(c.path, scanned(t, c.body), nil)
		require.NoError(t, err, c.body)
		assert.True(t, r.Present)
		assert.Equal(t, c.handle, r.Handle)
		assert.Equal(t, c.selector, r.Selector)
		assert.Len(t, r.Variables, c.vars)
		assert.Equal(t, c.strip, r.Fields)
	}
	for path, body := range map[string]string{
		"": `{}`, "a@": `{}`, "a": `{"prompt":{"id":"b"}}`, "a@1": `{"label":"b"}`, "b": `{"Variables":{}}`, "c": `{"variables":3}`, "d\x00": `{}`,
	} {
		_, err := ParsePathReference(path, scanned(t, body), nil)
		assert.True(t, fault.Is(err, fault.InvalidPromptReference), "%q %s: %v", path, body, err)
	}
	r, err := ParsePathReference("a", scanned(t, `{"draft":"drf_9"}`), nil)
	require.NoError(t, err)
	assert.Equal(t, "drf_9", r.Draft)
}

func TestPrivateHeader(t *testing.T) {
	for name, want := range map[string]bool{"X-Promptgate-Prompt": true, "x-promptgate-anything": true, "X-PROMPTGATE-": true, "X-Promptgate": false, "Authorization": false} {
		assert.Equal(t, want, PrivateHeader(name), name)
	}
}

// Naughty strings as prompt ids: a clean refusal, or the very same string.
func TestNaughtyNames(t *testing.T) {
	passed := 0
	for _, s := range corpora.Naughty(t) {
		q, err := json.Marshal(s)
		require.NoError(t, err)
		for _, body := range []string{`{"prompt":{"id":` + string(q) + `}}`, `{"prompt_id":` + string(q) + `,"inputs":{` + string(q) + `:` + string(q) + `}}`} {
			r, err := ParseReference(scanned(t, body), nil)
			if err != nil {
				assert.Equal(t, fault.InvalidPromptReference, fault.CodeOf(err), "%q", s)
				assert.True(t, json.Valid(Chat{}.AppendError(nil, err, "")), "%q", s)
				continue
			}
			passed++
			assert.Equal(t, s, r.Handle)
			if r.Variables != nil {
				var v string
				require.NoError(t, json.Unmarshal(r.Variables[s], &v))
				assert.Equal(t, s, v)
			}
		}
		r, err := ParseReference(scanned(t, `{"model":`+string(must(json.Marshal("prompt/"+s+"@production")))+`}`), headers("x-promptgate-prompt", s))
		if err == nil {
			assert.Equal(t, s, r.Handle)
		}
	}
	assert.Greater(t, passed, 700)
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func FuzzReference(f *testing.F) {
	for _, c := range namingForms() {
		f.Add([]byte(c.body), c.h.Get("x-promptgate-prompt"), c.h.Get("x-promptgate-variables"))
	}
	f.Fuzz(func(t *testing.T, raw []byte, prompt, variables string) {
		var b Body
		if b.Scan(raw) != nil {
			return
		}
		h := headers("x-promptgate-prompt", prompt, "x-promptgate-variables", variables)
		for _, h := range []http.Header{nil, h} {
			r, err := ParseReference(&b, h)
			if err != nil {
				require.Equal(t, fault.InvalidPromptReference, fault.CodeOf(err))
				require.True(t, json.Valid(Chat{}.AppendError(nil, err, "")))
				continue
			}
			if !r.Present {
				require.Equal(t, Reference{}, r)
				continue
			}
			require.True(t, r.Handle != "" || r.Draft != "")
			require.LessOrEqual(t, len(r.Handle), registry.MaxNameBytes)
			for _, v := range r.Variables {
				require.True(t, json.Valid(v), "%s", v)
			}
			// What is left for the provider names no prompt any more.
			var left Body
			require.NoError(t, left.Scan(b.Splice(nil, r.Strip([]Edit{Set("model", "m")}))))
			again, err := ParseReference(&left, nil)
			require.NoError(t, err)
			require.False(t, again.Present)
		}
	})
}

// TestReferenceMemory: the variables of one request are not those of the next one that is read into the same Body.
func TestReferenceMemory(t *testing.T) {
	var body Body
	read := func(raw string) Reference {
		require.NoError(t, body.Scan([]byte(raw)))
		ref, err := ParseReference(&body, nil)
		require.NoError(t, err)
		return ref
	}
	first := read(`{"prompt":{"id":"p","variables":{"a":1,"b":2}}}`)
	assert.Equal(t, map[string]json.RawMessage{"a": []byte("1"), "b": []byte("2")}, first.Variables)
	assert.Empty(t, PromptNamedIn(&Body{}, nil))
	assert.Equal(t, "prompt.id", PromptNamedIn(&body, nil))
	assert.Len(t, first.Variables, 2, "looking for a prompt leaves the reference alone")
	assert.Equal(t, map[string]json.RawMessage{"b": []byte("3")}, read(`{"prompt":{"id":"p","variables":{"b":3}}}`).Variables)
	assert.Nil(t, read(`{"prompt":{"id":"p"}}`).Variables)
	read(`{"prompt":{"id":"p","variables":{"a":"` + strings.Repeat("x", 99) + `"}}}`)
	body.Reset()
	assert.Empty(t, body.variables, "a pooled Body keeps nothing of a caller's")
}
