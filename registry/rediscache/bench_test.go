package rediscache_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sharedcache"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/registrytest"
)

// BenchmarkResolveMissRedis is a prompt that this process has forgotten and Redis has not: handle, label and version read from Redis on this
// machine, opened, compiled.
func BenchmarkResolveMissRedis(b *testing.B) {
	server := testenv.Redis(b)
	h, below := counted(b, testenv.SQLite(b), dial(b, sharedcache.Config{Addrs: []string{server.Addr}, Budget: time.Second}))
	by := journal.Origin{Actor: journal.Actor{Kind: "system", ID: "bench", Name: "bench"}}
	_, err := h.Store.CreateProject(b.Context(), by, registry.Project{ID: "prj_1", Name: "one", DefaultLabel: "production"})
	require.NoError(b, err)
	_, err = h.Store.CreatePrompt(b.Context(), by, registry.Prompt{ID: "pmpt_1", Project: "prj_1", Name: "p", Kind: registry.KindChat}, nil)
	require.NoError(b, err)
	_, err = h.Store.AddVersion(b.Context(), by, registrytest.Version("prj_1", "pmpt_1", "text"))
	require.NoError(b, err)
	_, err = h.Store.MoveLabel(b.Context(), by, registry.LabelMove{Project: "prj_1", PromptID: "pmpt_1", Label: "production", To: 1})
	require.NoError(b, err)

	var forget func(journal.Change)
	r, err := registry.NewResolver(h.Source, manualFeed{func(f func(journal.Change)) { forget = f }}, registry.ResolverOptions{LoadTimeout: time.Minute})
	require.NoError(b, err)
	change := journal.Change{Touches: []journal.Touch{
		registry.HandleTouch("prj_1", "p"), registry.LabelTouch("prj_1", "pmpt_1", "production"), registry.VersionTouch("prj_1", "pmpt_1", 1),
	}}
	miss := func() {
		forget(change)
		p, err := r.Identify(b.Context(), "prj_1", "p")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Resolve(b.Context(), p, registry.Selector{Kind: registry.SelectLabel, Label: "production"}); err != nil {
			b.Fatal(err)
		}
	}
	miss() // the first one fills Redis
	before := below.reads.Load()
	b.ReportAllocs()
	for b.Loop() {
		miss()
	}
	require.Equal(b, before, below.reads.Load(), "all of it came from Redis")
}

// manualFeed is a feed that is always fresh and whose changes the benchmark makes.
type manualFeed struct{ subscribe func(func(journal.Change)) }

func (f manualFeed) Subscribe(fn func(journal.Change)) { f.subscribe(fn) }
func (f manualFeed) Revision() int64                   { return 0 }
func (f manualFeed) ConfirmedAt() time.Time            { return time.Now() }
