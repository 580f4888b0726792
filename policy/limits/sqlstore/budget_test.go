package sqlstore_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/limits"
)

// TestBudgetIsExact: 1,000 concurrent callers on a $1 budget and three replicas. Nothing beyond it is reserved, so nothing is spent; what calls
// left of their reservations is spent by others; and the database says to the micro-dollar what was.
func TestBudgetIsExact(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newRig(t, url)
		l := r.limit(limits.Limit{Measure: limits.USD, Amount: 1_000_000, Period: limits.Month})
		replicas := []*replica{r.replica(), r.replica(), r.replica()}
		var spent, reserved, most, made, refused atomic.Int64
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				e := replicas[i%3]
				for range 4 {
					res, err := e.Reserve(t.Context(), r.ask(price{micros: 5_000}))
					if err != nil {
						refused.Add(1)
						if !fault.Is(err, fault.BudgetExceeded) && !fault.Is(err, fault.RateLimitExceeded) {
							t.Error(err)
						}
						time.Sleep(time.Duration(i%7) * 10 * time.Millisecond)
						continue
					}
					now := spent.Load() + reserved.Add(5_000)
					for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
					}
					made.Add(1)
					cost := 1_000 + int64(i%5)*1_000
					spent.Add(cost)
					reserved.Add(-5_000)
					res.Settle(paid(cost))
				}
			})
		}
		all.Wait()
		t.Logf("made %d, refused %d, spent %d of 1000000; most spent and reserved %d", made.Load(), refused.Load(), spent.Load(), most.Load())
		require.LessOrEqual(t, spent.Load(), int64(1_000_000))
		require.Greater(t, spent.Load(), int64(800_000), "the budget is hardly used")
		require.Positive(t, refused.Load())
		for _, e := range replicas {
			e.stop()
		}
		u := r.spent(l, "")
		require.Equal(t, spent.Load(), u.Used)
		require.Zero(t, u.Held, "everything was given back")
		require.Equal(t, []int{50, 85, 95}[:len(u.Warned)], u.Warned)
		require.GreaterOrEqual(t, len(u.Warned), 1)
	})
}

// TestCrashKeepsItsLease: what a replica that died had leased stays charged: no other spends it, and its end gives back nothing twice.
func TestCrashKeepsItsLease(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newRig(t, url)
		l := r.limit(limits.Limit{Measure: limits.USD, Amount: 10_000, Period: limits.Day})
		dead := r.idle()
		_, err := dead.Reserve(t.Context(), r.ask(price{micros: 3_000}))
		require.NoError(t, err)
		held := r.spent(l, "").Held
		require.GreaterOrEqual(t, held, int64(3_000))
		r.ahead.Store(int64(time.Hour)) // nobody hears of it any more
		other, made := r.idle(), int64(0)
		for {
			if _, err := other.Reserve(t.Context(), r.ask(price{micros: 100})); err != nil {
				break
			}
			made += 100
		}
		require.LessOrEqual(t, made+held, int64(10_000))
		require.GreaterOrEqual(t, made+held, int64(9_800))
	})
}

// TestEndsOnce: a call's end counts once, also when it is told twice and when the call panics.
func TestEndsOnce(t *testing.T) {
	r := newRig(t, testenv.SQLite(t))
	l := r.limit(limits.Limit{Measure: limits.USD, Amount: 1_000, Period: limits.Day})
	e := r.replica()
	var set limits.Set
	require.NoError(t, set.Reserve(t.Context(), []limits.Limiter{e}, r.ask(price{micros: 400})))
	set.Settle(paid(300))
	set.Settle(paid(300))
	set.Release()
	func() {
		defer func() { _ = recover() }()
		defer set.Release()
		require.NoError(t, set.Reserve(t.Context(), []limits.Limiter{e}, r.ask(price{micros: 400})))
		panic("in a call")
	}()
	require.NoError(t, set.Reserve(t.Context(), []limits.Limiter{e}, r.ask(price{micros: 700})), "what is left: 700")
	set.Settle(limits.Spent{}) // not priced: what was reserved is what is known
	e.stop()
	require.EqualValues(t, 1_000, r.spent(l, "").Used)
	require.Zero(t, r.spent(l, "").Held)
}

// TestRefusals: what a refusal says, and to whom a limit applies.
func TestRefusals(t *testing.T) {
	r := newRig(t, testenv.SQLite(t))
	r.limit(limits.Limit{Name: "support", Measure: limits.USD, Amount: 1_000, Period: limits.Month, Zone: "Europe/Berlin", Scope: limits.ScopePrompt, Subject: "support/**",
		Contact: "Kim"})
	e := r.replica()
	refused := func(ask limits.Ask, code fault.Code, says ...string) {
		t.Helper()
		_, err := e.Reserve(t.Context(), ask)
		require.True(t, fault.Is(err, code), "%v", err)
		for _, s := range says {
			require.ErrorContains(t, err, s)
		}
	}
	granted := func(ask limits.Ask) limits.Reservation {
		t.Helper()
		res, err := e.Reserve(t.Context(), ask)
		require.NoError(t, err)
		return res
	}
	refused(r.ask(price{unknown: true}), fault.BudgetExceeded, "not known", `"support"`, "Kim")
	refused(r.ask(price{micros: 1_001}), fault.BudgetExceeded, "may come to $0.001001", "$0.001 a month", "max_tokens")
	for _, n := range []int64{-5, 0} { // what cannot be: nothing is gained by it
		res := granted(r.ask(price{micros: n}))
		res.Settle(paid(-1 << 62))
	}
	other := r.ask(price{micros: 5_000})
	other.PromptName = "desk/answer"
	require.False(t, func() bool { res := granted(other); return res.Held() }(), "another prompt")
	sandbox := r.ask(price{micros: 5_000})
	sandbox.Sandbox = true
	require.False(t, func() bool { res := granted(sandbox); return res.Held() }(), "the sandbox has budgets of its own")
	one := granted(r.ask(price{micros: 1_000}))
	refused(r.ask(price{micros: 1}), fault.RateLimitExceeded, "reserved by calls under way")
	one.Settle(paid(990))
	require.Eventually(t, func() bool {
		r.ahead.Add(int64(time.Second))
		_, err := e.Reserve(t.Context(), r.ask(price{micros: 11}))
		return fault.Is(err, fault.BudgetExceeded)
	}, 5*time.Second, 20*time.Millisecond)
	r.ahead.Add(int64(time.Second))
	refused(r.ask(price{micros: 11}), fault.BudgetExceeded, "2026-11-30T23:00:00Z", "Kim")
	last := granted(r.ask(price{micros: 10}))
	last.Release()

	// The next month in Berlin has it all again.
	r.ahead.Store(int64(time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC).Sub(r.base)))
	next := granted(r.ask(price{micros: 1_000}))
	next.Settle(paid(1_000))
}

// TestUnpriced: a budget may let calls of unknown price through; what they turn out to cost is counted.
func TestUnpriced(t *testing.T) {
	r := newRig(t, testenv.SQLite(t))
	l := r.limit(limits.Limit{Measure: limits.USD, Amount: 1_000, Period: limits.Day, Unpriced: true})
	e := r.replica()
	for _, spent := range []limits.Spent{{}, paid(70)} {
		res, err := e.Reserve(t.Context(), r.ask(price{unknown: true}))
		require.NoError(t, err)
		res.Settle(spent)
	}
	e.stop()
	require.EqualValues(t, 70, r.spent(l, "").Used)
}

// TestScopes: each key has its own share of a default, unless it has a limit of its own; users, groups and labels likewise.
func TestScopes(t *testing.T) {
	r := newRig(t, testenv.SQLite(t))
	each := r.limit(limits.Limit{Name: "each", Measure: limits.USD, Amount: 100, Period: limits.Day, Scope: limits.ScopeEachKey})
	own := r.limit(limits.Limit{Name: "own", Measure: limits.USD, Amount: 500, Period: limits.Month, Scope: limits.ScopeKey, Subject: "key_rich"})
	user := r.limit(limits.Limit{Name: "users", Measure: limits.USD, Amount: 1_000, Period: limits.Day, Scope: limits.ScopeEachUser})
	group := r.limit(limits.Limit{Name: "group", Measure: limits.USD, Amount: 1_000, Period: limits.Day, Scope: limits.ScopeGroup, Subject: "grp_a"})
	label := r.limit(limits.Limit{Name: "label", Measure: limits.USD, Amount: 1_000, Period: limits.Day, Scope: limits.ScopeLabel, Subject: "staging"})
	sandbox := r.limit(limits.Limit{Name: "sandbox", Measure: limits.USD, Amount: 60, Period: limits.Day, Sandbox: true})
	e := r.replica()
	call := func(ask limits.Ask) error {
		res, err := e.Reserve(t.Context(), ask)
		if err == nil {
			res.Settle(paid(80))
		}
		return err
	}
	as := func(key string, micros int64) limits.Ask {
		ask := r.ask(price{micros: micros})
		ask.Principal = key
		return ask
	}
	require.NoError(t, call(as("key_a", 80)))
	require.Error(t, call(as("key_a", 80)))
	require.NoError(t, call(as("key_b", 80)), "another key's share")
	for range 3 {
		require.NoError(t, call(as("key_rich", 80)), "its own limit stands in for the default")
	}
	person := as("key_c", 80)
	person.Owner, person.Groups, person.Label = "usr_1", []policy.Group{{ID: "grp_b"}, {ID: "grp_a"}}, "staging"
	require.NoError(t, call(person))
	try := as("key_d", 61)
	try.Sandbox = true
	require.Error(t, call(try))
	e.stop()
	for _, c := range []struct {
		limit   limits.Limit
		subject string
		used    int64
	}{{each, "key_a", 80}, {each, "key_b", 80}, {each, "key_rich", 0}, {own, "", 240}, {user, "usr_1", 80}, {group, "", 80}, {label, "", 80}, {sandbox, "", 0}} {
		require.Equal(t, c.used, r.spent(c.limit, c.subject).Used, "%s %s", c.limit.Name, c.subject)
	}
	all, err := r.store.Spend(t.Context(), each, "", 10)
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.Equal(t, []string{"each"}, names(limits.Own([]limits.Limit{each, own, user, group}, policy.KindKey, "key_a")))
	require.Equal(t, []string{"own"}, names(limits.Own([]limits.Limit{each, own, user, group}, policy.KindKey, "key_rich")))
	require.Equal(t, []string{"users"}, names(limits.Own([]limits.Limit{each, own, user, group}, policy.KindUser, "usr_1")))
}

func names(all []limits.Limit) (out []string) {
	for _, l := range all {
		out = append(out, l.Name)
	}
	return out
}

// TestSoft: a soft budget counts and warns, and refuses nothing.
func TestSoft(t *testing.T) {
	r := newRig(t, testenv.SQLite(t))
	l := r.limit(limits.Limit{Measure: limits.USD, Amount: 100, Period: limits.Day, Soft: true})
	e := r.replica()
	for range 5 {
		res, err := e.Reserve(t.Context(), r.ask(price{micros: 90}))
		require.NoError(t, err)
		res.Settle(paid(60))
	}
	e.stop()
	u := r.spent(l, "")
	require.EqualValues(t, 300, u.Used)
	require.Equal(t, []int{50, 85, 95}, u.Warned)
}

// TestReset: what was spent is taken off, for a reason, and the journal knows; of rolling days only what was spent on each.
func TestReset(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newRig(t, url)
		l := r.limit(limits.Limit{Measure: limits.USD, Amount: 100, Period: limits.Rolling, Days: 3})
		spend := func(n int64, ok bool) {
			t.Helper()
			e := r.replica()
			defer e.stop()
			res, err := e.Reserve(t.Context(), r.ask(price{micros: n}))
			if !ok {
				require.True(t, fault.Is(err, fault.BudgetExceeded), "%v", err)
				return
			}
			require.NoError(t, err)
			res.Settle(paid(n))
		}
		day := func(n int) { r.ahead.Store(int64(n) * int64(24*time.Hour)) }
		spend(60, true)
		day(1)
		spend(40, true)
		spend(1, false)
		u, err := r.store.ResetSpend(t.Context(), by, shop, l.ID, "")
		require.NoError(t, err)
		require.Zero(t, u.Used)
		require.Positive(t, u.Revision)
		spend(70, true)
		day(3) // the first day drops out, and what was taken off of it
		require.EqualValues(t, 70, r.spent(l, "").Used)
		spend(31, false)
		spend(30, true)
		entries, _, err := r.journal.List(t.Context(), journal.Query{Everywhere: true, Action: "limit.reset"})
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.Equal(t, "a test", entries[0].Origin.Why)
		_, err = r.store.ResetSpend(t.Context(), by, shop, l.ID, "key_x")
		require.True(t, fault.Is(err, fault.InvalidRequest), "%v", err)
	})
}
