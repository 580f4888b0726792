package sqlstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/registry"
)

// BenchmarkResolveMissSQLite is a prompt that no cache knows: handle, label and version read from SQLite, opened, compiled.
func BenchmarkResolveMissSQLite(b *testing.B) { benchmarkMiss(b, testenv.SQLite(b)) }

// BenchmarkResolveMissPostgres is the same from PostgreSQL on this machine.
func BenchmarkResolveMissPostgres(b *testing.B) { benchmarkMiss(b, testenv.Postgres(b)) }

func benchmarkMiss(b *testing.B, url string) {
	o := open(b, url)
	fill(b, o)
	var forget func(journal.Change)
	feed := manualFeed{func(f func(journal.Change)) { forget = f }}
	r, err := registry.NewResolver(o.store, feed, registry.ResolverOptions{LoadTimeout: time.Minute})
	require.NoError(b, err)
	change := journal.Change{Touches: []journal.Touch{
		registry.HandleTouch("prj_1", "p"), registry.LabelTouch("prj_1", "pmpt_1", "production"), registry.VersionTouch("prj_1", "pmpt_1", 1),
	}}
	b.ReportAllocs()
	for b.Loop() {
		forget(change)
		p, err := r.Identify(b.Context(), "prj_1", "p")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Resolve(b.Context(), p, registry.Selector{Kind: registry.SelectLabel, Label: "production"}); err != nil {
			b.Fatal(err)
		}
	}
}

// manualFeed is a feed that is always fresh and whose changes the benchmark makes.
type manualFeed struct{ subscribe func(func(journal.Change)) }

func (f manualFeed) Subscribe(fn func(journal.Change)) { f.subscribe(fn) }
func (f manualFeed) Revision() int64                   { return 0 }
func (f manualFeed) ConfirmedAt() time.Time            { return time.Now() }
