package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// long says whether the long forms of tests run: `make kill`, `make linear`.
func long() bool { return os.Getenv(longTests) == "1" }

// killPrompt is one prompt that one connection writes to, and what was acknowledged of it.
type killPrompt struct {
	name     string
	versions []string // digests, by number from 1; "" where the answer never came
	label    int      // where production points for sure …
	moves    []int    // … unless one of these went through, whose answers never came
	revision int64    // of the last acknowledged change
}

func (k *killPrompt) path(more string) string {
	return "/prompts/" + strings.ReplaceAll(k.name, "/", "%2F") + more
}

// text tells each version from every other one, and is long enough to be torn.
func (k *killPrompt) text(version int) string {
	return fmt.Sprintf("%s version %d %s end", k.name, version, strings.Repeat("0123456789", 20))
}

// write makes changes until the gateway is gone: a version, a move to it, again and again. It returns what was acknowledged.
func (k *killPrompt) write(url, key string) (acknowledged int) {
	for {
		number := len(k.versions) + 1
		body := fmt.Sprintf(`{"content":{"messages":[{"role":"user","content":%q}],"model":"echo"},"note":"n%d"}`, k.text(number), number)
		a := send(url, key, "POST", "/api/v1"+k.path("/versions"), body)
		if a.err != nil || a.status >= 300 {
			return acknowledged
		}
		var v struct {
			Version int
			Digest  string
		}
		if json.Unmarshal([]byte(a.body), &v) != nil || v.Version != number {
			return -1
		}
		k.versions = append(k.versions, v.Digest)
		acknowledged++
		k.moves = []int{number}
		a = send(url, key, "PUT", "/api/v1"+k.path("/labels/production"), fmt.Sprintf(`{"version":%d}`, number))
		if a.err != nil || a.status >= 300 {
			return acknowledged
		}
		var l struct{ Revision int64 }
		if json.Unmarshal([]byte(a.body), &l) != nil || l.Revision <= k.revision {
			return -1
		}
		k.label, k.moves, k.revision = number, nil, l.Revision
		acknowledged++
	}
}

type killState struct {
	Versions []struct {
		Version int
		Digest  string
		Content *struct {
			Messages []struct{ Content string }
		}
	}
	Labels []struct {
		Label    string
		Version  int
		Revision int64
	}
}

// check compares what a started gateway says with what was acknowledged, and takes in what went through without an answer. from is
// the first version to look at whole.
func (k *killPrompt) check(t *testing.T, p *process, from int) {
	t.Helper()
	var found killState
	a := p.change("GET", k.path("/versions?limit=1"), "")
	require.NoError(t, json.Unmarshal([]byte(a.body), &found))
	newest := 0
	if len(found.Versions) > 0 {
		newest = found.Versions[0].Version
	}
	require.GreaterOrEqual(t, newest, len(k.versions), "%s: an acknowledged version is lost", k.name)
	require.LessOrEqual(t, newest, len(k.versions)+1, "%s: there is a version that nobody wrote", k.name)
	if newest > len(k.versions) {
		k.versions = append(k.versions, "") // it went through; its answer was lost
	}
	for number := from; number <= newest; number++ {
		k.checkVersion(t, p, number)
	}
	k.checkLabel(t, p)
}

// checkVersion demands a whole version: its text to the end, under the digest that was answered.
func (k *killPrompt) checkVersion(t *testing.T, p *process, number int) {
	t.Helper()
	var v struct {
		Digest  string
		Content struct {
			Messages []struct{ Content string }
		}
	}
	a := p.change("GET", k.path(fmt.Sprintf("/versions/%d", number)), "")
	require.NoError(t, json.Unmarshal([]byte(a.body), &v))
	require.Len(t, v.Content.Messages, 1, "%s@%d: half a version", k.name, number)
	require.Equal(t, k.text(number), v.Content.Messages[0].Content, "%s@%d", k.name, number)
	if want := k.versions[number-1]; want != "" {
		require.Equal(t, want, v.Digest, "%s@%d", k.name, number)
	}
	k.versions[number-1] = v.Digest
}

// checkLabel demands that production points where it was put last, and that a call by it is answered by that version.
func (k *killPrompt) checkLabel(t *testing.T, p *process) {
	t.Helper()
	var found killState
	a := p.change("GET", k.path("/labels"), "")
	require.NoError(t, json.Unmarshal([]byte(a.body), &found))
	if len(found.Labels) == 0 {
		require.Zero(t, k.label, "%s: the label is lost", k.name)
		return
	}
	l := found.Labels[0]
	if l.Version != k.label {
		require.Contains(t, k.moves, l.Version, "%s: production was put on %d", k.name, k.label)
	}
	require.GreaterOrEqual(t, l.Revision, k.revision)
	k.label, k.moves, k.revision = l.Version, nil, l.Revision
	got := p.send("POST", "/v1/chat/completions", fmt.Sprintf(`{"prompt":{"id":%q,"label":"production"}}`, k.name))
	require.Equal(t, http.StatusOK, got.status, "%s", got)
	require.Equal(t, k.label, got.version())
	require.Contains(t, got.body, k.text(k.label))
}

// TestKilledWhileWriting: kill -9 at random moments of heavy writing loses nothing that was acknowledged, leaves nothing half done, and
// the journal verifies. The long form is `make kill`.
func TestKilledWhileWriting(t *testing.T) {
	rounds := 8
	if long() {
		rounds = 200
	}
	data := t.TempDir()
	prompts := make([]*killPrompt, 8)
	for i := range prompts {
		prompts[i] = &killPrompt{name: fmt.Sprintf("kill/p%d", i)}
	}
	total, writing := 0, time.Duration(0)
	looked := make([]int, len(prompts)) // at so many versions, whole; at all of them once more at the end
	for round := range rounds {
		p := startGateway(t, data, nil, "--demo")
		for i, k := range prompts {
			if round == 0 {
				p.change("POST", "/prompts", fmt.Sprintf(`{"name":%q}`, k.name))
			}
			k.check(t, p, looked[i]+1)
			looked[i] = len(k.versions)
		}
		acknowledged := make([]int, len(prompts))
		start := time.Now()
		var writers sync.WaitGroup
		for i, k := range prompts {
			writers.Go(func() { acknowledged[i] = k.write(p.url, p.key) })
		}
		time.Sleep(50*time.Millisecond + rand.N(350*time.Millisecond)) // the moment of the kill, not a wait for anything
		writing += time.Since(start)
		p.kill()
		writers.Wait()
		for i, n := range acknowledged {
			require.GreaterOrEqual(t, n, 0, "%s: an answer made no sense", prompts[i].name)
			total += n
		}
	}
	p := startGateway(t, data, nil, "--demo")
	changes := 0
	for _, k := range prompts {
		k.check(t, p, 1)
		changes += len(k.versions)
	}
	p.stop()
	out, errOut, code := runCLI(t, nil, "audit", "verify", "--data", data)
	require.Zero(t, code, "%s%s", out, errOut)
	require.Contains(t, out, "the journal is as it was written")
	require.Greater(t, total, rounds, "hardly anything was written")
	t.Logf("%d kills during %.0f writes/s: %d changes acknowledged, %d versions there, none lost, none half; %s",
		rounds, float64(total)/writing.Seconds(), total, changes, strings.TrimSpace(strings.ReplaceAll(out, "\n", "; ")))
}
