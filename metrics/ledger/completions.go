package ledger

import (
	"cmp"
	"context"
	"slices"
)

// completionPlace is a row of metrics_completions.
type completionPlace struct{ hash, block int64 }

// insertCompletions inserts each place once, in the table's order: a batch then changes a page of it one time.
func (w *writer) insertCompletions(ctx context.Context, places []completionPlace) error {
	slices.SortFunc(places, func(a, b completionPlace) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.block, b.block))
	})
	places = slices.Compact(places)
	args := make([]any, 0, len(places)*len(completionColumns))
	for _, p := range places {
		args = append(args, p.hash, p.block)
	}
	return w.insertAll(ctx, "metrics_completions", completionColumns, args, "")
}

// completionHash is how calls are found by the provider's id of their answer, a FNV-1a; 0 stands for no id.
func completionHash(id string) int64 {
	if id == "" {
		return 0
	}
	const offset, prime = 14695981039346656037, 1099511628211
	sum := uint64(offset)
	for i := range len(id) {
		sum = (sum ^ uint64(id[i])) * prime
	}
	return max(1, int64(sum>>1)) // never 0, never negative
}
