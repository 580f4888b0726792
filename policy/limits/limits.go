// Package limits bounds what calls take. A limiter grants a call a Reservation before anything is sent; the call holds it and settles or releases it
// exactly once, whatever becomes of the call. Places and memory are bounded here; budgets and rates are limiters of the same form.
package limits

import (
	"context"

	"github.com/promptgate/promptgate/policy"
)

// Ask is what a call would take.
type Ask struct {
	Project   string
	Principal string // id of who calls
	Prompt    string // its id; "" without one
	Model     string // as it was asked for
	Cost      Coster // may be asked by a limiter that counts money; never nil

	PromptName string         // its current name
	Label      string         // that it runs under; policy.LabelModel without a prompt
	Owner      string         // who owns the key, or calls: "usr_…"; "" for nobody
	Groups     []policy.Group // that the owner is in
	Stream     bool           // the answer is one
	Sandbox    bool
	Told       *Told // where a limiter says how far its rates are used; nil: nobody asks
}

// Coster says what a call may come to before it is made.
type Coster interface {
	// Dearest is the most that the call costs at any of its targets, in micro-dollars. output is how many tokens of answer to reckon with when the request
	// sets no bound. known is false when a target has no price.
	Dearest(output int64) (micros int64, known bool)
	// Largest is the most tokens that the call comes to, in and out. known is false when the request does not tell.
	Largest(output int64) (tokens int64, known bool)
}

// Spent is what a call came to.
type Spent struct {
	Tokens int64 // in and out, reported or estimated
	Micros int64 // micro-dollars
	Priced bool  // Micros is known; otherwise what was reserved is the best that is known
}

// Holder takes reservations back.
type Holder interface {
	// Settle takes a reservation back from a call that was made, Release from one that was not. Reservation calls one of them, once.
	Settle(key string, amount int64, spent Spent)
	Release(key string, amount int64)
}

// Keeper is a Holder some of whose reservations outlive the request: what a provider works on in the background is paid for when it ends.
type Keeper interface {
	Holder
	// Keep ends what a request alone holds, such as its place among those that run at a time.
	Keep(key string, amount int64)
}

// Limiter grants reservations. It is safe for concurrent use.
type Limiter interface {
	Holder
	// Reserve grants what the call asks for or refuses, with Overloaded, RateLimitExceeded or BudgetExceeded and a message that says what to do. It waits
	// for nothing but a lease that has run out. The zero Reservation is a grant that holds nothing.
	Reserve(ctx context.Context, ask Ask) (Reservation, error)
}

// Reservation is what a limiter holds for one call. The zero value holds nothing. It belongs to one goroutine, and is not to be copied once it is held.
type Reservation struct {
	by     Holder
	key    string
	amount int64
}

// Grant makes a reservation of a holder: key and amount are its own, and come back to it.
func Grant(by Holder, key string, amount int64) Reservation {
	return Reservation{by: by, key: key, amount: amount}
}

// Held reports whether it holds anything.
func (r *Reservation) Held() bool { return r.by != nil }

// Settle ends the reservation of a call that was made. Whoever comes second, here or to Release, does nothing.
func (r *Reservation) Settle(spent Spent) {
	if held := r.take(); held.by != nil {
		held.by.Settle(held.key, held.amount, spent)
	}
}

// Release ends the reservation of a call that was not made.
func (r *Reservation) Release() {
	if held := r.take(); held.by != nil {
		held.by.Release(held.key, held.amount)
	}
}

func (r *Reservation) take() Reservation {
	held := *r
	*r = Reservation{}
	return held
}

// Set is what one call holds of several limiters. The zero value is ready; it keeps its memory.
type Set struct{ all []Reservation }

// Reserve asks each limiter in turn. When one refuses, or panics, what the others granted is released.
func (s *Set) Reserve(ctx context.Context, by []Limiter, ask Ask) error {
	granted := false
	defer func() {
		if !granted {
			s.Release()
		}
	}()
	for _, l := range by {
		r, err := l.Reserve(ctx, ask)
		if err != nil {
			return err
		}
		if r.Held() {
			s.all = append(s.all, r)
		}
	}
	granted = true
	return nil
}

// Settle settles what is held, each of it, even when a limiter panics.
func (s *Set) Settle(spent Spent) {
	if last := len(s.all) - 1; last >= 0 {
		r := s.all[last].take()
		s.all = s.all[:last]
		defer s.Settle(spent)
		r.Settle(spent)
	}
}

// Release releases what is held, each of it, even when a limiter panics.
func (s *Set) Release() {
	if last := len(s.all) - 1; last >= 0 {
		r := s.all[last].take()
		s.all = s.all[:last]
		defer s.Release()
		r.Release()
	}
}

// Keep takes what outlives the request out of the set, for whoever settles it later. The rest stays.
func (s *Set) Keep() (later Set) {
	kept := s.all[:0]
	for i := range s.all {
		r := s.all[i].take()
		if k, ok := r.by.(Keeper); ok {
			k.Keep(r.key, r.amount)
			later.all = append(later.all, r)
			continue
		}
		kept = append(kept, r)
	}
	s.all = kept
	return later
}
