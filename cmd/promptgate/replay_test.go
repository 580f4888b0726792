package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sharedcache"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy"
	policystore "github.com/promptgate/promptgate/policy/sqlstore"
)

// A key was revoked hours ago. Somebody kept its entry of Redis from before, which is sealed as it should be, and puts it back for a replica that has
// just started and heard of no change.
func TestAnOldEntryOfRedisIsNotBelieved(t *testing.T) {
	addr := testenv.Redis(t).Addr
	cfg := configs.Default()
	cfg.Data, cfg.Redis.Addrs = t.TempDir(), []string{addr}
	s, err := openStores(t.Context(), cfg, slog.New(slog.DiscardHandler), nil, false)
	require.NoError(t, err)
	defer s.close()
	p, err := s.ensureProject(t.Context(), stage, "shop")
	require.NoError(t, err)

	now := time.Now().Add(-3 * time.Hour)
	past := journal.New(s.db, s.sealer, journal.Options{Clock: func() time.Time { return now }})
	require.NoError(t, past.Load(t.Context()))
	store := policystore.New(s.db, past, func() time.Time { return now })
	system := &policy.Principal{ID: "system", Kind: policy.KindSystem, Project: p.ID}
	issued, err := s.issuer()
	require.NoError(t, err)
	key, err := store.CreateKey(t.Context(), stage, system, policy.KeyRecord{
		Project: p.ID, Name: "k", Roles: []string{policy.RoleAdmin}, Lookup: issued.Lookup, Hash: issued.Hash, LastFour: issued.LastFour,
	})
	require.NoError(t, err)
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	cache, err := sharedcache.New(sharedcache.Options{Client: client, Sealer: s.sealer, Revision: past.Revision, Prefix: cfg.Redis.Prefix, Budget: 5 * time.Second})
	require.NoError(t, err)
	_, err = sharedcache.Read(t.Context(), cache, sharedcache.Key{Kind: policy.TouchKey, ID: key.Lookup}, false, keyOf(store, key.Lookup))
	require.NoError(t, err)
	kept := map[string]string{}
	for _, name := range client.Keys(t.Context(), "*:"+policy.TouchKey+":*").Val() {
		kept[name] = client.Get(t.Context(), name).Val()
	}
	require.Len(t, kept, 1, "the entry is there")
	_, err = store.RevokeKey(t.Context(), stage, system, policy.Revocation{Project: p.ID, ID: key.ID, Force: true})
	require.NoError(t, err)
	require.NoError(t, s.feed.Keep())

	require.NoError(t, client.FlushAll(t.Context()).Err())
	for name, entry := range kept {
		require.NoError(t, client.Set(t.Context(), name, entry, time.Hour).Err())
	}
	restarted, err := openStores(t.Context(), cfg, slog.New(slog.DiscardHandler), nil, false)
	require.NoError(t, err)
	defer restarted.close()
	require.NoError(t, restarted.load(t.Context()))
	got, err := restarted.shared.keySource(restarted.keys).KeyByLookup(t.Context(), key.Lookup)
	require.NoError(t, err)
	require.False(t, got.RevokedAt.IsZero(), "the entry from before was believed")
}

func keyOf(s *policystore.Store, lookup string) func(ctx context.Context) (policy.KeyRecord, error) {
	return func(ctx context.Context) (policy.KeyRecord, error) { return s.KeyByLookup(ctx, lookup) }
}

// The whole database, journal included, as it was before a key was revoked: whoever saw more refuses it, running or started again, and so does a new
// replica with an anchor; audit verify names it. It counts again when its operator says so.
func TestADatabaseFromBeforeIsRefused(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		t.Parallel()
		o := newTakeover(t, url)
		s, ctx := o.running, t.Context()
		require.NoError(t, s.feed.Load(ctx))
		for _, table := range []string{"journal_head", "journal_events", "journal_payloads"} {
			o.exec("CREATE TABLE was_" + table + " AS SELECT * FROM " + table)
		}
		for table := range o.tables {
			o.exec("CREATE TABLE was_" + table + " AS SELECT * FROM " + table)
		}
		_, id, err := s.createKey(ctx, stage, o.project[0], admin.KeyCreate{Name: "later"})
		require.NoError(t, err)
		require.NoError(t, s.feed.Keep())
		report, err := s.feed.Verify(ctx)
		require.NoError(t, err)
		for _, table := range []string{"journal_payloads", "journal_events", "journal_head"} {
			o.exec("DELETE FROM " + table)
		}
		for _, table := range []string{"journal_head", "journal_events", "journal_payloads"} {
			columns := strings.Join(columnsOf(t, s.db)[table], ", ")
			o.exec("INSERT INTO " + table + " (" + columns + ") SELECT " + columns + " FROM was_" + table)
		}
		for table := range o.tables {
			columns := strings.Join(o.tables[table], ", ")
			o.exec("DELETE FROM " + table)
			o.exec("INSERT INTO " + table + " (" + columns + ") SELECT " + columns + " FROM was_" + table)
		}

		_, err = s.keys.KeyByID(ctx, o.project[0], id)
		require.Error(t, err, "the running one")
		_, _, err = s.createKey(ctx, stage, o.project[0], admin.KeyCreate{Name: "forked"})
		require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err), "nothing is written on top of it: %v", err)
		again := o.open()
		require.ErrorContains(t, again.feed.Load(ctx), "restore --accept", "started again")
		named, err := again.feed.Verify(ctx)
		require.NoError(t, err)
		require.Contains(t, named.Problems, journal.Problem{Revision: report.Head.Revision, Kind: journal.Anchored})

		fresh := o.cfg
		fresh.Data, fresh.Database.Anchor = t.TempDir(), report.Head.String()
		other, err := openStores(ctx, fresh, slog.New(slog.DiscardHandler), nil, false)
		require.NoError(t, err)
		defer other.close()
		require.ErrorContains(t, other.feed.Load(ctx), "restore --accept", "a new one with an anchor")

		file := filepath.Join(t.TempDir(), "c.yaml")
		text, err := json.Marshal(map[string]any{"database": map[string]any{"url": url}, "encryption": map[string]any{"master_key": o.cfg.Encryption.MasterKey}})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, text, 0o600))
		_, errOut, code := runHere(t, "restore", "--config", file, "--data", o.cfg.Data)
		require.Equal(t, exitUsage, code, errOut)
		_, errOut, code = runHere(t, "restore", "--accept", "--config", file, "--data", o.cfg.Data)
		require.Zero(t, code, errOut)
		accepted := o.open()
		require.NoError(t, accepted.feed.Load(ctx))
		require.Equal(t, o.truth, onlyKnown(o.answers(accepted), o.truth))
	})
}
