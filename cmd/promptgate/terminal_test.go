package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const hostile = "a\x1b]0;owned\x07\x1b[2J\u009b31m\u202egpj.exe\r\nadmin\tall\x7f"

// TestTheTerminalOnlyShows: whatever comes in whatever pieces, nothing goes out that a terminal may act on, and other text goes out as it is.
func TestTheTerminalOnlyShows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.OneOf(rapid.StringMatching(`[ -~äß字🦊\x{0}-\x{9f}\x{202a}-\x{202e}\x{2066}-\x{2069}]*`), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "in")
		var out bytes.Buffer
		w := &terminal{to: &out}
		for rest := in; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			_, err := w.Write([]byte(rest[:n]))
			require.NoError(t, err)
			rest = rest[n:]
		}
		require.True(t, utf8.Valid(out.Bytes()))
		plain := utf8.ValidString(in)
		for _, r := range in {
			plain = plain && (r == '\n' || r == '\t' || !unicode.IsControl(r) && !unicode.Is(unicode.Bidi_Control, r))
		}
		for _, r := range out.String() {
			require.False(t, r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)), "%q", out.String())
		}
		if plain {
			require.Equal(t, in, out.String())
		}
	})
}

// TestStoredTextIsOnlyShown drives every command that prints what others stored against a gateway whose every text is hostile.
func TestStoredTextIsOnlyShown(t *testing.T) {
	s := strings.NewReplacer("HOSTILE", strings.Trim(quoted(hostile), `"`))
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Has("after") && q.Get("after") == "" { // as the management API does
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = w.Write([]byte(s.Replace(`{"name":"HOSTILE","version":1,"latest_version":1,"revision":1,"id":"HOSTILE",
			"prompts":[{"name":"HOSTILE","description":"HOSTILE","archived":true,"latest_version":1}],
			"labels":[{"name":"HOSTILE","version":1}],
			"versions":[{"version":1,"author":"HOSTILE","note":"HOSTILE","digest":"HOSTILE"}],
			"events":[{"label":"HOSTILE","actor":"HOSTILE","why":"HOSTILE"}],
			"keys":[{"id":"HOSTILE","name":"HOSTILE","last_four":"HOSTILE","roles":["HOSTILE"],"grants":[{"actions":["call"],"prompts":["support/**"],"labels":["HOSTILE"]}]}],
			"changed":["HOSTILE"],"messages":[{"unified":"-HOSTILE\n"}],"fields":[{"field":"HOSTILE","from":"HOSTILE"}],
			"access_changes":[{"key":"HOSTILE","name":"HOSTILE","loses":["HOSTILE"]}]}`)))
	}))
	t.Cleanup(gateway.Close)
	for _, args := range [][]string{
		{"prompt", "list", "--archived"}, {"prompt", "history", "x"}, {"prompt", "diff", "x", "1", "2"}, {"prompt", "rename", "x", "y"},
		{"prompt", "label", "x", "l", "1"}, {"prompt", "rollback", "x", "l"}, {"key", "list"}, {"key", "revoke", "k"},
	} {
		out, errOut, code := runHere(t, append(args, "--url", gateway.URL, "--key", "pg_x")...)
		require.Zero(t, code, "%v: %s", args, errOut)
		require.NotEmpty(t, out)
		for _, r := range out + errOut {
			require.False(t, r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)), "%v: %q", args, out)
		}
		if args[1] != "diff" { // whose texts have lines
			require.NotContains(t, out, "\nadmin", "%v: a line of its own", args)
		}
	}
	out, _, _ := runHere(t, "key", "list", "--url", gateway.URL, "--key", "pg_x")
	require.Contains(t, out, "call support/**@")
	out, _, _ = runHere(t, "prompt", "list", "--archived", "--url", gateway.URL, "--key", "pg_x")
	require.Contains(t, out, "archived")
}

func quoted(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < ' ' {
			b.WriteString(`\u00` + string("0123456789abcdef"[r>>4]) + string("0123456789abcdef"[r&15]))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// TestTablesAreMadeInOnePlace: a table made elsewhere would print what stands in its cells.
func TestTablesAreMadeInOnePlace(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		if name != "terminal.go" && !strings.HasSuffix(name, "_test.go") {
			require.NotContains(t, string(text), "text/tabwriter", "%s: use newTable", name)
			if name != "main.go" {
				require.NotContains(t, string(text), "os.Stdout", "%s: write to the command's streams", name)
			}
		}
	}
}

func TestLifetimes(t *testing.T) {
	for said, want := range map[string]time.Duration{"30d": 720 * time.Hour, "2w": 336 * time.Hour, "90m": 90 * time.Minute} {
		var l lifetime
		require.NoError(t, l.UnmarshalText([]byte(said)))
		require.Equal(t, want, time.Duration(l))
	}
	for _, said := range []string{"", "d", "-1d", "0d", "30", "1y", "0h", "999999999d"} {
		var l lifetime
		require.ErrorContains(t, l.UnmarshalText([]byte(said)), "write 30d", said)
	}
}
