package wire

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

func rawMap(t testing.TB, s string) map[string]json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(s), &m))
	return m
}

func TestMerge(t *testing.T) {
	content := template.Content{
		Model: "gpt-4o", Tools: json.RawMessage(`[{"type":"function"}]`), ResponseFormat: json.RawMessage(`{"type":"json_object"}`),
		Parameters: rawMap(t, `{"temperature":0,"max_tokens":100,"metadata":{"a":1},"stream":true,"messages":[1],"model":"evil"}`),
	}
	for _, c := range []struct {
		name, body string
		want       string // the body, spliced
		model      string
		byCaller   bool
	}{
		{"all of the version's", `{"model":"default","x":1}`,
			`{"model":"default","x":1,"max_tokens":100,"metadata":{"a":1},"response_format":{"type":"json_object"},"temperature":0,"tools":[{"type":"function"}]}`,
			"gpt-4o", false},
		{"whole fields override", `{"temperature":1,"metadata":{"b":2},"tools":[]}`,
			`{"temperature":1,"metadata":{"b":2},"tools":[],"max_tokens":100,"response_format":{"type":"json_object"}}`, "gpt-4o", false},
		{"null counts as present", `{"temperature":null,"response_format":null,"tools":null,"metadata":null,"model":null}`,
			`{"temperature":null,"response_format":null,"tools":null,"metadata":null,"model":null,"max_tokens":100}`, "gpt-4o", false},
		{"max_completion_tokens is max_tokens", `{"max_completion_tokens":5,"temperature":0.0,"tools":[],"response_format":{},"metadata":{}}`,
			`{"max_completion_tokens":5,"temperature":0.0,"tools":[],"response_format":{},"metadata":{}}`, "gpt-4o", false},
		{"the caller's model", `{"model":"o3","temperature":1,"tools":[],"response_format":{},"metadata":{},"max_tokens":1}`,
			`{"model":"o3","temperature":1,"tools":[],"response_format":{},"metadata":{},"max_tokens":1}`, "o3", true},
		{"the same model is no choice", `{"model":"gpt-4o","temperature":1,"tools":[],"response_format":{},"metadata":{},"max_tokens":1}`,
			`{"model":"gpt-4o","temperature":1,"tools":[],"response_format":{},"metadata":{},"max_tokens":1}`, "gpt-4o", false},
		{"a model that names the prompt", `{"model":"@prompt/a@b","temperature":1,"tools":[],"response_format":{},"metadata":{},"max_tokens":1}`,
			`{"model":"@prompt/a@b","temperature":1,"tools":[],"response_format":{},"metadata":{},"max_tokens":1}`, "gpt-4o", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := scanned(t, c.body)
			for range 5 { // Go's maps have no order: the edits must
				m, err := Merge(b, &content, Locks{}, nil)
				require.NoError(t, err)
				assert.Equal(t, c.want, string(b.Splice(nil, m.Edits)))
				assert.Equal(t, c.model, m.Model)
				assert.Equal(t, c.byCaller, m.ModelByCaller)
			}
		})
	}
	t.Run("edits before it stay", func(t *testing.T) {
		m, err := Merge(scanned(t, `{}`), &content, Locks{}, []Edit{Remove("zzz"), Remove("aaa")})
		require.NoError(t, err)
		assert.Equal(t, []Edit{Remove("zzz"), Remove("aaa")}, m.Edits[:2])
	})
	t.Run("no model anywhere", func(t *testing.T) {
		m, err := Merge(scanned(t, `{"model":"default"}`), &template.Content{}, Locks{}, nil)
		require.NoError(t, err)
		assert.Equal(t, Merged{}, m)
	})
	t.Run("a model that is no string", func(t *testing.T) {
		_, err := Merge(scanned(t, `{"model":1}`), &content, Locks{}, nil)
		assert.True(t, fault.Is(err, fault.InvalidRequest))
	})
}

func TestLocks(t *testing.T) {
	content := template.Content{
		Model: "gpt-4o", Tools: json.RawMessage(`[{"type":"function","n":1.0}]`),
		Parameters: rawMap(t, `{"temperature":0.2,"max_tokens":100,"seed":9007199254740993}`),
	}
	for _, c := range []struct {
		name   string
		locked []string
		body   string
		param  string // "" when it is fine
	}{
		{"nothing sent", []string{"model", "tools", "temperature"}, `{"x":1}`, ""},
		{"equal", []string{"temperature"}, `{"temperature":0.2}`, ""},
		{"equal by meaning", []string{"temperature", "tools"}, `{"temperature":2e-1,"tools":[ {"n":1,"type":"func\u0074ion"} ]}`, ""},
		{"other", []string{"temperature"}, `{"temperature":0.3}`, "temperature"},
		{"null is another value", []string{"temperature"}, `{"temperature":null}`, "temperature"},
		{"whole numbers exactly", []string{"seed"}, `{"seed":9007199254740992}`, "seed"},
		{"model other", []string{"model"}, `{"model":"o3"}`, "model"},
		{"model equal", []string{"model"}, `{"model":"gpt-4o"}`, ""},
		{"model default", []string{"model"}, `{"model":"default"}`, ""},
		{"model by prompt", []string{"model"}, `{"model":"prompt/a"}`, ""},
		{"model null", []string{"model"}, `{"model":null}`, ""},
		{"model number", []string{"model"}, `{"model":1}`, "model"},
		{"models get around model", []string{"model"}, `{"models":["o3"]}`, "models"},
		{"tools other", []string{"tools"}, `{"tools":[]}`, "tools"},
		{"functions get around tools", []string{"tools"}, `{"functions":[{}]}`, "functions"},
		{"max_completion_tokens equal", []string{"max_tokens"}, `{"max_completion_tokens":100}`, ""},
		{"max_completion_tokens other", []string{"max_tokens"}, `{"max_completion_tokens":101}`, "max_completion_tokens"},
		{"locked by the other name", []string{"max_completion_tokens"}, `{"max_tokens":101}`, "max_tokens"},
		{"locked but not set", []string{"response_format"}, `{"response_format":{"type":"text"}}`, "response_format"},
		{"locked, not set, null", []string{"response_format"}, `{"response_format":null}`, ""},
		{"messages", []string{"messages"}, `{"messages":[{"role":"user"}]}`, "messages"},
		{"messages empty", []string{"messages"}, `{"messages":[ ]}`, ""},
		{"by another case", []string{"temperature"}, `{"Temperature":2}`, "Temperature"},
		{"by another case, other name", []string{"top_k"}, `{"TOP_\u212a":2}`, "TOP_\u212a"},
		{"not locked", []string{"top_p"}, `{"temperature":2}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := content
			own.Locked = c.locked
			for i, locked := range [][]string{nil, c.locked} { // by the version, by the label's protection
				use := &content
				if i == 0 {
					use = &own
				}
				_, err := Merge(scanned(t, c.body), use, Locks{More: locked}, nil)
				if c.param == "" {
					assert.NoError(t, err)
					continue
				}
				var f *fault.Error
				require.ErrorAs(t, err, &f)
				assert.Equal(t, fault.ParameterLocked, f.Code)
				assert.Equal(t, c.param, f.Param)
				assert.Contains(t, f.Message, "Leave the field out")
				assert.NotContains(t, f.Message, "0.2", "the version's value is not told")
			}
		})
	}
	_, err := Merge(scanned(t, `{"model":"o3","models":["x"]}`), &template.Content{Locked: []string{"model"}}, Locks{}, nil)
	assert.NoError(t, err, "no model to protect: someone has to choose")
}

// A field that the version ignores does not reach the provider under any of its names and in any case; the version's value does, and the names are told
// the same way whatever the values were.
func TestIgnored(t *testing.T) {
	content := template.Content{
		Model: "gpt-4o", Tools: json.RawMessage(`[1]`), Parameters: rawMap(t, `{"temperature":0.2,"max_tokens":100,"service_tier":"flex"}`),
	}
	for _, c := range []struct {
		name    string
		ignored []string
		body    string
		told    []string
		sent    string // but for model
	}{
		{"nothing sent", []string{"model", "temperature"}, `{"x":1}`, nil, `{"x":1,"tools":[1],"temperature":0.2,"max_tokens":100,"service_tier":"flex"}`},
		{"another value", []string{"temperature"}, `{"temperature":0.1}`, []string{"temperature"}, `{"tools":[1],"temperature":0.2,"max_tokens":100,"service_tier":"flex"}`},
		{"the same value", []string{"temperature"}, `{"temperature":0.2}`, []string{"temperature"}, `{"tools":[1],"temperature":0.2,"max_tokens":100,"service_tier":"flex"}`},
		{"null", []string{"temperature"}, `{"temperature":null}`, []string{"temperature"}, `{"tools":[1],"temperature":0.2,"max_tokens":100,"service_tier":"flex"}`},
		{"another case", []string{"top_k", "Temperature"}, `{"TEMPERATURE":1,"temperature":2,"Top_K":1}`, []string{"Temperature", "top_k"}, `{"tools":[1],"temperature":0.2,"max_tokens":100,"service_tier":"flex"}`},
		{"the other name", []string{"max_tokens"}, `{"max_completion_tokens":1024}`, []string{"max_completion_tokens"}, `{"tools":[1],"temperature":0.2,"max_tokens":100,"service_tier":"flex"}`},
		{"locked by the other name", []string{"max_completion_tokens"}, `{"max_tokens":1024}`, []string{"max_tokens"}, `{"tools":[1],"temperature":0.2,"max_tokens":100,"service_tier":"flex"}`},
		{"not set", []string{"seed"}, `{"seed":1}`, []string{"seed"}, `{"tools":[1],"temperature":0.2,"max_tokens":100,"service_tier":"flex"}`},
		{"tools by the older name", []string{"tools"}, `{"functions":[2],"tools":[]}`, []string{"functions", "tools"}, `{"tools":[1],"temperature":0.2,"max_tokens":100,"service_tier":"flex"}`},
		{"not ignored", []string{"temperature"}, `{"max_tokens":7}`, nil, `{"max_tokens":7,"tools":[1],"temperature":0.2,"service_tier":"flex"}`},
		{"a model", []string{"model"}, `{"model":"o3","fallbacks":["o3"],"models":["o3"]}`, []string{"fallbacks", "model", "models"}, `{"model":"o3","tools":[1],"temperature":0.2,"max_tokens":100,"service_tier":"flex"}`},
		{"a model that is none", []string{"model"}, `{"model":"default"}`, nil, `{"model":"default","tools":[1],"temperature":0.2,"max_tokens":100,"service_tier":"flex"}`},
		{"messages that say nothing", []string{"messages"}, `{"messages":[{"role":"user","content":""}]}`, nil, `{"tools":[1],"temperature":0.2,"max_tokens":100,"service_tier":"flex"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := content
			own.Ignored = c.ignored
			b := scanned(t, c.body)
			m, err := Merge(b, &own, Locks{Reads: func() (bool, error) { t.Fatal("asked"); return false, nil }}, nil)
			require.NoError(t, err)
			assert.Equal(t, c.told, m.Ignored)
			assert.JSONEq(t, c.sent, string(b.Splice(nil, m.Edits)))
			assert.Equal(t, "gpt-4o", m.Model)
			assert.False(t, m.ModelByCaller)
		})
	}
	m, err := Merge(scanned(t, `{"model":"o3"}`), &template.Content{Ignored: []string{"model"}}, Locks{}, nil)
	require.NoError(t, err)
	assert.Equal(t, Merged{Model: "o3", ModelByCaller: true}, m, "no model of the version's: someone has to choose")
}

func TestUsageEdit(t *testing.T) {
	for body, want := range map[string]string{
		`{"stream":true}`:                                                `{"stream":true,"stream_options":{"include_usage":true}}`,
		`{"stream_options":null,"x":1}`:                                  `{"stream_options":{"include_usage":true},"x":1}`,
		`{"stream_options":{}}`:                                          `{"stream_options":{"include_usage":true}}`,
		`{"stream_options":{"include_usage":false,"a":[1]}}`:             `{"stream_options":{"include_usage":true,"a":[1]}}`,
		`{"stream_options":{"include_obfuscation": false}}`:              `{"stream_options":{"include_obfuscation": false,"include_usage":true}}`,
		`{"stream_options":{"include_usage":null}}`:                      `{"stream_options":{"include_usage":true}}`,
		`{"stream_options":{"include_usage":true,"chunk":1},"stream":1}`: "",
		`{"stream_options":"x"}`:                                         "",
		`{"stream_options":[]}`:                                          "",
	} {
		b := scanned(t, body)
		e, needed := UsageEdit(b)
		assert.Equal(t, want != "", needed, body)
		if needed {
			assert.Equal(t, want, string(b.Splice(nil, []Edit{e})))
		}
	}
}
