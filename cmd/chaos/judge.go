package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// What is promised, and what a machine that other work shares is held to.
const (
	addedBound = 5 * time.Millisecond // of the p99, once
	addedAfter = 2 * time.Second      // has passed
	// unread is how long before the loss of the database a change may have been made that replicas have heard of and not read yet. They know
	// no more what is true then: they refuse rather than serve what was.
	unread = 250 * time.Millisecond

	moveBound = 100 * time.Millisecond // of the p99 of label moves, when all is well
	window    = time.Second            // that the recovery is looked for in
	busyBound = 100 * time.Millisecond // of the p99 of calls to the provider itself: past it the machine is what fails

	moreLines    = 4 // what a replica that gets no processor for a while may log: two changes of state and back
	fewSightings = 3
)

// row is what is printed of one fault, and what it broke.
type row struct {
	trial
	calls, failed, cut, stale, tooOld int
	reasons                           map[string]int // of failures, and of slow refusals

	before, during, steady time.Duration // p99 of plain calls: before, during all of it, and after addedAfter
	busy                   time.Duration // p99 of direct calls, over all of it
	machine                time.Duration // what the p99 of direct calls gained from before to steady
	recovered              time.Duration // until the added p99 was below addedBound; -1: never
	moves                  int           // sightings
	movedP99               time.Duration
	refused                map[string]int // label moves that should have been taken
	lines                  int            // of the replica that logged most
	logged                 map[string]int
	degraded               int // replicas that said so
	reconnect              time.Duration
	broken                 []string
}

// added is what the fault adds to the p99 once replicas have had their time to notice, beyond what the machine itself added.
func (r *row) added() time.Duration { return r.steady - r.before - max(r.machine, 0) }

func judge(w *world, l *load, p *probes, t trial) *row {
	r := &row{trial: t, reconnect: w.o.second(), reasons: map[string]int{}, refused: map[string]int{}, logged: map[string]int{}}
	r.speeds(l)
	ages := p.history(w.o)
	for _, c := range l.between(t.injected, t.ended) {
		if c.kind != direct {
			r.count(w.o, c, ages)
		}
	}
	for _, c := range t.coldKeys {
		if c.at.Before(t.mended) && (c.status != http.StatusServiceUnavailable || c.took > w.o.second()) {
			r.reasons[fmt.Sprintf("unknown key answered %d after %s", c.status, tenth(c.took))]++
			r.failed++
		}
	}
	r.watch(w, p)
	r.verdict(w.o)
	return r
}

// second is what is promised of a refusal without the database, of a change that only polling finds, of a revoked key, and of coming back
// when the database is: longer when speed is not judged.
func (o options) second() time.Duration {
	if o.speed {
		return time.Second
	}
	return 3 * time.Second
}

func (r *row) speeds(l *load) {
	p99 := func(k kind, from, to time.Time) time.Duration { return p99(l.between(from, to), k) }
	r.before, r.during = p99(plain, r.began, r.injected), p99(plain, r.injected, r.mended)
	from := r.injected.Add(min(addedAfter, r.mended.Sub(r.injected)/2))
	r.steady = p99(plain, from, r.mended)
	r.busy = p99(direct, r.began, r.ended)
	r.machine = p99(direct, from, r.mended) - p99(direct, r.began, r.injected)
	r.recovered = -1
	for at := r.injected; !at.Add(window).After(r.mended); at = at.Add(window / 4) {
		if p99(plain, at, at.Add(window)) < r.before+max(r.machine, 0)+addedBound {
			r.recovered = at.Sub(r.injected)
			break
		}
	}
}

// p99 of how long calls of a kind took that were answered.
func p99(results []result, k kind) time.Duration {
	var took []time.Duration
	for _, r := range results {
		if r.kind == k && r.status == http.StatusOK {
			took = append(took, r.took)
		}
	}
	return top(took)
}

// top is the 99th percentile; it sorts.
func top(took []time.Duration) time.Duration {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[min(len(took)*99/100, len(took)-1)]
}

func (r *row) count(o options, c result, ages history) {
	r.calls++
	switch {
	case c.cut:
		r.cut++
		return
	case c.status == http.StatusServiceUnavailable && (r.mayRefuse(c, ages) || r.mayExpire(c)):
		if c.took > o.second() {
			r.failed++
			r.reasons["a refusal took "+tenth(c.took)]++
		}
		return
	case c.status != http.StatusOK:
		r.failed++
		r.reasons[c.why+where(c)]++
		return
	}
	if r.expired(c) {
		r.tooOld++
		r.reasons[fmt.Sprintf("served by replica %d past its bound of %s", c.replica+1, staleBound)]++
	}
	if c.stale > 0 {
		r.stale++
		if o.speed && !r.withoutData(c.replica) {
			r.tooOld++
			r.reasons["marked stale although the database is up"]++
		}
		return
	}
	if c.kind != cold && r.kind != noData && !ages.allows(c) {
		r.tooOld++
		r.reasons[fmt.Sprintf("older than it may be: hot-%d version %d from replica %d", c.prompt, c.version, c.replica+1)]++
	}
}

// where says what a failed call was for.
func where(c result) string {
	if c.kind == cold {
		return fmt.Sprintf(" (cold, replica %d)", c.replica+1)
	}
	return fmt.Sprintf(" (hot-%d, replica %d)", c.prompt, c.replica+1)
}

// mayRefuse says whether this call may be answered 503: it needs the database, and that is away.
func (r *row) mayRefuse(c result, ages history) bool {
	if !r.withoutData(c.replica) || c.at.After(r.up.Add(r.reconnect)) {
		return false
	}
	return c.kind == cold || ages.moved(c.prompt, r.injected.Add(-unread), r.down)
}

// withoutData says whether a replica has lost the database.
func (r *row) withoutData(replica int) bool {
	return r.kind == noData || r.kind == cutOff && replica == replicas-1
}

// mayExpire says whether a call may have been refused because its replica had not reached the database for as long as it is set to do
// without. It polls, so its time may have begun earlier than the fault.
func (r *row) mayExpire(c result) bool {
	return r.bounded && c.replica > 0 && c.at.Before(r.up.Add(r.reconnect))
}

// expired says whether that call had to be refused.
func (r *row) expired(c result) bool {
	const margin = 250 * time.Millisecond
	return r.bounded && c.replica > 0 && c.at.After(r.down.Add(staleBound+margin)) && c.at.Before(r.mended)
}

func (r *row) watch(w *world, p *probes) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var took []time.Duration
	for _, s := range p.seen {
		if !s.acked.Before(r.injected) && s.acked.Before(r.mended) {
			took = append(took, s.took)
		}
	}
	r.moves, r.movedP99 = len(took), top(took)
	for _, f := range p.refused {
		expected := r.withoutData(f.replica) && f.at.Before(r.up.Add(r.reconnect))
		if !expected && f.at.After(r.injected) && f.at.Before(r.ended) {
			r.refused[f.why]++
		}
	}
	said := map[int]bool{}
	for _, s := range p.statuses {
		if s.text == "degraded" && s.at.After(r.injected) && s.at.Before(r.mended) {
			said[s.replica] = true
		}
	}
	r.degraded = len(said)
	for i, one := range w.replicas {
		if r.restarts(i) {
			continue // it logs its start
		}
		lines := one.logged(r.injected, r.ended)
		r.lines = max(r.lines, len(lines))
		for _, text := range lines {
			r.logged[message(text)]++
		}
	}
}

// restarts says whether a replica is restarted during the fault.
func (r *row) restarts(i int) bool {
	return r.bounded && i > 0 || r.name == "replica-killed" && i == 1 || r.name == "replica-restarted-without-postgres" && i == 2
}

func (r *row) breaks(format string, args ...any) {
	r.broken = append(r.broken, r.name+": "+fmt.Sprintf(format, args...))
}

// unjudged says that the machine was too busy: budgets of 50 ms run out by themselves on it.
func (r *row) unjudged() bool { return r.busy > busyBound }

func (r *row) verdict(o options) {
	if r.unjudged() {
		if o.speed {
			r.breaks("cannot be judged: the machine is too busy, the p99 of calls to the provider itself was %s", tenth(r.busy))
		}
		return
	}
	if r.failed > 0 || r.tooOld > 0 {
		r.breaks("%d failed, %d too old: %s", r.failed, r.tooOld, summary(r.reasons))
	}
	if len(r.refused) > 0 {
		r.breaks("label moves were refused: %s", summary(r.refused))
	}
	allowed := r.fault.lines
	if !o.speed {
		allowed += moreLines
	}
	if r.lines > allowed {
		r.breaks("a replica logged %d lines, %d changes of state: %s", r.lines, r.fault.lines, summary(r.logged))
	}
	if !r.restored {
		r.breaks("a replica was not ready %s after it was mended", restoreTimeout)
	}
	r.judgeChanges(o)
	want := 0
	switch r.kind {
	case noCache, noData:
		if !r.subtle {
			want = replicas
		}
	case cutOff:
		want = 1
	}
	if r.degraded < want {
		r.breaks("%d of %d replicas said on /readyz that they were degraded", r.degraded, want)
	}
	if r.kind == noCache && o.speed && r.added() >= addedBound {
		r.breaks("the p99 stayed %s higher", tenth(r.added()))
	}
	if r.kind == noCache && o.speed && (r.recovered < 0 || r.recovered > addedAfter) {
		r.breaks("the added p99 was not below %s within %s", addedBound, addedAfter)
	}
}

// judgeChanges judges how soon changes were seen.
func (r *row) judgeChanges(o options) {
	if r.kind == noData {
		return // there are no changes
	}
	limit := o.second()
	if r.kind == healthy && o.speed {
		limit = moveBound
	}
	if r.moves < fewSightings {
		r.breaks("only %d label moves could be watched", r.moves)
	}
	if r.movedP99 > limit {
		r.breaks("the p99 of label moves was %s, more than %s", tenth(r.movedP99), limit)
	}
	if r.revokeErr != nil {
		r.breaks("a key could not be revoked: %s", shorten(r.revokeErr))
	}
	if r.revoked > o.second() {
		r.breaks("a revoked key was refused everywhere only after %s", tenth(r.revoked))
	}
}

func summary(counts map[string]int) string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d× %s", counts[what], what))
	}
	return strings.Join(parts, "; ")
}

// history knows when each hot prompt's label pointed where.
type history struct {
	moves [hotPrompts][]move
	bound time.Duration
}

func (p *probes) history(o options) history {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := history{bound: o.second()}
	for n := range p.moves {
		h.moves[n] = slices.Clone(p.moves[n])
	}
	return h
}

// moved says whether a prompt's label was on its way at some time between the two.
func (h history) moved(prompt int, from, to time.Time) bool {
	return slices.ContainsFunc(h.moves[prompt], func(m move) bool { return m.asked.After(from) && m.asked.Before(to) })
}

// allows says whether a call may have had its version: that of the last move acknowledged a bound before it was made, or a later one's,
// acknowledged or not.
func (h history) allows(c result) bool {
	moves := h.moves[c.prompt]
	first := 0
	may := map[int]bool{1: true}
	for i, m := range moves {
		if !m.acked.IsZero() && m.acked.Before(c.at.Add(-h.bound)) {
			first = i
			clear(may)
		}
	}
	for _, m := range moves[min(first, len(moves)):] {
		may[m.version] = true
	}
	return may[c.version]
}
