package sqlstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/registry/sqlstore"
)

// What it costs to believe a row: the reading with its check beside the reading alone, in one run.
func BenchmarkBelieve(b *testing.B) {
	o := open(b, testenv.SQLite(b))
	fill(b, o)
	row := sqlstore.LabelRow("prj_1", "pmpt_1", "production")
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			require.NoError(b, o.db.NewSelect().Model(row).WherePK().Scan(b.Context()))
		}
	})
	b.Run("checked", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := o.store.LabelOf(b.Context(), "prj_1", "pmpt_1", "production")
			require.NoError(b, err)
		}
	})
}
