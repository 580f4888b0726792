package rediscache_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sharedcache"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/rediscache"
	"github.com/promptgate/promptgate/registry/registrytest"
	"github.com/promptgate/promptgate/registry/sqlstore"
)

// harness writes to a store and reads through Redis.
func harness(t testing.TB, url string, client redis.UniversalClient) registrytest.Harness {
	t.Helper()
	h, _ := counted(t, url, client)
	return h
}

// counted is harness, and counts what Redis does not answer.
func counted(t testing.TB, url string, client redis.UniversalClient) (registrytest.Harness, *counter) {
	t.Helper()
	db := testenv.Open(t, url)
	sealer := testenv.Sealer(t, db)
	j := journal.New(db, sealer, journal.Options{})
	require.NoError(t, j.Load(t.Context()))
	cache, err := sharedcache.New(sharedcache.Options{Client: client, Sealer: sealer, Revision: j.Revision})
	require.NoError(t, err)
	j.Subscribe(cache.Apply)
	store := sqlstore.New(db, j, sealer, sqlstore.Options{})
	c := &counter{Source: store}
	return registrytest.Harness{Store: store, Source: rediscache.New(cache, c), Subscribe: j.Subscribe}, c
}

// counter counts the reads of a source that resolving a label takes.
type counter struct {
	registry.Source
	reads atomic.Int64
}

func (c *counter) PromptByHandle(ctx context.Context, project, handle string) (registry.Prompt, error) {
	c.reads.Add(1)
	return c.Source.PromptByHandle(ctx, project, handle)
}

func (c *counter) LabelOf(ctx context.Context, project, promptID, label string) (registry.Label, error) {
	c.reads.Add(1)
	return c.Source.LabelOf(ctx, project, promptID, label)
}

func (c *counter) VersionOf(ctx context.Context, project, promptID string, number int) (registry.Version, error) {
	c.reads.Add(1)
	return c.Source.VersionOf(ctx, project, promptID, number)
}

func dial(t testing.TB, c sharedcache.Config) redis.UniversalClient {
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
