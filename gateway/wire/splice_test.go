package wire

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSplice(t *testing.T) {
	one := []byte("1")
	for _, c := range []struct {
		name, raw string
		edits     []Edit
		want      string
	}{
		{"nothing", ` { "a" : 1 } `, nil, ` { "a" : 1 } `},
		{"empty, nothing", `{ }`, nil, `{ }`},
		{"append to empty", ` { } `, []Edit{{"x", one}}, ` { "x":1} `},
		{"append two to empty", `{}`, []Edit{{"x", one}, {"y", one}}, `{"x":1,"y":1}`},
		{"append", `{"a":0}`, []Edit{{"x", one}}, `{"a":0,"x":1}`},
		{"append keeps the end", "{\n  \"a\": 0\n}\n", []Edit{{"x", one}}, "{\n  \"a\": 0,\"x\":1\n}\n"},
		{"replace", `{"a": 0 , "b":2}`, []Edit{{"a", one}}, `{"a": 1 , "b":2}`},
		{"replace an escaped name", `{"\u0061": 0}`, []Edit{{"a", one}}, `{"\u0061": 1}`},
		{"remove the first", `{ "a":0 , "b":2, "c":3}`, []Edit{Remove("a")}, `{ "b":2, "c":3}`},
		{"remove the middle", `{"a":0 , "b":2,  "c":3}`, []Edit{Remove("b")}, `{"a":0,  "c":3}`},
		{"remove the last", `{"a":0 , "b":2 }`, []Edit{Remove("b")}, `{"a":0 }`},
		{"remove all", `{ "a":0 , "b":2 }`, []Edit{Remove("b"), Remove("a")}, `{  }`},
		{"remove all, append", `{"a":0}`, []Edit{Remove("a"), {"x", one}}, `{"x":1}`},
		{"remove what is not there", `{"a":0}`, []Edit{Remove("x")}, `{"a":0}`},
		{"the last edit counts", `{"a":0}`, []Edit{{"a", one}, Remove("a"), Remove("x"), {"x", one}, {"x", []byte("2")}}, `{"x":2}`},
		{"a name that needs quoting", `{}`, []Edit{Set("a\"b\n", "c\\d")}, `{"a\"b\n":"c\\d"}`},
		{"zeros and unknown fields stay", `{"temperature":0,"cache_control":{"type":"ephemeral"},"model":"default","top_p":0.10,"seed":null}`,
			[]Edit{Set("model", "gpt-4o")}, `{"temperature":0,"cache_control":{"type":"ephemeral"},"model":"gpt-4o","top_p":0.10,"seed":null}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := scanned(t, c.raw).Splice([]byte("before"), c.edits)
			assert.Equal(t, "before"+c.want, string(got))
		})
	}
}

// space, name and value generate bodies with every kind of spacing, order, escape and nesting.
func genSpace() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"", "", "", " ", "\n  ", "\t", "\r\n"})
}

func genName() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"model", "messages", "temperature", "stream", "stream_options", "tools", "max_tokens", "prompt", "inputs", "cache_control"}),
		rapid.StringMatching(`[a-z_"\\ é☃/]{0,8}`),
	)
}

// quoted is s as a JSON string, some of its characters escaped without need.
func quoted(t *rapid.T, s string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range s {
		if r < 0x80 && rapid.IntRange(0, 9).Draw(t, "escape") == 0 {
			out.WriteString(`\u00` + string("0123456789abcdef"[r>>4]) + string("0123456789ABCDEF"[r&15]))
			continue
		}
		q, _ := json.Marshal(string(r))
		out.Write(q[1 : len(q)-1])
	}
	out.WriteByte('"')
	return out.String()
}

func genValue(depth int) *rapid.Generator[string] {
	leaf := rapid.OneOf(
		rapid.SampledFrom([]string{"0", "0.0", "-1", "1e3", "true", "false", "null", `""`, `"x"`, `"a\"b\\"`, `"{\"usage\":1}"`, "12345678901234567890"}),
		rapid.Custom(func(t *rapid.T) string { return quoted(t, rapid.String().Draw(t, "s")) }),
	)
	if depth == 0 {
		return leaf
	}
	return rapid.OneOf(leaf,
		rapid.Custom(func(t *rapid.T) string {
			items := rapid.SliceOfN(genValue(depth-1), 0, 3).Draw(t, "items")
			return "[" + strings.Join(items, genSpace().Draw(t, "s")+","+genSpace().Draw(t, "s")) + "]"
		}),
		rapid.Custom(func(t *rapid.T) string { return genObject(depth-1).Draw(t, "object") }),
	)
}

func genObject(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		names := rapid.SliceOfNDistinct(genName(), 0, 6, rapid.ID[string]).Draw(t, "names")
		var out strings.Builder
		out.WriteString("{" + genSpace().Draw(t, "s"))
		for i, name := range names {
			if i > 0 {
				out.WriteString("," + genSpace().Draw(t, "s"))
			}
			out.WriteString(quoted(t, name) + genSpace().Draw(t, "s") + ":" + genSpace().Draw(t, "s"))
			out.WriteString(genValue(depth).Draw(t, "value") + genSpace().Draw(t, "s"))
		}
		return out.String() + "}"
	})
}

// What Splice yields differs from the body in the edited members only: all others are the same bytes, in the same order.
func TestSpliceChangesDeclaredMembersOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := genSpace().Draw(t, "s") + genObject(2).Draw(t, "body") + genSpace().Draw(t, "s")
		var b Body
		require.NoError(t, b.Scan([]byte(raw)), raw)
		names := rapid.SliceOfN(genName(), 0, 5).Draw(t, "edited")
		edits := make([]Edit, 0, len(names))
		last := map[string]string{} // "" for removed
		for _, name := range names {
			e := Edit{Name: name}
			if rapid.Bool().Draw(t, "set") {
				e.Value = []byte(genValue(1).Draw(t, "new"))
			}
			edits, last[name] = append(edits, e), string(e.Value)
		}
		got := b.Splice(nil, edits)
		if len(edits) == 0 {
			require.Equal(t, raw, string(got))
		}
		require.NoError(t, new(Body).Scan(got), "%s", got)

		var want []member
		had := map[string]bool{}
		for _, m := range readMembers(t, []byte(raw)) {
			had[m.name] = true
			if v, edited := last[m.name]; !edited {
				want = append(want, m)
			} else if v != "" {
				want = append(want, member{m.name, v})
			}
		}
		rest := map[string]string{}
		for name, v := range last {
			if !had[name] && v != "" {
				rest[name] = v
			}
		}
		have := readMembers(t, got)
		require.Len(t, have, len(want)+len(rest))
		for i, m := range have {
			if i < len(want) {
				require.Equal(t, want[i], m)
				continue
			}
			require.Equal(t, rest[m.name], m.value)
		}
	})
}

func FuzzSplice(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":2}`), "a", []byte(`"x"`))
	f.Add([]byte(` { } `), "new", []byte(`{}`))
	f.Fuzz(func(t *testing.T, raw []byte, name string, value []byte) {
		var b Body
		if b.Scan(raw) != nil || !json.Valid(value) {
			return
		}
		require.Equal(t, string(raw), string(b.Splice(nil, nil)))
		name = strings.ToValidUTF8(name, "?")
		for _, e := range []Edit{{name, value}, Remove(name)} {
			got := b.Splice(nil, []Edit{e})
			require.True(t, json.Valid(got), "%s", got)
			n := 0
			for _, m := range readMembers(t, got) {
				if m.name == name {
					require.Equal(t, strings.Trim(string(value), " \t\r\n"), m.value)
					n++
				}
			}
			require.Equal(t, len(e.Value) > 0, n == 1)
		}
	})
}
