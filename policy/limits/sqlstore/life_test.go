package sqlstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy/limits"
)

// TestNextLifeTellsWhatWasSpent: a process that is killed leaves what its calls had come to, and what those under way had reserved; the next one in its
// folder says so, once, and the rest of its lease is free.
func TestNextLifeTellsWhatWasSpent(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newRig(t, url)
		l := r.limit(limits.Limit{Measure: limits.USD, Amount: 10_000, Period: limits.Day, Scope: limits.ScopeEachKey})
		dir := t.TempDir()
		killed, err := limits.NewEnforcer(limits.Options{Source: r.store, Bank: r, Feed: r.journal, Clock: r.clock, Dir: dir})
		require.NoError(t, err)
		for i := range 4 {
			res, err := killed.Reserve(t.Context(), r.ask(price{micros: 1_000}))
			require.NoError(t, err)
			if i > 0 { // the first is under way when it is killed
				res.Settle(paid(300))
			}
		}
		require.GreaterOrEqual(t, r.spent(l, "key_one").Held+r.spent(l, "key_one").Used, int64(1_900))

		r.fails.Store(true) // the database is away at first
		next := r.replicaIn(dir)
		time.Sleep(50 * time.Millisecond)
		r.fails.Store(false)
		require.Eventually(t, func() bool {
			r.ahead.Add(int64(time.Second))
			return r.spent(l, "key_one").Used == 1_900
		}, 10*time.Second, 20*time.Millisecond)
		require.Zero(t, r.spent(l, "key_one").Held)
		next.stop()
		again := r.replicaIn(dir)
		res, err := again.Reserve(t.Context(), r.ask(price{micros: 8_100}))
		require.NoError(t, err)
		res.Settle(paid(8_100))
		again.stop()
		require.EqualValues(t, 10_000, r.spent(l, "key_one").Used)
	})
}

// TestLeasesLastWithoutTheDatabase: a lease is spent while the database is away; then a hard budget refuses and says why, and a soft one goes on.
func TestLeasesLastWithoutTheDatabase(t *testing.T) {
	r := newRig(t, testenv.SQLite(t))
	l := r.limit(limits.Limit{Measure: limits.USD, Amount: 100_000, Period: limits.Day})
	e := r.idle()
	res, err := e.Reserve(t.Context(), r.ask(price{micros: 100}))
	require.NoError(t, err)
	res.Settle(paid(100))
	r.fails.Store(true)
	made := 0
	for ; made < 10_000; made++ {
		res, err := e.Reserve(t.Context(), r.ask(price{micros: 100}))
		if err != nil {
			require.True(t, fault.Is(err, fault.RegistryUnavailable), "%v", err)
			break
		}
		res.Settle(paid(100))
	}
	require.Greater(t, made, 1)
	require.EqualValues(t, 100*(made+1), r.spent(l, "").Used+r.spent(l, "").Held, "no more than was leased")
}

// TestIdleLeasesComeBack: what a replica does not use, others can.
func TestIdleLeasesComeBack(t *testing.T) {
	r := newRig(t, testenv.SQLite(t))
	l := r.limit(limits.Limit{Measure: limits.USD, Amount: 100_000, Period: limits.Day})
	one := r.replica()
	res, err := one.Reserve(t.Context(), r.ask(price{micros: 100}))
	require.NoError(t, err)
	require.Greater(t, r.spent(l, "").Held, int64(100))
	require.Eventually(t, func() bool { return r.spent(l, "").Held == 100 }, 20*time.Second, 20*time.Millisecond)
	res.Settle(paid(40))
	require.Eventually(t, func() bool {
		r.ahead.Add(int64(time.Second))
		u := r.spent(l, "")
		return u.Held == 0 && u.Used == 40
	}, 20*time.Second, 20*time.Millisecond, "what was used is told though nothing else happens")
}

// TestWindowsEnd: a call that began before midnight is charged to the day that it began in, and the new day has all of its budget.
func TestWindowsEnd(t *testing.T) {
	r := newRig(t, testenv.SQLite(t))
	l := r.limit(limits.Limit{Measure: limits.USD, Amount: 1_000, Period: limits.Day})
	e := r.replica()
	late, err := e.Reserve(t.Context(), r.ask(price{micros: 1_000}))
	require.NoError(t, err)
	r.ahead.Store(int64(12*time.Hour + time.Minute))
	fresh, err := e.Reserve(t.Context(), r.ask(price{micros: 1_000}))
	require.NoError(t, err)
	fresh.Settle(paid(700))
	late.Settle(paid(900))
	e.stop()
	require.EqualValues(t, 700, r.spent(l, "").Used)
	r.ahead.Store(0)
	require.EqualValues(t, 900, r.spent(l, "").Used)
	require.Zero(t, r.spent(l, "").Held)
}

// TestRates: a minute's requests and tokens, what a caller is told of them, and places among what runs at a time.
func TestRates(t *testing.T) {
	for name, shared := range map[string]bool{"alone": false, "in the database": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, testenv.SQLite(t))
			r.limit(limits.Limit{Name: "rpm", Measure: limits.Requests, Amount: 6, Period: limits.Minute, Scope: limits.ScopeEachKey})
			r.limit(limits.Limit{Name: "tpm", Measure: limits.Tokens, Amount: 1_000, Period: limits.Minute})
			var counters []limits.Counters
			if shared {
				counters = append(counters, r.store)
			}
			e := r.replica(counters...)
			other := e
			if shared {
				other = r.replica(counters...)
			}
			var told limits.Told
			ask := r.ask(price{tokens: 100})
			ask.Told = &told
			for i := range 6 {
				told = limits.Told{}
				res, err := []*replica{e, other}[i%2].Reserve(t.Context(), ask)
				require.NoError(t, err, i)
				res.Settle(limits.Spent{Tokens: 50})
				require.True(t, told.Requests.Known && told.Tokens.Known)
				require.EqualValues(t, 6, told.Requests.Limit)
				require.LessOrEqual(t, told.Requests.Remaining, int64(5-i))
			}
			told = limits.Told{}
			_, err := e.Reserve(t.Context(), ask)
			require.True(t, fault.Is(err, fault.RateLimitExceeded), "%v", err)
			require.ErrorContains(t, err, `"rpm" of 6 requests a minute`)
			var wait *limits.Refusal
			require.ErrorAs(t, err, &wait)
			require.InDelta(t, 10, wait.After.Seconds(), 1)
			require.Zero(t, told.Requests.Remaining)
			r.ahead.Add(int64(wait.After))
			res, err := e.Reserve(t.Context(), ask)
			require.NoError(t, err)
			res.Release()
			ask.Principal = "key_two"
			ask.Cost = price{tokens: 1_001}
			_, err = e.Reserve(t.Context(), ask)
			require.ErrorContains(t, err, "may come to 1001 tokens")
			ask.Cost = price{tokens: 900}
			_, err = e.Reserve(t.Context(), ask)
			require.ErrorContains(t, err, "tpm")
		})
	}
}

func TestPlacesAtATime(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newRig(t, url)
		r.limit(limits.Limit{Name: "calls", Measure: limits.Calls, Amount: 3})
		r.limit(limits.Limit{Name: "streams", Measure: limits.Streams, Amount: 1, Scope: limits.ScopeKey, Subject: "key_one"})
		one, two := r.replica(r.store), r.replica(r.store)
		stream := r.ask(price{})
		stream.Stream = true
		first, err := one.Reserve(t.Context(), stream)
		require.NoError(t, err)
		_, err = two.Reserve(t.Context(), stream)
		require.ErrorContains(t, err, `"streams" of 1 stream at a time`)
		second, err := two.Reserve(t.Context(), r.ask(price{}))
		require.NoError(t, err)
		third, err := one.Reserve(t.Context(), r.ask(price{}))
		require.NoError(t, err)
		for _, e := range []*replica{one, two} {
			_, err = e.Reserve(t.Context(), r.ask(price{}))
			require.True(t, fault.Is(err, fault.RateLimitExceeded), "%v", err)
		}
		first.Settle(limits.Spent{})
		third.Release()
		require.Eventually(t, func() bool { // what one gave back, the other can take
			res, err := two.Reserve(t.Context(), stream)
			res.Release()
			return err == nil
		}, 20*time.Second, 20*time.Millisecond)
		second.Settle(limits.Spent{})
	})
}

// TestALeaseEndsOnce: the end of a lease that is told twice, as when the answer was lost, counts once.
func TestALeaseEndsOnce(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newRig(t, url)
		l := r.limit(limits.Limit{Measure: limits.USD, Amount: 1_000, Period: limits.Day})
		w := l.WindowAt(r.clock())
		d := limits.Draw{
			Project: shop, Limit: l.ID, Holder: "hold_a", Window: w.Key(), From: w.Key(), Amount: 1_000, Room: 1_000, Want: 500, Need: 500,
			Expires: r.clock().Add(time.Minute).UnixMicro(),
		}
		got, err := r.store.Exchange(t.Context(), []limits.Draw{d})
		require.NoError(t, err)
		require.EqualValues(t, 500, got[0].Granted)
		d.Want, d.Need, d.Used, d.Close = 0, 0, 300, true
		for range 2 {
			_, err = r.store.Exchange(t.Context(), []limits.Draw{d})
			require.NoError(t, err)
		}
		require.EqualValues(t, 300, r.spent(l, "").Used)
		require.Zero(t, r.spent(l, "").Held)
	})
}

// TestResetWarnsByWhatIsLeft: what was taken off counts for no threshold.
func TestResetWarnsByWhatIsLeft(t *testing.T) {
	r := newRig(t, testenv.SQLite(t))
	l := r.limit(limits.Limit{Measure: limits.USD, Amount: 1_000, Period: limits.Day})
	spend := func(n int64) {
		t.Helper()
		e := r.replica()
		defer e.stop()
		res, err := e.Reserve(t.Context(), r.ask(price{micros: n}))
		require.NoError(t, err)
		res.Settle(paid(n))
	}
	spend(400)
	_, err := r.store.ResetSpend(t.Context(), by, shop, l.ID, "")
	require.NoError(t, err)
	spend(400)
	require.Empty(t, r.spent(l, "").Warned, "400 of 1000")
	spend(200)
	require.Equal(t, []int{50}, r.spent(l, "").Warned)
}
