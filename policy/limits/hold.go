package limits

import (
	"context"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
)

// hold is what one call holds of all limits that count it. It is pooled: what it holds ends once.
type hold struct {
	e     *Enforcer
	visit func(r *rule, subject string) error // add, made once
	ctx   context.Context                     //nolint:containedctx // of the call that reserves, for visit
	ask   Ask
	now   time.Time
	items []item

	micros, tokens           int64 // what the call may come to
	askedMicros, askedTokens bool
	pricedMicros, knownToken bool
}

// item is one reservation.
type item struct {
	rule  *rule
	lease *lease
	n     int64
}

func newHold(e *Enforcer) *hold {
	h := &hold{e: e}
	h.visit = h.add
	return h
}

var _ Keeper = (*hold)(nil)

// amount is what a call takes of a limit; counts is false when it takes nothing.
func (h *hold) amount(r *rule) (n int64, counts bool, err error) {
	if r.Sandbox != h.ask.Sandbox {
		return 0, false, nil
	}
	switch r.Measure {
	case Requests, Calls:
		return 1, true, nil
	case Streams:
		return 1, h.ask.Stream, nil
	case Tokens:
		if !h.askedTokens {
			h.tokens, h.knownToken = h.ask.Cost.Largest(h.e.o.Assumed)
			h.askedTokens = true
		}
		return clamp(h.tokens), true, nil // what a request does not tell is counted when it is known
	default:
		if !h.askedMicros {
			h.micros, h.pricedMicros = h.ask.Cost.Dearest(h.e.o.Assumed)
			h.askedMicros = true
		}
		if h.pricedMicros {
			return clamp(h.micros), true, nil
		}
		if !r.Unpriced {
			h.e.stats.refused(r)
			return 0, false, fault.New(fault.BudgetExceeded, "What this call would cost is not known, and the budget %q takes no such calls: ask %s to give "+
				"the provider prices for the model, or to let unpriced calls through.", r.Name, r.whom())
		}
		return 1, true, nil
	}
}

func clamp(n int64) int64 { return min(max(n, 0), MaxAmount) }

// add reserves what the call takes of one limit.
func (h *hold) add(r *rule, subject string) error {
	n, counts, err := h.amount(r)
	if err != nil || !counts {
		return err
	}
	p := r.pot
	if p == nil {
		p = r.each.get(subject)
	}
	l := p.lease(h.now)
	switch {
	case l != nil && r.Soft:
		if l = h.e.force(p, l, n); l == nil {
			return h.more(r, p, subject, n)
		}
	case l == nil || !l.take(n):
		return h.more(r, p, subject, n)
	}
	h.held(r, p, l, n)
	return nil
}

func (h *hold) more(r *rule, p *pot, subject string, n int64) error {
	l, p, err := h.e.more(h.ctx, r, p, subject, n)
	if err != nil {
		if h.ask.Told != nil && r.Rate() && fault.Is(err, fault.RateLimitExceeded) {
			h.ask.Told.add(r, p, h.now)
		}
		return err
	}
	h.held(r, p, l, n)
	return nil
}

func (h *hold) held(r *rule, p *pot, l *lease, n int64) {
	h.items = append(h.items, item{r, l, n})
	if h.ask.Told != nil && r.Rate() {
		h.ask.Told.add(r, p, h.now)
	}
}

// Settle implements Holder.
func (h *hold) Settle(_ string, _ int64, spent Spent) {
	for i := range h.items {
		it := &h.items[i]
		it.lease.settle(it.n, it.came(spent))
	}
	h.end()
}

// came is what the call came to.
func (it *item) came(spent Spent) int64 {
	switch it.rule.Measure {
	case Requests:
		return it.n
	case Tokens:
		return spent.Tokens
	case USD:
		switch {
		case spent.Priced:
			return spent.Micros
		case it.rule.Unpriced && it.n <= 1: // nothing is known of it
			return 0
		}
		return it.n
	}
	return 0
}

// Release implements Holder.
func (h *hold) Release(string, int64) {
	for i := range h.items {
		h.items[i].lease.settle(h.items[i].n, 0)
	}
	h.end()
}

// Keep implements Keeper: the request counts, and its place is free; tokens and money wait for what the provider says.
func (h *hold) Keep(string, int64) {
	kept := h.items[:0]
	for _, it := range h.items {
		if it.rule.Measure == Tokens || it.rule.Measure == USD {
			kept = append(kept, it)
			continue
		}
		it.lease.settle(it.n, it.came(Spent{}))
	}
	h.items = kept
}

func (h *hold) end() {
	clear(h.items)
	*h = hold{e: h.e, visit: h.visit, items: h.items[:0]}
	h.e.holds.Put(h)
}

// force reserves of a soft budget, whatever is left; nil when its window was closed meanwhile.
func (*Enforcer) force(p *pot, l *lease, n int64) *lease {
	l.force(n)
	if p.cur.Load() != l { // Run may have closed it before it saw n
		l.settle(n, 0)
		return nil
	}
	return l
}
