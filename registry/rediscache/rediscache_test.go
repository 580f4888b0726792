package rediscache_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sharedcache"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/registry/rediscache"
	"github.com/promptgate/promptgate/registry/registrytest"
	"github.com/promptgate/promptgate/registry/sqlstore"
)

// harness writes to a store and reads through Redis.
func harness(t *testing.T, url string, client redis.UniversalClient) registrytest.Harness {
	t.Helper()
	db := testenv.Open(t, url)
	sealer := testenv.Sealer(t, db)
	j := journal.New(db, sealer, journal.Options{})
	require.NoError(t, j.Load(t.Context()))
	cache, err := sharedcache.New(sharedcache.Options{Client: client, Sealer: sealer, Revision: j.Revision})
	require.NoError(t, err)
	j.Subscribe(cache.Apply)
	store := sqlstore.New(db, j, sealer, sqlstore.Options{})
	return registrytest.Harness{Store: store, Source: rediscache.New(cache, store), Subscribe: j.Subscribe}
}

func dial(t *testing.T, c sharedcache.Config) redis.UniversalClient {
	t.Helper()
	client, err := sharedcache.NewClient(c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestSourceStandalone(t *testing.T) {
	s := testenv.Redis(t)
	registrytest.Source(t, func(t *testing.T) registrytest.Harness {
		return harness(t, testenv.SQLite(t), dial(t, sharedcache.Config{Addrs: []string{s.Addr}, Budget: 1e9}))
	})
}

func TestSourceClusterOverPostgres(t *testing.T) {
	nodes := testenv.RedisCluster(t)
	registrytest.Source(t, func(t *testing.T) registrytest.Harness {
		return harness(t, testenv.Postgres(t), dial(t, sharedcache.Config{Addrs: nodes.Addrs, Cluster: true, Budget: 1e9}))
	})
}
