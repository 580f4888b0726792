package sqlstore_test

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/echo"
	"github.com/promptgate/promptgate/gateway/provider/providertest"
	"github.com/promptgate/promptgate/gateway/provider/sqlstore"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
)

func open(t *testing.T, url string) (*sqlstore.Store, *journal.Journal, *sqldb.DB) {
	t.Helper()
	db := testenv.Open(t, url)
	sealer := testenv.Sealer(t, db)
	j := journal.New(db, sealer, journal.Options{})
	return sqlstore.New(db, j, sealer, sqlstore.Options{Configured: []string{"configured"}}), j, db
}

func TestStore(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, _ string) {
		sqlite := strings.HasSuffix(t.Name(), "/sqlite")
		providertest.Store(t, func(t *testing.T) providertest.StoreUnderTest {
			url := ""
			if sqlite {
				url = testenv.SQLite(t)
			} else {
				url = testenv.Postgres(t)
			}
			s, j, _ := open(t, url)
			var mu sync.Mutex
			var touched []journal.Touch
			j.Subscribe(func(c journal.Change) {
				mu.Lock()
				defer mu.Unlock()
				touched = append(touched, c.Touches...)
			})
			require.NoError(t, j.Load(t.Context()))
			return providertest.StoreUnderTest{Store: s, Touched: func() []journal.Touch {
				mu.Lock()
				defer mu.Unlock()
				return append([]journal.Touch{}, touched...)
			}}
		})
	})
}

var by = journal.Origin{Actor: journal.Actor{Kind: "user", ID: "usr_1"}}

func create(t *testing.T, s *sqlstore.Store, project, name, secret string) provider.Definition {
	t.Helper()
	d, err := s.CreateProvider(t.Context(), by, provider.Definition{
		Project: project, Name: name, Kind: provider.ProviderOpenAI, BaseURL: "https://h/v1", Enabled: true, Credential: provider.NewSecret(secret),
	})
	require.NoError(t, err)
	return d
}

func TestTheCredentialIsNowhereInTheFile(t *testing.T) {
	const canary = "sk-canary-7f3a9"
	url := testenv.SQLite(t)
	s, j, db := open(t, url)
	require.NoError(t, j.Load(t.Context()))
	d := create(t, s, "p", "one", canary)
	d.Credential = provider.NewSecret(canary + "-2")
	_, err := s.UpdateProvider(t.Context(), by, d)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)")
	require.NoError(t, err)
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(db.Path() + suffix)
		if suffix == "" {
			require.NoError(t, err)
			require.Contains(t, string(content), "https://h/v1", "the right file")
		}
		require.False(t, bytes.Contains(content, []byte(canary)))
	}
}

// A sealed credential that is copied into another row or project must not open there.
func TestACredentialCannotBeMoved(t *testing.T) {
	s, j, db := open(t, testenv.SQLite(t))
	require.NoError(t, j.Load(t.Context()))
	mine, theirs := create(t, s, "p", "one", "sk-mine"), create(t, s, "q", "one", "sk-theirs")
	_, err := db.ExecContext(t.Context(), "UPDATE registry_providers SET credential = (SELECT credential FROM registry_providers WHERE id = ?) WHERE id = ?", theirs.ID, mine.ID)
	require.NoError(t, err)
	_, _, err = s.Load(t.Context(), "p")
	require.True(t, fault.Is(err, fault.RegistryUnavailable), "%v", err)
}

func TestADatabaseThatIsGone(t *testing.T) {
	s, j, db := open(t, testenv.SQLite(t))
	require.NoError(t, j.Load(t.Context()))
	require.NoError(t, db.Close())
	_, _, err := s.Load(t.Context(), "p")
	require.True(t, fault.Is(err, fault.RegistryUnavailable), "%v", err)
	_, err = s.GetProvider(t.Context(), "p", "prov_1")
	require.True(t, fault.Is(err, fault.RegistryUnavailable), "%v", err)
}

// The store, the journal's feed and the router together: a change is routed by when the call that made it returns.
func TestRoutesFollowTheJournal(t *testing.T) {
	s, j, _ := open(t, testenv.SQLite(t))
	fallback := echo.New(echo.Options{})
	routes, err := provider.NewRoutes(provider.RoutesOptions{
		Static: []provider.Static{{Provider: fallback}}, Source: s,
		Build: func(d provider.Definition) (provider.Provider, error) {
			require.Equal(t, "sk-1", d.Credential.Reveal())
			return echo.New(echo.Options{Name: d.Name}), nil
		},
	})
	require.NoError(t, err)
	defer routes.Close()
	j.Subscribe(routes.Changed)
	require.NoError(t, j.Load(t.Context()))
	serving := func() string {
		targets, err := routes.Route(t.Context(), "p", "gpt-4o")
		require.NoError(t, err)
		return targets[0].Provider.Name()
	}
	require.Equal(t, "echo", serving())
	d := create(t, s, "p", "own", "sk-1")
	require.Equal(t, "own", serving())
	d.Enabled = false
	d, err = s.UpdateProvider(t.Context(), by, d)
	require.NoError(t, err)
	require.Equal(t, "echo", serving())
	_, err = s.PutAlias(t.Context(), by, provider.Alias{Project: "p", Name: "gpt-4o", Targets: []provider.AliasTarget{{Provider: "own", Model: "x"}}})
	require.NoError(t, err)
	_, err = routes.Route(t.Context(), "p", "gpt-4o")
	require.True(t, fault.Is(err, fault.ModelNotFound), "an alias without a provider falls through to nobody")
	d.Enabled = true
	_, err = s.UpdateProvider(t.Context(), by, d)
	require.NoError(t, err)
	require.Equal(t, "own", serving())
}
