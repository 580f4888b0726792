package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/testenv/corpora"
)

func scanned(t testing.TB, raw string) *Body {
	t.Helper()
	b := new(Body)
	require.NoError(t, b.Scan([]byte(raw)), raw)
	return b
}

func TestScanRecordsMembers(t *testing.T) {
	raw := ` { "model" : "gpt\u002d4" , "tempe\u0072ature":0,` + "\n\t" + `"x":{"a":[1,{"b":"}\"]"}]},"é":null}  `
	b := scanned(t, raw)
	var names, values []string
	for _, m := range b.Members() {
		names = append(names, m.Name)
		values = append(values, raw[m.ValueStart:m.ValueEnd])
		assert.Equal(t, byte('"'), raw[m.KeyStart])
	}
	assert.Equal(t, []string{"model", "temperature", "x", "é"}, names)
	assert.Equal(t, []string{`"gpt\u002d4"`, `0`, `{"a":[1,{"b":"}\"]"}]}`, `null`}, values)
	model, err := b.Model()
	require.NoError(t, err)
	assert.Equal(t, "gpt-4", model)
	v, ok := b.Get("é")
	assert.True(t, ok)
	assert.Equal(t, "null", string(v))
	_, ok = b.Get("absent")
	assert.False(t, ok)

	require.NoError(t, b.Scan([]byte(`{}`)), "a Body can be used again")
	assert.Empty(t, b.Members())
	b.Reset()
	assert.Nil(t, b.Raw())
}

func TestScanRefuses(t *testing.T) {
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}" }
	require.NoError(t, new(Body).Scan([]byte(deep(MaxDepth))), "the deepest that is allowed")
	// Brackets in text are no nesting.
	require.NoError(t, new(Body).Scan([]byte(`{"a":"`+strings.Repeat("[{", 500)+`\"["}`)))

	names := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"%d":1,`, i)
		}
		return b.String()
	}
	require.NoError(t, new(Body).Scan([]byte(`{`+names(MaxNames-1)+`"a":1}`)), "the most names that are allowed")
	require.NoError(t, new(Body).Scan([]byte(`{"a":[`+strings.Repeat(`{"b":1,"c":"d:e"},`, MaxNames)+`1]}`)), "closed objects are forgotten")

	for _, c := range []struct{ name, raw, want string }{
		{"many names", `{` + names(MaxNames) + `"a":1}`, "more than 50000 names"},
		{"many names, nested", `{` + names(MaxNames/2) + `"a":[{` + names(MaxNames/2) + `"b":1}]}`, "more than 50000 names"},
		{"empty", ``, "the body is empty"},
		{"spaces", " \n ", "the body is empty"},
		{"array", `[1]`, "must be one JSON object"},
		{"string", `"x"`, "must be one JSON object"},
		{"null", `null`, "must be one JSON object"},
		{"not JSON", `model=x`, "line 1, column 1 (byte 0)"},
		{"duplicate", `{"model":"a","model":"b"}`, `the name "model" stands twice`},
		{"duplicate by escape", `{"model":"a","mod\u0065l":"b"}`, `the name "model" stands twice`},
		{"duplicate below", "{\"a\":[1,\n{\"b\":1, \"b\":2}]}", `the name "b" stands twice`},
		{"case", `{"Model":"a"}`, `"Model" differs only by case from "model"`},
		{"case of messages", `{"model":"a","messages":[],"MESSAGES":[]}`, `differs only by case from "messages"`},
		{"case by folding", `{"meſſages":[]}`, `differs only by case from "messages"`},
		{"case by Kelvin", `{"max_to` + "\u212a" + `ens":1}`, `differs only by case from "max_tokens"`},
		{"trailing object", `{"a":1}{"b":2}`, "there is more after the JSON object"},
		{"trailing text", `{"a":1} x`, "line 1, column 9"},
		{"cut", `{"a":1`, "ends before"},
		{"cut in text", `{"a":"b`, "ends before"},
		{"trailing comma", `{"a":1,}`, "line 1"},
		{"invalid UTF-8", "{\"a\":\"\xff\"}", "invalid UTF-8"},
		{"invalid UTF-8 in a name", "{\"\xff\":1}", "invalid UTF-8"},
		{"lone surrogate", `{"a":"\ud800"}`, "line 1"},
		{"NaN", `{"a":NaN}`, "line 1"},
		{"comment", `{"a":1/**/}`, "line 1"},
		{"BOM", "\xef\xbb\xbf{}", "line 1"},
		{"NUL", "{\"a\":\"\x00\"}", "line 1"},
		{"deep", deep(MaxDepth + 1), "nested deeper than 200 levels"},
		{"very deep", `{"a":` + strings.Repeat("[", 1<<20), "nested deeper than 200 levels"},
		{"deep after what opens nothing", `{}` + strings.Repeat("]", 500) + strings.Repeat("[", 1<<20), "column 3 (byte 2)"},
		{"deep and not closed", strings.Repeat(`{"a":`, MaxDepth) + "]", "line 1"},
		{"deep objects", strings.Repeat(`{"a":`, MaxDepth+1), "nested deeper than 200 levels"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b Body
			err := b.Scan([]byte(c.raw))
			require.Error(t, err)
			assert.Equal(t, fault.InvalidJSON, fault.CodeOf(err), "%v", err)
			assert.Contains(t, messageOf(err), c.want)
			assert.Empty(t, b.Members())
			assert.Less(t, len(messageOf(err)), 400)
		})
	}
}

func TestScanSaysWhere(t *testing.T) {
	err := new(Body).Scan([]byte("{\n  \"a\": 1,\n  \"b\": x\n}"))
	assert.Contains(t, messageOf(err), "line 3, column 8 (byte 19)")
	err = new(Body).Scan([]byte("{\n  \"a\": 1,\n  \"a\": 2\n}"))
	assert.Contains(t, messageOf(err), "line 3, column 3")
}

func TestBodyFields(t *testing.T) {
	for _, c := range []struct {
		raw  string
		want bool
		bad  bool
	}{
		{`{}`, false, false}, {`{"stream":true}`, true, false}, {`{"stream":false}`, false, false}, {`{"stream":null}`, false, false},
		{`{"stream":"true"}`, false, true}, {`{"stream":1}`, false, true}, {`{"stream":{}}`, false, true},
	} {
		got, err := scanned(t, c.raw).Stream()
		assert.Equal(t, c.want, got, c.raw)
		assert.Equal(t, c.bad, fault.Is(err, fault.InvalidRequest), c.raw)
	}
	for raw, ok := range map[string]bool{
		`{}`: true, `{"model":null}`: true, `{"model":"x"}`: true, `{"model":1}`: false, `{"model":["x"]}`: false,
		`{"model":"` + strings.Repeat("x", 512) + `"}`: true, `{"model":"` + strings.Repeat("x", 513) + `"}`: false, `{"model":"a\nb"}`: false,
		`{"model":"a\r\nSet-Cookie: x"}`: false, `{"model":"\u0000"}`: false, `{"model":"a\u001b[2J"}`: false, `{"model":"a\u007f"}`: false,
		`{"model":"a\u0085"}`: false, `{"model":"prompt/a\nb"}`: false, `{"model":"caf\u00e9"}`: true,
	} {
		_, err := scanned(t, raw).Model()
		assert.Equal(t, ok, err == nil, raw)
	}
	for raw, want := range map[string]string{`{}`: "", `{"messages":null}`: "", `{"messages":[ 1 ]}`: "[ 1 ]"} {
		got, err := scanned(t, raw).Messages()
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
	_, err := scanned(t, `{"messages":"x"}`).Messages()
	assert.True(t, fault.Is(err, fault.InvalidRequest))
}

// The public suite of JSON parsing cases, as request bodies and as the value of a member.
func TestScanCorpus(t *testing.T) {
	var accepted, refused int
	for name, raw := range corpora.JSONParsing(t) {
		var b Body
		errWhole := b.Scan(raw)
		if errWhole == nil {
			assert.Equal(t, raw, b.Splice(nil, nil), name)
		}
		errInner := b.Scan([]byte(`{"x":` + string(raw) + `}`))
		for _, err := range []error{errWhole, errInner} {
			if err != nil {
				assert.Equal(t, fault.InvalidJSON, fault.CodeOf(err), name)
			}
		}
		object := strings.HasPrefix(strings.TrimSpace(string(raw)), "{")
		twice := strings.Contains(name, "duplicated_key") // refused by design: the checked body must be the sent body
		switch name[0] {
		case 'y':
			assert.Equal(t, object && !twice, errWhole == nil, "%s: %v", name, errWhole)
			assert.Equal(t, !twice, errInner == nil, "%s: %v", name, errInner)
			accepted++
		case 'n':
			assert.Error(t, errWhole, name)
			assert.Error(t, errInner, name)
			refused++
		}
	}
	assert.Greater(t, accepted, 90)
	assert.Greater(t, refused, 180)
}

// member is what an independent parser reads of a body: the standard library's.
type member struct {
	name  string
	value string
}

func readMembers(t require.TestingT, raw []byte) []member {
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	tok, err := dec.Token()
	require.NoError(t, err)
	require.Equal(t, json.Delim('{'), tok)
	var list []member
	for dec.More() {
		tok, err := dec.Token()
		require.NoError(t, err)
		var v json.RawMessage
		require.NoError(t, dec.Decode(&v))
		list = append(list, member{tok.(string), string(v)})
	}
	_, err = dec.Token()
	require.NoError(t, err)
	return list
}

// The fields that are acted on must be in the table, or their case would not be judged.
func TestKnownNames(t *testing.T) {
	for _, name := range fieldsRead() {
		assert.Equal(t, name, knownName([]byte(name)))
	}
	known := 0
	for _, name := range []string{"prompt", "model", "prompt_id", "prompt_variables", "prompt_version", "prompt_label", "environment", "version_id", "inputs",
		"variables", "version", "label", "draft"} {
		assert.NotEqual(t, form{}, formOf(name), name)
		assert.Equal(t, name, knownName([]byte(name)))
		known++
	}
	assert.Equal(t, 13, known)
	assert.Equal(t, form{}, formOf("temperature"))
}

func TestBodyKeepsLittle(t *testing.T) {
	var raw strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&raw, `%c"k%d":1`, "{,"[min(i, 1)], i)
	}
	b := scanned(t, raw.String()+"}")
	assert.Len(t, b.Members(), 10_000)
	b.Reset()
	assert.Zero(t, cap(b.members))
	b = scanned(t, `{"a":1}`)
	b.Reset()
	assert.NotZero(t, cap(b.members), "the usual body's room is used again")
}

func FuzzScan(f *testing.F) {
	for _, s := range []string{`{}`, `{"model":"x","messages":[{"role":"user","content":"hi"}]}`, `{"a":1,"a":2}`, `[`, `{"Model":1}`, "{\"a\":\"\xff\"}", ` {"a" : {"b":[1,2,{}]} } `, string(body1K())} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var b Body
		if err := b.Scan(raw); err != nil {
			require.Equal(t, fault.InvalidJSON, fault.CodeOf(err))
			require.True(t, json.Valid(Chat{}.AppendError(nil, err, "")))
			return
		}
		require.True(t, json.Valid(raw), "accepted what is no JSON")
		want := readMembers(t, raw)
		require.Len(t, b.Members(), len(want))
		for i, m := range b.Members() {
			require.Equal(t, want[i].name, m.Name)
			require.Equal(t, want[i].value, string(raw[m.ValueStart:m.ValueEnd]))
		}
		_, _ = ParseReference(&b, nil)
		_, _ = ParsePathReference("x", &b, nil)
		_, _ = UsageEdit(&b)
	})
}
