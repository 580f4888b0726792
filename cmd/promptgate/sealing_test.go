package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/reseal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/template"
)

// sealHouse is an installation with a project, and replicas of it that follow the journal.
type sealHouse struct {
	t       *testing.T
	cfg     configs.Config
	project registry.Project
	prompt  registry.Prompt
}

func newSealHouse(t *testing.T, url string) *sealHouse {
	h := &sealHouse{t: t, cfg: configs.Default()}
	h.cfg.Data, h.cfg.Database.URL = t.TempDir(), url
	h.cfg.Encryption.MasterKey = strings.Repeat("A", 43) + "="
	s, _ := h.replica()
	var err error
	h.project, err = s.ensureProject(t.Context(), stage, "shop")
	require.NoError(t, err)
	h.prompt, err = s.service.CreatePrompt(t.Context(), stage, registry.PromptInput{Project: h.project.ID, Name: "a/b", First: &registry.FirstVersion{Content: sealText("first")}})
	require.NoError(t, err)
	_, err = s.providers.CreateProvider(t.Context(), stage, provider.Definition{
		Project: h.project.ID, Name: "own", Kind: "openai", BaseURL: "https://api.example.com/v1", Enabled: true, Credential: provider.NewSecret("sk-canary"),
	})
	require.NoError(t, err)
	u, err := s.keys.CreateUser(t.Context(), stage, policy.User{Email: "ana@example.com", State: policy.UserActive})
	require.NoError(t, err)
	sealed, err := s.sealer.Seal([]byte("hash"), policy.PasswordBind(u.ID))
	require.NoError(t, err)
	_, err = s.keys.SetPassword(t.Context(), stage, policy.Password{UserID: u.ID, Sealed: sealed})
	require.NoError(t, err)
	return h
}

// password is the one that was made, opened.
func (h *sealHouse) password(s *stores) string {
	h.t.Helper()
	u, err := s.keys.UserByEmail(h.t.Context(), "ana@example.com")
	require.NoError(h.t, err)
	kept, err := s.keys.PasswordOf(h.t.Context(), u.ID)
	require.NoError(h.t, err)
	plain, err := s.sealer.Open(kept.Sealed, policy.PasswordBind(u.ID))
	require.NoError(h.t, err)
	return string(plain)
}

func sealText(s string) template.Content {
	return template.Content{Model: "echo", Messages: []template.Message{{Role: "user", Text: s}}}
}

// replica opens the database as another process would, and runs what follows changes.
func (h *sealHouse) replica() (*stores, *reseal.Runner) {
	h.t.Helper()
	s, err := openStores(h.t.Context(), h.cfg, slog.New(slog.DiscardHandler), nil, false)
	require.NoError(h.t, err)
	require.NoError(h.t, s.load(h.t.Context()))
	ledger := s.db
	if !h.cfg.Postgres() {
		ledger, err = sqldb.Open(h.t.Context(), sqldb.Options{URL: h.cfg.LedgerURL()})
		require.NoError(h.t, err)
	}
	require.NoError(h.t, sqldb.Migrate(h.t.Context(), ledger, slog.New(slog.DiscardHandler), sqldb.Ledger))
	r := s.sealing(ledger, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	loops.Go(func() { _ = s.feed.Run(ctx) })
	loops.Go(func() { _ = s.sealer.Run(ctx) })
	h.t.Cleanup(func() {
		cancel()
		loops.Wait()
		if ledger != s.db {
			_ = ledger.Close()
		}
		s.close()
	})
	return s, r
}

// fast is the runner of a replica with small steps and a short wait.
func fast(s *stores) *reseal.Runner {
	return reseal.New(reseal.Options{
		DB: s.db, Journal: s.feed.Journal, Sealer: s.sealer, Projects: s.projectIDs, Settle: 1500 * time.Millisecond, Batch: 7,
		Columns: sealColumns(s),
	})
}

// TestSealRotatesOnline: two replicas write and read while keys are rotated and everything is sealed again, both interrupted half-way and gone on with
// by the other replica: no failure, no row that cannot be read, and the old keys are gone at the end, not before.
func TestSealRotatesOnline(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		h := newSealHouse(t, url)
		a, _ := h.replica()
		b, _ := h.replica()
		before := a.sealer.Primary(h.project.ID)
		for i := range 60 {
			_, err := a.service.SaveVersion(t.Context(), stage, registry.VersionInput{Project: h.project.ID, PromptID: h.prompt.ID, Content: sealText(fmt.Sprint("old ", i))})
			require.NoError(t, err)
		}
		var failures, writes, reads atomic.Int64
		stop := make(chan struct{})
		var load sync.WaitGroup
		for i, s := range []*stores{a, b} {
			load.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
					}
					text := fmt.Sprintf("replica %d write %d", i, n)
					saved, err := s.service.SaveVersion(t.Context(), stage, registry.VersionInput{Project: h.project.ID, PromptID: h.prompt.ID, Content: sealText(text)})
					if !assert.NoError(t, err) {
						failures.Add(1)
						continue
					}
					writes.Add(1)
					for at, other := range []*stores{b, a} { // the other one first: it may not have heard of the key
						v, err := other.registry.VersionOf(t.Context(), h.project.ID, h.prompt.ID, saved.Version.Number)
						if !assert.NoError(t, err, at) || !assert.Equal(t, text, v.Content.Messages[0].Text) {
							failures.Add(1)
						}
						reads.Add(1)
					}
				}
			})
		}
		// cut runs a job until it has come to a phase, as a process that is killed there, and lets the other replica go on.
		cut := func(kind reseal.Kind, phase string) *reseal.Job {
			job, err := fast(a).Start(t.Context(), stage, kind, time.Hour)
			require.NoError(t, err)
			_, err = fast(b).Start(t.Context(), stage, kind, time.Hour)
			require.True(t, fault.Is(err, fault.Conflict), "%v", err)
			ctx, kill := context.WithCancel(t.Context())
			_, err = fast(a).Follow(ctx, job.ID, func(j *reseal.Job) {
				if j.Phase == phase {
					kill()
				}
			})
			require.ErrorIs(t, err, context.Canceled, "never came to %q", phase)
			_, err = b.db.ExecContext(t.Context(), "UPDATE journal_seal_jobs SET lease_until = 0") // half a minute later
			require.NoError(t, err)
			ended, err := fast(b).Follow(t.Context(), job.ID, func(*reseal.Job) {})
			require.NoError(t, err)
			require.Equal(t, reseal.Done, ended.State, ended.Failure)
			return ended
		}
		cut(reseal.Rotate, "waiting for replicas to read the new keys")
		require.Eventually(t, func() bool {
			return a.sealer.Primary(h.project.ID) != before && b.sealer.Primary(h.project.ID) == a.sealer.Primary(h.project.ID)
		}, 10*time.Second, 5*time.Millisecond)
		cut(reseal.Reencrypt, "sealing again")
		close(stop)
		load.Wait()
		require.Zero(t, failures.Load())
		require.Greater(t, writes.Load(), int64(20))

		use, err := fast(a).Use(t.Context())
		require.NoError(t, err)
		require.Len(t, use.Held[1].Keys, 2, "an old key stays while it may be needed")
		job, err := fast(a).Start(t.Context(), stage, reseal.Reencrypt, time.Microsecond)
		require.NoError(t, err)
		ended, err := fast(a).Follow(t.Context(), job.ID, func(*reseal.Job) {})
		require.NoError(t, err)
		require.Equal(t, reseal.Done, ended.State, ended.Failure)
		use, err = fast(a).Use(t.Context())
		require.NoError(t, err)
		require.Zero(t, use.Stale())
		for _, held := range use.Held {
			require.Len(t, held.Keys, 1, "project %q: the old key is gone", held.Project)
		}
		fresh, _ := h.replica()
		require.Equal(t, "hash", h.password(fresh))
		p, err := fresh.registry.PromptByHandle(t.Context(), h.project.ID, "a/b")
		require.NoError(t, err)
		for n := 1; n <= p.LatestVersion; n++ {
			_, err := fresh.registry.VersionOf(t.Context(), h.project.ID, p.ID, n)
			require.NoError(t, err, "version %d", n)
		}
		defs, _, err := fresh.providers.Load(t.Context(), h.project.ID)
		require.NoError(t, err)
		require.Equal(t, "sk-canary", defs[0].Credential.Reveal())
		_, err = verifyAll(t.Context(), fresh, &streams{out: io.Discard, err: io.Discard})
		require.NoError(t, err)
	})
}

// TestSealShredsAProject: texts are gone on every replica, the other project's are not, the chain stays whole, and putting the keys' row back helps nobody.
func TestSealShredsAProject(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		h := newSealHouse(t, url)
		a, r := h.replica()
		b, _ := h.replica()
		other, err := a.ensureProject(t.Context(), stage, "desk")
		require.NoError(t, err)
		kept, err := a.service.CreatePrompt(t.Context(), stage, registry.PromptInput{Project: other.ID, Name: "a/b", First: &registry.FirstVersion{Content: sealText("kept")}})
		require.NoError(t, err)
		resolver, err := registry.NewResolver(b.registry, b.feed, registry.ResolverOptions{Shredded: b.sealer.Shredded})
		require.NoError(t, err)
		found, err := resolver.Identify(t.Context(), h.project.ID, "a/b")
		require.NoError(t, err)
		_, err = resolver.Resolve(t.Context(), found, registry.Selector{Kind: registry.SelectVersion, Version: 1})
		require.NoError(t, err)
		var row []byte
		require.NoError(t, a.db.NewRaw("SELECT keyset FROM journal_project_keys WHERE project = ?", h.project.ID).Scan(t.Context(), &row))

		_, err = r.Shred(t.Context(), stage, h.project.ID)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return b.sealer.Shredded(h.project.ID) }, 10*time.Second, time.Millisecond)
		_, err = resolver.Identify(t.Context(), h.project.ID, "a/b")
		require.True(t, fault.Is(err, fault.ProjectShredded), "%v", err)
		resolver.Forget(h.project.ID)
		require.Empty(t, resolver.Served().Versions)
		_, err = a.db.ExecContext(t.Context(), "UPDATE journal_project_keys SET keyset = ?, shredded_at = 0, revision = revision + 1 WHERE project = ?", row, h.project.ID)
		require.NoError(t, err)
		anew, _ := h.replica()
		for _, s := range []*stores{a, b, anew} {
			_, err = s.registry.VersionOf(t.Context(), h.project.ID, h.prompt.ID, 1)
			require.True(t, fault.Is(err, fault.ProjectShredded), "%v", err)
			_, _, err = s.providers.Load(t.Context(), h.project.ID)
			require.True(t, fault.Is(err, fault.ProjectShredded), "%v", err)
			_, err = s.service.SaveVersion(t.Context(), stage, registry.VersionInput{Project: h.project.ID, PromptID: h.prompt.ID, Content: sealText("more")})
			require.True(t, fault.Is(err, fault.ProjectShredded), "%v", err)
			v, err := s.registry.VersionOf(t.Context(), other.ID, kept.ID, 1)
			require.NoError(t, err)
			require.Equal(t, "kept", v.Content.Messages[0].Text)
		}
		tidied := "tidied up"
		_, err = anew.service.UpdateProject(t.Context(), stage, registry.ProjectUpdate{ID: h.project.ID, Revision: h.project.Revision, Description: &tidied})
		require.NoError(t, err, "what holds no text can be tidied up")
		var out bytes.Buffer
		_, err = verifyAll(t.Context(), anew, &streams{out: &out, err: io.Discard})
		require.NoError(t, err, out.String())
		entries, _, err := anew.feed.List(t.Context(), journal.Query{Project: h.project.ID, Limit: 50, Payloads: true})
		require.NoError(t, err)
		require.Equal(t, journal.ActionShredProject, entries[1].Action)
		for _, e := range entries {
			require.Empty(t, e.After, e.Action)
		}
	})
}

// Texts from before projects had keys are read, moved by sealing again, and only then can be shredded.
func TestSealMovesWhatWasMadeBefore(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		h := newSealHouse(t, url)
		s, _ := h.replica()
		early, err := s.ensureProject(t.Context(), stage, "early")
		require.NoError(t, err)
		_, err = s.db.ExecContext(t.Context(), "DELETE FROM journal_project_keys WHERE project = ?", early.ID)
		require.NoError(t, err)
		s, r := h.replica()
		p, err := s.service.CreatePrompt(t.Context(), stage, registry.PromptInput{Project: early.ID, Name: "a/b", First: &registry.FirstVersion{Content: sealText("early")}})
		require.NoError(t, err)
		use, err := r.Use(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2, use.Foreign(early.ID), "text and note")
		require.Zero(t, use.Foreign(h.project.ID), "a new project's are sealed by its own from the first on")
		_, err = r.Shred(t.Context(), stage, early.ID)
		require.True(t, fault.Is(err, fault.Conflict), "%v", err)
		require.ErrorContains(t, err, "seal reencrypt")
		job, err := r.Start(t.Context(), stage, reseal.Reencrypt, time.Hour)
		require.NoError(t, err)
		ended, err := r.Follow(t.Context(), job.ID, func(*reseal.Job) {})
		require.NoError(t, err)
		require.Equal(t, reseal.Done, ended.State, ended.Failure)
		fresh, again := h.replica()
		v, err := fresh.registry.VersionOf(t.Context(), early.ID, p.ID, 1)
		require.NoError(t, err)
		require.Equal(t, "early", v.Content.Messages[0].Text)
		_, err = again.Shred(t.Context(), stage, early.ID)
		require.NoError(t, err)
	})
}

func TestSealCommands(t *testing.T) {
	h := newSealHouse(t, "")
	data := h.cfg.Data
	t.Setenv("PROMPTGATE_ENCRYPTION_MASTER_KEY", h.cfg.Encryption.MasterKey)
	run := func(in string, args ...string) (string, int) {
		var out, errs bytes.Buffer
		code := run(t.Context(), append(args, "--data", data), &streams{in: strings.NewReader(in), out: &out, err: &errs})
		return out.String() + errs.String(), code
	}
	out, code := run("", "seal", "status")
	require.Zero(t, code, out)
	require.Contains(t, out, "(installation)")
	require.Contains(t, out, h.project.ID)
	out, code = run("", "seal", "rotate")
	require.Zero(t, code, out)
	out, code = run("", "seal", "reencrypt", "--drop-after", "1us")
	require.Zero(t, code, out)
	require.Contains(t, out, "sealing again: ")
	out, code = run("", "seal", "status", "--json")
	require.Zero(t, code, out)
	require.Contains(t, out, `"stale": 0`)
	out, code = run("desk\n", "project", "shred", "shop")
	require.Equal(t, exitUsage, code)
	require.Contains(t, out, "nothing was done")
	out, code = run("shop\n", "project", "shred", "shop")
	require.Zero(t, code, out)
	out, code = run("shop\n", "project", "shred", "shop")
	require.NotZero(t, code)
	require.Contains(t, out, "shredded already")
	out, code = run("", "audit", "verify")
	require.Zero(t, code, out)
	out, code = run("", "seal", "rewrap")
	require.Equal(t, exitUsage, code)
	require.Contains(t, out, "--to")
}
