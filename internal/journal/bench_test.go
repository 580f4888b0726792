package journal_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/testenv"
)

func BenchmarkChange(b *testing.B) {
	for name, url := range map[string]string{"sqlite": testenv.SQLite(b), "postgres": testenv.Postgres(b)} {
		r := newReplica(b, url, journal.Options{Timeout: time.Minute})
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, err := r.Change(b.Context(), event("a"), nothing)
				require.NoError(b, err)
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := r.Change(b.Context(), event("a"), nothing); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
