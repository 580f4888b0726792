package main

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func second(s float64) time.Time { return epoch.Add(time.Duration(s * float64(time.Second))) }

func TestVersionsMayBeSoOld(t *testing.T) {
	h := history{bound: time.Second}
	h.moves[3] = []move{
		{version: 2, asked: second(0), acked: second(0.1)},
		{version: 3, asked: second(5)}, // nobody knows
		{version: 4, asked: second(10), acked: second(10.1)},
		{version: 5, asked: second(11), acked: second(11.1)},
	}
	for _, c := range []struct {
		at      float64
		version int
		ok      bool
	}{
		{0.5, 1, true}, {0.5, 2, true}, // just acknowledged
		{1.2, 1, false}, {1.2, 2, true},
		{6, 2, true}, {6, 3, true},
		{11, 2, true}, {11.05, 4, true},
		{11.2, 2, false}, {11.2, 3, false}, {11.2, 4, true}, {11.2, 5, true},
		{12.2, 4, false}, {12.2, 5, true},
	} {
		require.Equal(t, c.ok, h.allows(result{prompt: 3, at: second(c.at), version: c.version}), "version %d at %v s", c.version, c.at)
	}
	require.True(t, h.allows(result{prompt: 4, version: 1}))
	require.False(t, h.allows(result{prompt: 4, version: 2}))
}

// every breaks one promise, and the verdict names it.
func TestVerdicts(t *testing.T) {
	good := func(k kindOf) *row {
		return &row{
			trial: trial{fault: fault{name: "x", kind: k, lines: 2}, injected: second(10), down: second(10), mended: second(70), up: second(71),
				ended: second(80), revoked: 500 * time.Millisecond, restored: true},
			reasons: map[string]int{}, refused: map[string]int{}, lines: 2, moves: 100, movedP99: 600 * time.Millisecond, degraded: 3,
			before: 3 * time.Millisecond, steady: 6 * time.Millisecond, recovered: time.Second, reconnect: time.Second,
		}
	}
	o := options{speed: true}
	verdict := func(r *row, o options) string { r.verdict(o); return summaryOf(r.broken) }
	for _, k := range []kindOf{noCache, noWord, noData, cutOff, noReplic} {
		require.Empty(t, verdict(good(k), o))
	}
	for want, spoil := range map[string]func(*row){
		"1 failed":           func(r *row) { r.failed = 1 },
		"1 too old":          func(r *row) { r.tooOld = 1 },
		"were refused":       func(r *row) { r.refused["503"] = 1 },
		"logged 3 lines":     func(r *row) { r.lines = 3 },
		"was not ready":      func(r *row) { r.restored = false },
		"only 2 label moves": func(r *row) { r.moves = 2 },
		"p99 of label moves": func(r *row) { r.movedP99 = 1100 * time.Millisecond },
		"refused everywhere": func(r *row) { r.revoked = 1100 * time.Millisecond },
		"2 of 3 replicas":    func(r *row) { r.degraded = 2 },
		"stayed 5.0ms":       func(r *row) { r.steady = 8 * time.Millisecond },
		"not below 5ms":      func(r *row) { r.recovered = 2100 * time.Millisecond },
	} {
		r := good(noCache)
		spoil(r)
		require.Contains(t, verdict(r, o), want)
	}
	slow := good(noCache)
	slow.steady, slow.recovered, slow.movedP99 = time.Second, -1, 2*time.Second
	require.Empty(t, verdict(slow, options{}), "speed is not judged")
	machine := good(noCache)
	machine.steady, machine.machine = 30*time.Millisecond, 25*time.Millisecond
	require.Empty(t, verdict(machine, o), "the machine was slower, not the gateway")
	busy := good(noCache)
	busy.failed, busy.busy = 5, 200*time.Millisecond
	require.Contains(t, verdict(busy, o), "too busy")
	busy.broken = nil
	require.Empty(t, verdict(busy, options{}))
	healthyRow := good(healthy)
	require.Contains(t, verdict(healthyRow, o), "more than 100ms")
}

func summaryOf(broken []string) string {
	all := ""
	for _, b := range broken {
		all += b + "\n"
	}
	return all
}

func TestWhoMayBeRefused(t *testing.T) {
	during := func(k kindOf, bounded bool) *row {
		return &row{
			trial:   trial{fault: fault{kind: k, bounded: bounded}, injected: second(10), down: second(10), mended: second(70), up: second(71)},
			reasons: map[string]int{}, reconnect: time.Second,
		}
	}
	refused := func(at float64, replica int, k kind, took time.Duration) result {
		return result{at: second(at), replica: replica, kind: k, status: http.StatusServiceUnavailable, took: took}
	}
	served := func(at float64, replica int) result {
		return result{at: second(at), replica: replica, status: http.StatusOK, version: 1, stale: 3}
	}
	moving := func(at float64) result {
		c := refused(20, 0, plain, time.Millisecond)
		c.prompt = int(at) // of ages: the prompt's number is when it was moved
		return c
	}
	var ages history
	ages.moves[9] = []move{{version: 2, asked: second(9.9), acked: second(9.95)}}
	ages.moves[8] = []move{{version: 2, asked: second(8.9), acked: second(8.95)}}
	o := options{speed: true}
	for name, c := range map[string]struct {
		row            *row
		result         result
		failed, tooOld int
	}{
		"cold, no database":          {during(noData, false), refused(20, 0, cold, time.Millisecond), 0, 0},
		"cold and slow":              {during(noData, false), refused(20, 0, cold, 1100*time.Millisecond), 1, 0},
		"cold, database back":        {during(noData, false), refused(72.5, 0, cold, time.Millisecond), 1, 0},
		"warm, no database":          {during(noData, false), refused(20, 0, plain, time.Millisecond), 1, 0},
		"moved as it was lost":       {during(noData, false), moving(9), 0, 0},
		"moved before":               {during(noData, false), moving(8), 1, 0},
		"moved, but with a database": {during(noCache, false), moving(9), 1, 0},
		"cold, no cache":             {during(noCache, false), refused(20, 0, cold, time.Millisecond), 1, 0},
		"cold, cut off":              {during(cutOff, false), refused(20, 2, cold, time.Millisecond), 0, 0},
		"cold, not the one cut off":  {during(cutOff, false), refused(20, 1, cold, time.Millisecond), 1, 0},
		"warm, past its bound":       {during(noData, true), refused(12, 2, plain, time.Millisecond), 0, 0},
		"warm, without a bound":      {during(noData, true), refused(12, 0, plain, time.Millisecond), 1, 0},
		"served past its bound":      {during(noData, true), served(11.5, 1), 0, 1},
		"served within its bound":    {during(noData, true), served(10.9, 1), 0, 0},
		"stale":                      {during(noData, false), served(20, 1), 0, 0},
		"stale, but with a database": {during(noCache, false), served(20, 1), 0, 1},
		"cut with its replica":       {during(noReplic, false), result{at: second(20), cut: true}, 0, 0},
		"no answer":                  {during(noReplic, false), result{at: second(20)}, 1, 0},
	} {
		c.row.count(o, c.result, ages)
		require.Equal(t, []int{c.failed, c.tooOld}, []int{c.row.failed, c.row.tooOld}, name)
	}
}

func TestLedgerIsExact(t *testing.T) {
	require.Empty(t, ledger{completed: 10, rows: 12, extra: 2, cut: 3, all: 15, sums: 15}.broken())
	for want, c := range map[string]ledger{
		"1 completed calls have no row": {missing: 1},
		"1 rows are of no call":         {extra: 3, cut: 2},
		"figures by minute say 14":      {all: 15, sums: 14},
	} {
		require.Contains(t, summaryOf(c.broken()), want)
	}
}

func TestQuantiles(t *testing.T) {
	var results []result
	for i := range 200 {
		results = append(results, result{took: time.Duration(200-i) * time.Millisecond, status: http.StatusOK})
	}
	results = append(results, result{took: time.Hour}, result{took: time.Hour, status: http.StatusOK, kind: cold})
	require.Equal(t, 199*time.Millisecond, p99(results, plain))
	require.Equal(t, time.Hour, p99(results, cold))
	require.Zero(t, p99(results, streamed))
}
