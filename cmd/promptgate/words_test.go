package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// marking is what a marked makes of two texts.
func marking(from, to string, coloured bool) string {
	var out bytes.Buffer
	m := &marked{out: &terminal{to: &out}}
	if coloured {
		m.colour = &out
	}
	m.runs(words(from, to))
	return out.String()
}

func TestWordsAreMarked(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"Be brief.\n", "Be long.\n", "Be [-brief-]{+long+}.\n"},
		{"Be kind and brief.\n", "Be blunt or long.\n", "Be [-kind and brief-]{+blunt or long+}.\n"},
		{"Ask {{name}} now\n", "Ask {{customer.name}} now\n", "Ask [-{{name}}-]{+{{customer.name}}+} now\n"},
		{"{{{a}}}!\n", "{{{b}}}!\n", "[-{{{a}}}-]{+{{{b}}}+}!\n"},
		{"0.2", "0.25", "[-0.2-]{+0.25+}\n"},
		{`"gpt-4o"`, `"gpt-4o-mini"`, "\"[-gpt-4o-]{+gpt-4o-mini+}\"\n"},
		{"don't go.", "do go.", "[-don't-]{+do+} go.\n"},
		{"stra\u00dfe cafe\u0301\n", "stra\u00dfe caf\u00e9s\n", "stra\u00dfe [-cafe\u0301-]{+caf\u00e9s+}\n"},
		{"\u8bf7\u7b80\u77ed\n", "\u8bf7\u8be6\u7ec6\n", "\u8bf7[-\u7b80\u77ed-]{+\u8be6\u7ec6+}\n"},
		{"one\n", "", "[-one-]\n"},
		{"", "one\ntwo\n", "{+one+}\n{+two+}\n"},
		{"one\ntwo\nthree\n", "one\nthree\n", "one\n[-two-]\nthree\n"},
		{"one\n\ntwo\n", "one\ntwo\n", "one\n[-\u21b5-]\ntwo\n"},
		{"one two\n", "one\ntwo\n", "one[- -]{+\u21b5+}\ntwo\n"},
		{"one\ntwo\n", "one two\n", "one[-\u21b5-]{+ +}two\n"},
		{"same\n", "same\n", "same\n"},
		{"a\x1b[31m\n", "b\x1b[31m\n", "[-a-]{+b+}\\x1b[31m\n"},
	} {
		require.Equal(t, c.want, marking(c.from, c.to, false), "%q %q", c.from, c.to)
	}
	require.Equal(t, "Be \x1b[31mbrief\x1b[0m\x1b[32mlong\x1b[0m.\n", marking("Be brief.\n", "Be long.\n", true))
	require.Equal(t, "a\x1b[32m\x1b[7m \x1b[0m!\n", marking("a!", "a !", true), "a space that came has no colour of its own")
	require.NotContains(t, marking("\x1b[35ma", "b", true), "\x1b[35m", "stored text never colours")
}

// TestWordsLoseNothing: what was kept and removed is the older text, and what was kept and added the newer one.
func TestWordsLoseNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringOf(rapid.SampledFrom([]rune("ab .'-{}\n\u00e9\u4e2d\u0301")))
		from, to := text.Draw(rt, "from"), text.Draw(rt, "to")
		var old, fresh string
		for _, r := range words(from, to) {
			require.NotEmpty(rt, r.text)
			if r.change != added {
				old += r.text
			}
			if r.change != removed {
				fresh += r.text
			}
		}
		require.Equal(rt, from, old)
		require.Equal(rt, to, fresh)
	})
}

func TestColoursAreWanted(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{{nil, true}, {map[string]string{"TERM": "xterm"}, true}, {map[string]string{"NO_COLOR": "1"}, false}, {map[string]string{"TERM": "dumb"}, false}} {
		require.Equal(t, c.want, coloured(func(name string) string { return c.env[name] }), c.env)
	}
}

func TestDiffByWord(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"from":1,"to":2,"changed":["x"],"messages":[{"unified":"--- version 1\n+++ version 2\n@@ -1,4 +1,5 @@\n role: system\n \n-Be kind.\n--- so be it\n+Be blunt.\n+++ so be it\n+More.\n end\n"}],
			"fields":[{"field":"model","from":"small","to":"large"},{"field":"parameters.seed","to":1},{"field":"parameters.top_p","from":0.5}]}`))
	}))
	t.Cleanup(gateway.Close)
	diff := func(flags ...string) string {
		out, errOut, code := runHere(t, append([]string{"prompt", "diff", "x", "1", "2", "--url", gateway.URL, "--key", "pg_x"}, flags...)...)
		require.Zero(t, code, errOut)
		return out
	}
	require.Equal(t, "--- version 1\n+++ version 2\n@@ -1,4 +1,5 @@\nrole: system\n\nBe [-kind-]{+blunt+}.\n[----]{++++} so be it\n{+More.+}\nend\n"+
		"model\n\"[-small-]{+large+}\"\nparameters.seed\n{+1+}\nparameters.top_p\n[-0.5-]\n", diff())
	require.Equal(t, "--- version 1\n+++ version 2\n@@ -1,4 +1,5 @@\n role: system\n \n-Be kind.\n--- so be it\n+Be blunt.\n+++ so be it\n+More.\n end\n"+
		"model\n- \"small\"\n+ \"large\"\nparameters.seed\n- (not set)\n+ 1\nparameters.top_p\n- 0.5\n+ (not set)\n", diff("--unified"))
}
