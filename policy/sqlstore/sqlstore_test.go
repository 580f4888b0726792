package sqlstore_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/keys"
	"github.com/promptgate/promptgate/policy/policytest"
	"github.com/promptgate/promptgate/policy/rbac"
	"github.com/promptgate/promptgate/policy/sqlstore"
)

func TestSQLite(t *testing.T) {
	policytest.KeyStore(t, func(t *testing.T) policytest.Env {
		return open(t, "sqlite:"+filepath.Join(t.TempDir(), "promptgate.db"))
	})
}

func TestPostgres(t *testing.T) {
	policytest.KeyStore(t, func(t *testing.T) policytest.Env { return open(t, testenv.Postgres(t)) })
}

func TestPeopleOnSQLite(t *testing.T) {
	policytest.PeopleStore(t, func(t *testing.T) policytest.PeopleEnv {
		return openPeople(t, "sqlite:"+filepath.Join(t.TempDir(), "promptgate.db"))
	})
}

func TestPeopleOnPostgres(t *testing.T) {
	policytest.PeopleStore(t, func(t *testing.T) policytest.PeopleEnv { return openPeople(t, testenv.Postgres(t)) })
}

func TestUses(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		db, j := openDB(t, url)
		policytest.UseStore(t, sqlstore.New(db, j, nil))
	})
}

func TestReviews(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		policytest.ReviewStore(t, func(t *testing.T) policytest.ReviewEnv {
			at := testenv.SQLite(t)
			if !strings.HasPrefix(url, "sqlite:") {
				at = testenv.Postgres(t)
			}
			db, j := openDB(t, at)
			changes := watched(t, j)
			var ahead atomic.Int64
			return policytest.ReviewEnv{
				Store:   sqlstore.New(db, j, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }),
				Ahead:   func(d time.Duration) { ahead.Store(int64(d)) },
				Changes: changes,
			}
		})
	})
}

func openPeople(t *testing.T, url string) policytest.PeopleEnv {
	t.Helper()
	e := open(t, url)
	return policytest.PeopleEnv{Store: e.Store.(policytest.People), Changes: e.Changes}
}

func openDB(t *testing.T, url string) (*sqldb.DB, *journal.Journal) {
	t.Helper()
	ctx := context.Background()
	db, err := sqldb.Open(ctx, sqldb.Options{URL: url})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, sqldb.Migrate(ctx, db, slog.New(slog.DiscardHandler)))
	sealer, err := seal.OpenKeys(ctx, db, seal.Options{DataDir: t.TempDir(), AllowCreate: true, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return db, journal.New(db, sealer, journal.Options{})
}

// watched loads a journal and tells what changed in it since.
func watched(t *testing.T, j *journal.Journal) func() []journal.Change {
	t.Helper()
	var mu sync.Mutex
	var changes []journal.Change
	j.Subscribe(func(c journal.Change) {
		mu.Lock()
		defer mu.Unlock()
		changes = append(changes, c)
	})
	require.NoError(t, j.Load(t.Context()))
	return func() []journal.Change {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(changes)
	}
}

func open(t *testing.T, url string) policytest.Env {
	t.Helper()
	db, j := openDB(t, url)
	return policytest.Env{Store: sqlstore.New(db, j, nil), Changes: watched(t, j)}
}

// From issuing a key to its revocation, with the real journal between store and authenticator.
func TestKeysThroughTheJournal(t *testing.T) {
	ctx := t.Context()
	db, j := openDB(t, "sqlite:"+filepath.Join(t.TempDir(), "promptgate.db"))
	hasher, err := keys.NewHasher(make([]byte, keys.MinHashKey))
	require.NoError(t, err)
	store := sqlstore.New(db, j, nil)
	auth, err := keys.NewAuthenticator(store, hasher, j, keys.Options{})
	require.NoError(t, err)
	checker, err := rbac.New(rbac.Options{})
	require.NoError(t, err)
	require.NoError(t, j.Load(ctx))

	rec, issued, err := keys.Issuer{Store: store, Hasher: hasher, Random: rand.Reader}.Create(ctx, journal.Origin{},
		&policy.Principal{Kind: policy.KindSystem}, policy.KeyRecord{Project: "prj_1", Name: "app", Roles: []string{policy.RoleViewer}})
	require.NoError(t, err)
	may := func(want policy.Permission) bool {
		p, err := auth.Authenticate(ctx, issued.Plaintext)
		require.NoError(t, err)
		d, err := checker.Check(ctx, p, want)
		require.NoError(t, err)
		return d.Allowed
	}
	read := policy.Permission{Action: policy.ActionRead, Kind: policy.ObjectPrompt, Name: "a"}
	write := policy.Permission{Action: policy.ActionWrite, Kind: policy.ObjectPrompt, Name: "a"}
	require.True(t, may(read))
	require.False(t, may(write))

	rec.Roles = []string{policy.RoleEditor}
	rec.Grants = []policy.Grant{{Effect: policy.EffectDeny, Actions: []policy.Action{policy.ActionRead}, Prompts: []string{"a"}}}
	rec, err = store.UpdateKey(ctx, journal.Origin{}, &policy.Principal{Kind: policy.KindSystem}, rec)
	require.NoError(t, err)
	require.True(t, may(write), "an edit counts as soon as it is acknowledged")
	require.False(t, may(read), "a denial that was added as well")

	_, err = store.RevokeKey(ctx, journal.Origin{}, &policy.Principal{Kind: policy.KindSystem}, policy.Revocation{Project: "prj_1", ID: rec.ID})
	require.NoError(t, err)
	_, err = auth.Authenticate(ctx, issued.Plaintext)
	require.Equal(t, fault.InvalidAPIKey, fault.CodeOf(err))
}
