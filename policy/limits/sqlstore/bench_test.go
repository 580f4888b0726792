package sqlstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy/limits"
	"github.com/promptgate/promptgate/policy/limits/sqlstore"
)

// BenchmarkReserve is what limits cost a call, reserved and settled: without any in its project, and with a budget and two rates.
func BenchmarkReserve(b *testing.B) {
	for name, all := range map[string][]limits.Limit{
		"none": nil,
		"three": {
			{Name: "usd", Measure: limits.USD, Amount: limits.MaxAmount, Period: limits.Month, Scope: limits.ScopeProject},
			{Name: "rpm", Measure: limits.Requests, Amount: 1_000_000_000, Period: limits.Minute, Scope: limits.ScopeEachKey},
			{Name: "calls", Measure: limits.Calls, Amount: 1000, Scope: limits.ScopeEachKey},
		},
	} {
		b.Run(name, func(b *testing.B) {
			db := testenv.Open(b, testenv.SQLite(b))
			j := testenv.Journal(b, db, journal.Options{})
			store := sqlstore.New(db, j, time.Now)
			if err := j.Load(b.Context()); err != nil {
				b.Fatal(err)
			}
			for _, l := range all {
				l.Project = shop
				if _, err := store.CreateLimit(b.Context(), by, l); err != nil {
					b.Fatal(err)
				}
			}
			e, err := limits.NewEnforcer(limits.Options{Source: store, Bank: store, Feed: j})
			if err != nil {
				b.Fatal(err)
			}
			ctx := context.Background()
			ask := limits.Ask{Project: shop, Principal: "key_one", Cost: price{micros: 5_000, tokens: 900}, Label: "production", PromptName: "support/triage"}
			b.ReportAllocs()
			for b.Loop() {
				r, err := e.Reserve(ctx, ask)
				if err != nil {
					b.Fatal(err)
				}
				r.Settle(limits.Spent{Micros: 1_000, Tokens: 100, Priced: true})
			}
		})
	}
}
