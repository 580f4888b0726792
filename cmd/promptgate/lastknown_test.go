package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/testenv"
)

// outage is a site whose database a test takes away.
type outage struct {
	*site
	t     *testing.T
	pg    *testenv.PostgresServer
	fresh string // a key that no replica has ever seen
	calls int    // that were answered 200
}

func newOutage(t *testing.T, more string) *outage {
	t.Helper()
	o := &outage{t: t, pg: testenv.OwnPostgres(t)}
	o.site = newSite(t, o.pg.Schema(t), testenv.Redis(t).Addr, more)
	o.fresh = o.createKey("--role", "admin", "--call", "**")
	return o
}

// serves demands a 200 and returns the answer.
func (o *outage) serves(p *process, header ...string) answer {
	o.t.Helper()
	got := p.chat(header...)
	require.Equal(o.t, http.StatusOK, got.status, "%s", got)
	o.calls++
	return got
}

// refuses demands the one answer for what cannot be looked up: 503, soon, and never a 401 or a 404.
func (o *outage) refuses(what string, got answer) {
	o.t.Helper()
	require.NoError(o.t, got.err, what)
	require.Equal(o.t, http.StatusServiceUnavailable, got.status, "%s: %s", what, got)
	require.Equal(o.t, "registry_unavailable", got.errorCode(), "%s: %s", what, got)
	require.Less(o.t, got.took, coldWithin, what)
	require.NotEmpty(o.t, got.header.Get("Retry-After"), what)
	o.t.Logf("%s: 503 after %s", what, got.took)
}

// refusesTheCold asks for what the replica has never served.
func (o *outage) refusesTheCold(p *process) {
	o.t.Helper()
	cold := strings.Replace(allOfDesk, "desk/answer", "desk/cold", 1)
	o.refuses("cold prompt", p.send("POST", "/v1/chat/completions", cold))
	o.refuses("unknown prompt", p.send("POST", "/v1/chat/completions", strings.Replace(allOfDesk, "desk/answer", "no/such", 1)))
	o.refuses("cold label", p.send("POST", "/v1/chat/completions", strings.Replace(allOfDesk, "production", "staging", 1)))
	o.refuses("cold key", send(p.url, o.fresh, "POST", "/v1/chat/completions", allOfDesk))
}

type readyAnswer struct {
	Status string
	Age    float64 `json:"revision_age_seconds"`
	Checks []struct {
		Name string
		OK   bool
	}
}

func readiness(p *process) (r readyAnswer, status int) {
	a := p.send("GET", "/readyz?verbose", "")
	_ = json.Unmarshal([]byte(a.body), &r)
	return r, a.status
}

func (r readyAnswer) ok(name string) bool {
	for _, c := range r.Checks {
		if c.Name == name {
			return c.OK
		}
	}
	return false
}

// seed makes the desk on two versions and a prompt that is never called.
func (o *outage) seed(p *process) {
	o.t.Helper()
	desk(p, 2)
	p.change("POST", "/prompts", fmt.Sprintf(`{"name":"desk/cold","content":`+deskContent+`}`, 1))
	p.change("PUT", "/prompts/desk%2Fcold/labels/production", `{"version":1}`)
	p.change("PUT", "/prompts/desk%2Fanswer/labels/staging", `{"version":2}`)
}

// TestDatabaseLost: what is warm is served, what is not is refused as unavailable, a restart serves what was served last, and all of
// it ends by itself when the database is back.
func TestDatabaseLost(t *testing.T) {
	t.Parallel()
	o := newOutage(t, "")
	dataB := t.TempDir()
	a, b := o.replica(t.TempDir()), o.replica(dataB)
	o.seed(a)
	moved := moveDesk(a, 1)
	for _, p := range []*process{a, b} {
		fresh := o.serves(p, "X-Promptgate-Min-Revision", moved.revision())
		require.Empty(t, fresh.header.Get("X-Promptgate-Stale"))
		r, status := readiness(p)
		require.Equal(t, "ready", r.Status)
		require.Equal(t, http.StatusOK, status)
	}

	o.pg.Stop(t)
	for _, p := range []*process{a, b} {
		took := until(t, 20*time.Second, "no answer says that it may be stale", func() bool {
			return o.serves(p).header.Get("X-Promptgate-Stale") != ""
		})
		t.Logf("answers say that they may be stale after %s", took)
		r, status := readiness(p)
		require.Equal(t, "degraded", r.Status)
		require.Equal(t, http.StatusOK, status, "a replica that serves must stay in service")
		require.False(t, r.ok("database"))
		require.Greater(t, r.Age, 1.0)
		o.refusesTheCold(p)
		o.refuses("write", p.send("PUT", "/api/v1/prompts/desk%2Fanswer/labels/production", `{"version":2}`))
		o.refuses("read", p.send("GET", "/api/v1/prompts/desk%2Fanswer/versions", ""))
		require.Equal(t, http.StatusUnauthorized, send(p.url, "pg_nonsense", "POST", "/v1/chat/completions", allOfDesk).status)
		require.Equal(t, 1, strings.Count(p.log.String(), "database lost"), "one line for each change of state\n%s", p.log)
	}

	b.stop()
	b = o.replica(dataB)
	require.NotEmpty(t, o.serves(b).header.Get("X-Promptgate-Stale"), "what was read from the file must say how old it is")
	r, _ := readiness(b)
	require.Equal(t, "degraded", r.Status)
	o.refusesTheCold(b)
	o.refuses("write", b.send("PUT", "/api/v1/prompts/desk%2Fanswer/labels/production", `{"version":2}`))

	o.pg.Restart(t)
	for _, p := range []*process{a, b} {
		took := until(t, 30*time.Second, "not ready after the database came back", func() bool {
			r, _ := readiness(p)
			return r.Status == "ready"
		})
		t.Logf("ready %s after the database was back", took)
		until(t, 10*time.Second, "still stale", func() bool { return o.serves(p).header.Get("X-Promptgate-Stale") == "" })
	}
	late := moveDesk(a, 2)
	require.Equal(t, 2, o.serves(b, "X-Promptgate-Min-Revision", late.revision()).version())
	got := send(b.url, o.fresh, "POST", "/v1/chat/completions", allOfDesk)
	require.Equal(t, http.StatusOK, got.status, "%s", got)
	o.calls++
	o.everyCallIsRecorded(a)
	t.Logf("%d calls answered 200 through an outage and a restart, all recorded", o.calls)
}

// everyCallIsRecorded compares the calls that were answered 200 with the ledger: not one less, not one more.
func (o *outage) everyCallIsRecorded(p *process) {
	o.t.Helper()
	recorded := 0
	until(o.t, 30*time.Second, "calls are missing in the ledger", func() bool {
		recorded = 0
		for _, c := range listCalls(p) {
			if c.Outcome == "ok" {
				recorded++
			}
		}
		return recorded >= o.calls
	})
	require.Equal(o.t, o.calls, recorded)
}

type recordedCall struct {
	ID, Outcome string
	Stream      bool
	ErrorCode   string `json:"error_code"`
	Tokens      *struct {
		Output    int64
		Estimated bool
	}
}

// listCalls reads every page.
func listCalls(p *process) (all []recordedCall) {
	p.t.Helper()
	for after := ""; ; {
		var page struct {
			Calls []recordedCall
			Next  string
		}
		a := p.change("GET", "/calls?limit=200&after="+after, "")
		require.NoError(p.t, json.Unmarshal([]byte(a.body), &page))
		all = append(all, page.Calls...)
		if after = page.Next; after == "" {
			return all
		}
	}
}

// TestDatabaseFrozen: a database that accepts connections and answers nothing holds up nobody.
func TestDatabaseFrozen(t *testing.T) {
	t.Parallel()
	o := newOutage(t, "")
	data := t.TempDir()
	a := o.replica(data)
	o.seed(a)
	o.serves(a)
	o.pg.Pause()
	until(t, 20*time.Second, "no answer says that it may be stale", func() bool { return o.serves(a).header.Get("X-Promptgate-Stale") != "" })
	o.refusesTheCold(a)
	a.stop()
	a = o.replica(data)
	require.NotEmpty(t, o.serves(a).header.Get("X-Promptgate-Stale"))
	o.pg.Resume()
	until(t, 30*time.Second, "still stale", func() bool { return o.serves(a).header.Get("X-Promptgate-Stale") == "" })
	require.Equal(t, 2, o.serves(a, "X-Promptgate-Min-Revision", moveDesk(a, 2).revision()).version())
}

// TestStaleIsBounded: past stale.keys nothing is served, since a revocation may have been missed; past stale.prompts neither.
func TestStaleIsBounded(t *testing.T) {
	t.Parallel()
	for _, bound := range []string{"stale: {after: 200ms, keys: 2s}\n", "stale: {after: 200ms, prompts: 2s}\n"} {
		t.Run(bound, func(t *testing.T) {
			o := newOutage(t, bound)
			data := t.TempDir()
			p := o.replica(data)
			o.seed(p)
			o.serves(p)
			o.pg.Stop(t)
			var last answer
			until(t, 30*time.Second, "served for ever", func() bool {
				last = p.chat()
				return last.status != http.StatusOK
			})
			o.refuses("past the bound", last)
			start := time.Now()
			p.stop()
			t.Logf("stopping without the database takes %s", time.Since(start))
			p = o.replica(data) // a restart is no way round it
			o.refuses("past the bound, started again", p.chat())
			o.pg.Restart(t)
			until(t, 30*time.Second, "not served again", func() bool { return p.chat().status == http.StatusOK })
		})
	}
}

// TestLastKnownGoodRefusals: a start without the database says why it cannot be when the file is missing, altered, cut or sealed by another
// key; with the database the file does not matter.
func TestLastKnownGoodRefusals(t *testing.T) {
	t.Parallel()
	o := newOutage(t, "")
	data := t.TempDir()
	p := o.replica(data)
	o.seed(p)
	o.serves(p)
	p.stop()
	name := filepath.Join(data, lastKnownName)
	good, err := os.ReadFile(name)
	require.NoError(t, err)
	info, err := os.Stat(name)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	for _, secret := range []string{"desk/answer", "Answer 1", `"echo"`, o.key} {
		require.NotContains(t, string(good), secret)
	}
	line := bytes.IndexByte(good, '\n')
	require.Positive(t, line)
	flipped := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 1
		return b
	}
	require.NoError(t, os.WriteFile(name, flipped(len(good)-1), 0o600))
	q := o.replica(data)
	require.Equal(t, http.StatusOK, q.chat().status, "with the database the file does not matter")
	moveDesk(q, 2)
	o.serves(q)
	q.stop()
	newest, err := os.ReadFile(name)
	require.NoError(t, err)
	o.pg.Stop(t)
	refused := func(t *testing.T, folder, config string, words ...string) {
		t.Helper()
		q := launchGateway(t, folder, nil, "--config", config)
		require.Equal(t, exitFailed, q.ended(30*time.Second), "%s", q.log)
		for _, w := range append(words, "database cannot be reached", lastKnownName) {
			require.Contains(t, q.log.String(), w)
		}
		require.NotContains(t, q.log.String(), "panic")
	}
	for what, c := range map[string]struct {
		text []byte
		word string
	}{
		"altered":               {flipped(len(good) - 1), "was altered"},
		"altered in the middle": {flipped((line + len(good)) / 2), "was altered"},
		"altered keys":          {flipped(line / 2), ""},
		"cut":                   {good[:len(good)-40], "was altered"},
		"cut to its head":       {good[:line], "was altered"},
		"empty":                 {nil, "not written by this version"},
		"other format":          {[]byte(`{"promptgate_last_known_good":9}` + "\n"), "not written by this version"},
	} {
		t.Run(what, func(t *testing.T) {
			require.NoError(t, os.WriteFile(name, c.text, 0o600))
			refused(t, data, o.config, c.word)
		})
	}
	t.Run("missing", func(t *testing.T) { refused(t, t.TempDir(), o.config, "there is no") })
	t.Run("another master key", func(t *testing.T) {
		require.NoError(t, os.WriteFile(name, good, 0o600))
		refused(t, data, bareSite(t, o.pg.URL, "", "").config)
	})
	t.Run("from before a change that was seen", func(t *testing.T) {
		require.NoError(t, os.WriteFile(name, good, 0o600))
		refused(t, data, o.config, "is older than the one that was written here last")
	})
	t.Run("as it was", func(t *testing.T) {
		require.NoError(t, os.WriteFile(name, newest, 0o600))
		require.Equal(t, http.StatusOK, o.replica(data).chat().status)
	})
}
