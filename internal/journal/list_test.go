package journal_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/testenv"
)

func revisionsOf(entries []journal.Entry) (out []int64) {
	for _, e := range entries {
		out = append(out, e.Revision)
	}
	return out
}

func TestListSelects(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		now := start
		r := newReplica(t, url, journal.Options{Clock: func() time.Time { return now }})
		for i, e := range []struct{ project, object, action, actor string }{
			{"p1", "a", "label.move", "u1"},
			{"p1", "a", "label.remove", "u2"},
			{"p2", "a", "label.move", "u1"},
			{"p1", "b", "labels.move", "u1"},
			{"", "c", "user.create", "u2"},
		} {
			now = start.Add(time.Duration(i) * time.Hour)
			_, err := r.Change(t.Context(), &journal.Event{
				Project: e.project, Object: e.object, Action: e.action,
				Origin: journal.Origin{Actor: journal.Actor{ID: e.actor}},
			}, nothing)
			require.NoError(t, err)
		}
		for name, c := range map[string]struct {
			q    journal.Query
			want []int64
		}{
			"all":             {journal.Query{Everywhere: true}, []int64{5, 4, 3, 2, 1}},
			"no project":      {journal.Query{}, []int64{5}},
			"project":         {journal.Query{Project: "p1"}, []int64{4, 2, 1}},
			"object":          {journal.Query{Everywhere: true, Object: "a"}, []int64{3, 2, 1}},
			"object, project": {journal.Query{Object: "a", Project: "p2"}, []int64{3}},
			"action":          {journal.Query{Everywhere: true, Action: "label.move"}, []int64{3, 1}},
			"every action":    {journal.Query{Everywhere: true, Action: "label.*"}, []int64{3, 2, 1}},
			"no pattern":      {journal.Query{Everywhere: true, Action: "label%"}, nil},
			"actor":           {journal.Query{Everywhere: true, ActorID: "u2"}, []int64{5, 2}},
			"since":           {journal.Query{Everywhere: true, Since: start.Add(3 * time.Hour)}, []int64{5, 4}},
			"until":           {journal.Query{Everywhere: true, Until: start.Add(3 * time.Hour)}, []int64{3, 2, 1}},
			"before":          {journal.Query{Everywhere: true, Before: 3}, []int64{2, 1}},
			"none":            {journal.Query{Everywhere: true, Object: "' OR 1=1 --"}, nil},
		} {
			entries, next, err := r.List(t.Context(), c.q)
			require.NoError(t, err, name)
			require.Equal(t, c.want, revisionsOf(entries), name)
			require.Zero(t, next, name)
		}
	})
}

func TestListPages(t *testing.T) {
	r := newReplica(t, testenv.SQLite(t), journal.Options{})
	appendMany(t, r, 120)
	for limit, pages := range map[int]int{0: 3, 1: 120, 40: 3, 119: 2, 120: 1, 500: 1, 100000: 1} {
		var got []int64
		var before int64
		n := 0
		for {
			entries, next, err := r.List(t.Context(), journal.Query{Everywhere: true, Limit: limit, Before: before})
			require.NoError(t, err)
			got = append(got, revisionsOf(entries)...)
			n++
			if next == 0 {
				break
			}
			before = next
		}
		require.Len(t, got, 120, "limit %d", limit)
		for i, revision := range got {
			require.EqualValues(t, 120-i, revision)
		}
		require.Equal(t, pages, n, "limit %d", limit)
	}
}

func TestListDecryptsWhenAsked(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newReplica(t, url, journal.Options{})
		ev := event("thing:1")
		_, err := r.Change(t.Context(), ev, nothing)
		require.NoError(t, err)
		entries, _, err := r.List(t.Context(), journal.Query{Everywhere: true, Payloads: true})
		require.NoError(t, err)
		require.JSONEq(t, `{"text":"was thing:1"}`, string(entries[0].Before))
		require.JSONEq(t, `{"text":"is thing:1"}`, string(entries[0].After))
		require.Equal(t, ev.Origin, entries[0].Origin)
		entries, _, err = r.List(t.Context(), journal.Query{Everywhere: true})
		require.NoError(t, err)
		require.Nil(t, entries[0].Before)

		_, err = r.db.ExecContext(t.Context(), "UPDATE journal_events SET after_commit = before_commit")
		require.NoError(t, err)
		_, _, err = r.List(t.Context(), journal.Query{Everywhere: true, Payloads: true})
		require.ErrorContains(t, err, "commitment", "it does not show what it cannot vouch for")
	})
}

// TestPayloadsAreSealed looks for the payload's text in every table.
func TestPayloadsAreSealed(t *testing.T) {
	r := newReplica(t, testenv.SQLite(t), journal.Options{})
	ev := event("thing:1")
	ev.Before, ev.After = "canary-before", "canary-after"
	_, err := r.Change(t.Context(), ev, nothing)
	require.NoError(t, err)
	var all []byte
	for _, table := range []string{"journal_events", "journal_payloads", "journal_head"} {
		for column := range columns(t, r.db, table) {
			var value []byte
			require.NoError(t, r.db.NewRaw(fmt.Sprintf("SELECT CAST(%s AS BLOB) FROM %s", column, table)).Scan(t.Context(), &value))
			all = append(all, value...)
		}
	}
	require.NotContains(t, string(all), "canary")
	require.Contains(t, string(all), "thing:1", "the search finds what is there")
}
