package wire_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/wire"
)

// TestFileIDs: every place is seen where a provider takes an id for a file, in whatever spelling, and none where a name only looks like one.
func TestFileIDs(t *testing.T) {
	for body, want := range map[string][]string{
		`{"input":[{"role":"user","content":[{"type":"input_file","file_id":"f1"},{"type":"input_image","file_id":"f2"}]}]}`: {"f1", "f2"},
		`{"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f1"}}]}]}`:                                 {"f1"},
		`{"messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"f1"}}]}]}`:             {"f1"},
		`{"messages":[{"role":"user","content":[{"type":"container_upload","file_id":"f1"}]}]}`:                              {"f1"},
		`{"tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["f1","f2"]}}]}`:                         {"f1", "f2"},
		`{"tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]}`:                                                     {"vs_1"},
		`{"tools":[{"type":"image_generation","input_image_mask":{"file_id":"f1"}}]}`:                                        {"f1"},
		`{"input":[{"type":"function_call_output","output":[{"type":"input_image","file_id":"f1"}]}]}`:                       {"f1"},
		`{"input":[[{"file_id":"f1"}]]}`:                                  {"f1"},
		`{"input":[{"\u0066ile_id":"f1"}]}`:                               {"f1"},
		`{"input":[{"file\u005fid":"f\u0031"}]}`:                          {"f1"},
		`{"input":[{"\u0066\u0069\u006c\u0065\u005f\u0069\u0064":"f1"}]}`: {"f1"},
		`{"x":"\u00e9 \u2028","input":[{"file\u005Fid":"f1"}]}`:           {"f1"},
		`{"file_id":"f1","metadata":{"file_id":"mine"}}`:                  {"f1"},
		`{"file_id":["f1"]}`:                                              {"f1"},
		`{"tools":[{"type":"function","function":{"parameters":{"properties":{"file_id":{"type":"string"}}}}}]}`:                   nil,
		`{"tools":[{"name":"f","input_schema":{"default":{"file_id":"x"}}}]}`:                                                      nil,
		`{"messages":[{"role":"assistant","content":[{"input":{"file_id":"x"},"type":"tool_use"}]}]}`:                              nil,
		`{"input":[{"type":"message","content":[{"type":"output_text","annotations":[{"type":"file_citation","file_id":"x"}]}]}]}`: nil,
		`{"messages":[{"role":"user","content":"the \"file_id\": \"x\""}]}`:                                                        nil,
		`{"required":["file_id"],"file_id":null}`:                                                                                  nil,
		`{"messages":[]}`: nil,
	} {
		var b wire.Body
		require.NoError(t, b.Scan([]byte(body)), body)
		assert.Equal(t, want, b.FileIDs(nil), body)
	}
	var b wire.Body
	require.NoError(t, b.Scan([]byte(`{"a":{"file_id":"gone"},"b":{"file_id":"old"},"c":{"file_id":"stays"}}`)))
	assert.Equal(t, []string{"stays", "new", "added"}, b.FileIDs([]wire.Edit{
		wire.Remove("a"), {Name: "b", Value: []byte(`[{"file_id":"lost"}]`)}, {Name: "b", Value: []byte(`[{"file_id":"new"}]`)}, {Name: "d", Value: []byte(`{"file_id":"added"}`)},
	}), "as the provider gets it")
	require.NoError(t, b.Scan([]byte(`{"messages":[{"role":"user","content":"Hello, caf\u00e9"}]}`)))
	assert.Zero(t, testing.AllocsPerRun(100, func() { b.FileIDs(nil) }), "the usual request costs nothing")
}

// TestWithout: a form loses the parts of some names, and not another byte.
func TestWithout(t *testing.T) {
	part := func(name, value string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	}
	for _, c := range []struct{ form, want string }{
		{part("model", "m") + part("a", "1") + part("model2", "2"), part("a", "1") + part("model2", "2")},
		{part("a", "1\r\n") + part("model", "m") + part("b", ""), part("a", "1\r\n") + part("b", "")},
		{part("a", "") + part("model", ""), part("a", "")},
		{part("prompt[id]", "x") + part("a", "1") + part("prompt[label]", "y"), part("a", "1")},
		{part("model", "m"), ""},
		{part("a", "1"), part("a", "1")},
	} {
		var f wire.Multipart
		require.NoError(t, f.Scan("multipart/form-data; boundary=b", []byte(c.form+"--b--\r\n")))
		assert.Equal(t, "x"+c.want+"--b--\r\n", string(f.Without([]byte("x"), []string{"model", "prompt"})))
	}
}
