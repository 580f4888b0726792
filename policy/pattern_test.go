package policy

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestMatchPrompt(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"support/triage", []string{"support/triage"}, []string{"support", "support/triage/x", "support/triag", "support/triagee", ""}},
		{"support/*", []string{"support/a"}, []string{"support", "supportx/a", "support/a/b", "support/", "support//a", "a/support/a", "support/*/"}},
		{"support/**", []string{"support/a", "support/a/b", "support/a/b/c"}, []string{"support", "supportx/a", "support/", "support//a", "support/a//b", "support/a/"}},
		{"*", []string{"a"}, []string{"a/b", "", "/a", "a/"}},
		{"**", []string{"a", "a/b"}, []string{"", "/a", "a//b"}},
		{"a/b/*", []string{"a/b/c"}, []string{"a/b", "a/c/b", "a/bb/c"}},
		{"sup*", []string{"sup*"}, []string{"support", "sup"}}, // a star inside a segment is no wildcard (and Validate refuses it)
	} {
		for _, name := range c.yes {
			assert.True(t, MatchPrompt(c.pattern, name), "%q must match %q", c.pattern, name)
		}
		for _, name := range c.no {
			assert.False(t, MatchPrompt(c.pattern, name), "%q must not match %q", c.pattern, name)
		}
	}
}

// naiveMatch splits instead of scanning.
func naiveMatch(pattern, name string) bool {
	ps, ns := strings.Split(pattern, "/"), strings.Split(name, "/")
	for _, s := range ns {
		if s == "" {
			return false
		}
	}
	last := ps[len(ps)-1]
	if last != "*" && last != "**" {
		return pattern == name
	}
	folder := ps[:len(ps)-1]
	if len(ns) <= len(folder) || (last == "*" && len(ns) != len(folder)+1) {
		return false
	}
	for i := range folder {
		if folder[i] != ns[i] {
			return false
		}
	}
	return true
}

func FuzzMatchPrompt(f *testing.F) {
	for _, s := range [][2]string{{"a/*", "a/b"}, {"a/**", "a/b/c"}, {"**", "x"}, {"*", "x/y"}, {"a", "a"}, {"a//**", "a//b"}, {"/**", "/a"}, {"/*", "a"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		got := MatchPrompt(pattern, name)
		if validPromptPattern(pattern) == nil {
			require.Equal(t, naiveMatch(pattern, name), got, "%q %q", pattern, name)
		}
		if got {
			require.True(t, segmented(name))
		}
	})
}

// Few letters and short names, so that patterns and names meet; two segments shorter than what allNames reaches.
func drawName(t *rapid.T, label string) string {
	return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab"}), 1, 3).Draw(t, label), "/")
}

func drawPattern(t *rapid.T, label string) string {
	tail := rapid.SampledFrom([]string{"", "/*", "/**", "*", "**"}).Draw(t, label+" tail")
	if tail == "*" || tail == "**" {
		return tail
	}
	return drawName(t, label) + tail
}

func allNames() []string {
	names, level := []string{}, []string{""}
	for range 5 {
		var next []string
		for _, p := range level {
			for _, s := range []string{"a", "b", "ab"} {
				next = append(next, strings.TrimPrefix(p+"/"+s, "/"))
			}
		}
		names, level = append(names, next...), next
	}
	return names
}

// Covering and overlapping are what enumerating every name up to a depth says.
func TestPromptPatternsCompare(t *testing.T) {
	names := allNames()
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawPattern(t, "a"), drawPattern(t, "b")
		covers, overlaps := true, false
		for _, n := range names {
			inA, inB := naiveMatch(a, n), naiveMatch(b, n)
			require.Equal(t, inA, MatchPrompt(a, n), "%q %q", a, n)
			covers = covers && (inA || !inB)
			overlaps = overlaps || inA && inB
		}
		require.Equal(t, covers, coversPrompt(a, b), "%q covers %q", a, b)
		require.Equal(t, overlaps, overlapsPrompt(a, b), "%q overlaps %q", a, b)
	})
}

func naiveGlob(p, s string) bool {
	switch {
	case p == "":
		return s == ""
	case p[0] == '*':
		return naiveGlob(p[1:], s) || s != "" && naiveGlob(p, s[1:])
	}
	return s != "" && p[0] == s[0] && naiveGlob(p[1:], s[1:])
}

func TestModelPatternsCompare(t *testing.T) {
	var names []string
	level := []string{""}
	for range 6 {
		var next []string
		for _, p := range level {
			next = append(next, p+"a", p+"/", p+"z") // z is in no pattern: it stands for the open alphabet
		}
		names, level = append(names, next...), next
	}
	glob := rapid.StringMatching(`[a/*]{1,4}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := glob.Draw(t, "a"), glob.Draw(t, "b")
		covers, overlaps := true, false
		for _, n := range names {
			inA, inB := naiveGlob(a, n), naiveGlob(b, n)
			require.Equal(t, inA, MatchModel(a, n), "%q %q", a, n)
			covers = covers && (inA || !inB)
			overlaps = overlaps || inA && inB
		}
		require.Equal(t, overlaps, overlapsModel(a, b), "%q overlaps %q", a, b)
		if coversModel(a, b) {
			require.True(t, covers, "%q does not cover %q", a, b)
		}
	})
	assert.True(t, coversModel("gpt-*", "gpt-4*"))
	assert.True(t, coversModel("*", "openai/*"))
	assert.False(t, coversModel("gpt-4", "gpt-*"))
	assert.False(t, coversModel("gpt-4o*", "gpt-4*"))
	assert.False(t, MatchModel("*", ""))
}

func TestMatchLabel(t *testing.T) {
	for _, c := range []struct {
		pattern, label string
		want           bool
	}{
		{"*", "production", true}, {"*", LabelModel, true},
		{"*", LabelVersion, false}, {"*", "latest", false}, {"*", "**", false}, {"*", "", false},
		{LabelVersion, LabelVersion, true}, {"latest", "latest", true}, {"production", "production", true},
		{"production", "prod", false}, {"production", LabelVersion, false}, {"", "", false},
		{anyLabel, LabelVersion, true}, {anyLabel, "latest", true},
	} {
		assert.Equal(t, c.want, MatchLabel(c.pattern, c.label), "%q %q", c.pattern, c.label)
	}
}

func TestPatternsRefused(t *testing.T) {
	for _, p := range []string{"", "/", "a/", "/a", "a//b", "sup*", "a/*/b", "**/a", "a/***", "A", "a b", "-a", "a/../b", "a,b", "a\x00", strings.Repeat("a", 300)} {
		assert.Error(t, validPromptPattern(p), "%q", p)
	}
	for _, p := range []string{"a", "a/b", "a/*", "a/**", "*", "**", "a.b/c_d-e/9"} {
		assert.NoError(t, validPromptPattern(p), "%q", p)
	}
	for _, l := range []string{"", "**", "@", "@latest", "prod*", "9", "A", "a,b", strings.Repeat("a", 37)} {
		assert.Error(t, validLabelPattern(l), "%q", l)
	}
	for _, m := range []string{"", "a b", "a\n", "\xff", strings.Repeat("a", 201)} {
		assert.Error(t, validModelPattern(m), "%q", m)
	}
}

func TestAllowsAddr(t *testing.T) {
	p := Principal{Networks: []string{"10.1.2.3/8", "2001:db8::/32", "192.0.2.7", "::ffff:192.0.2.9"}}
	require.NoError(t, p.Compile())
	for addr, want := range map[string]bool{
		"10.200.0.1": true, "::ffff:10.200.0.1": true, "2001:db8::1": true, "2001:db8::1%eth0": true, "192.0.2.7": true, "192.0.2.9": true,
		"192.0.2.8": false, "11.0.0.1": false, "::1": false, "2001:db9::1": false,
	} {
		assert.Equal(t, want, p.AllowsAddr(netip.MustParseAddr(addr)), addr)
	}
	assert.False(t, p.AllowsAddr(netip.Addr{}))
	assert.True(t, (&Principal{}).AllowsAddr(netip.Addr{}), "without a list the address does not matter")
	assert.False(t, (&Principal{Networks: []string{"0.0.0.0/0"}}).AllowsAddr(netip.MustParseAddr("10.0.0.1")), "never compiled")
	for _, s := range []string{"", "10.0.0.0/33", "fe80::1%eth0", "::ffff:10.0.0.0/104", "10.0.0", "example.org"} {
		assert.Error(t, (&Principal{Networks: []string{s}}).Compile(), s)
	}
}

// A model is denied and allowed in whatever case it is spelled; and whoever is denied one is not allowed every one.
func TestModelsByAnyCase(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"gpt-4*", "GPT-4o", true}, {"GPT-4*", "gpt-4o", true}, {"*/Llama", "meta/llama", true}, {"gpt-4", "gpt-5", false}, {"é", "É", false},
	} {
		if got := MatchModel(c.pattern, c.name); got != c.want {
			t.Errorf("MatchModel(%q, %q) = %v", c.pattern, c.name, got)
		}
		if c.want && !overlapsModel(c.pattern, c.name) {
			t.Errorf("%q and %q do not overlap", c.pattern, c.name)
		}
	}
	every := Permission{Action: ActionCall, Kind: ObjectModel, Name: EveryModel}
	allow, some := Rule{Actions: []Action{ActionCall}, Kind: ObjectModel, Pattern: "*", Labels: []string{"*"}}, Rule{Actions: []Action{ActionCall}, Kind: ObjectModel, Pattern: "gpt-*", Labels: []string{"*"}}
	deny := some
	deny.Deny = true
	if !allow.Matches(every) || some.Matches(every) || !deny.Matches(every) {
		t.Error("every model is allowed by * alone, and denied by any denial")
	}
}

// A principal of several projects is one of a single project before anything is judged, and carries nothing of the others along.
