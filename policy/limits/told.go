package limits

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
)

// Told is how far the rates that count a call are used: of several of a kind, the one with the least left.
type Told struct {
	Requests, Tokens Rate
}

// Rate is one of them.
type Rate struct {
	Known            bool
	Limit, Remaining int64
	Reset            time.Duration // until all of it is there again
}

func (t *Told) add(r *rule, p *pot, now time.Time) {
	to := &t.Requests
	switch r.Measure {
	case Requests:
	case Tokens:
		to = &t.Tokens
	default:
		return
	}
	left := p.room.Load()
	if since := now.UnixNano() - p.roomAt.Load(); since > 0 {
		left += int64(float64(r.Amount) * min(1, float64(since)/float64(time.Minute)))
	}
	if l := p.cur.Load(); l != nil {
		left += l.left.Load()
	}
	left = min(max(0, left), r.Amount)
	if to.Known && to.Remaining <= left {
		return
	}
	*to = Rate{Known: true, Limit: r.Amount, Remaining: left, Reset: r.refill(r.Amount - left)}
}

// refill is how long a rate takes to bring n.
func (r *rule) refill(n int64) time.Duration {
	if r.Amount <= 0 {
		return time.Minute
	}
	return time.Duration(min(60, float64(n)*60/float64(r.Amount)) * float64(time.Second))
}

// Refusal is in the chain of every refusal that time mends: After is how long that takes.
type Refusal struct {
	After time.Duration
}

// Error implements error.
func (r *Refusal) Error() string { return "limits: again in " + r.After.String() }

// refusal is one that is given to several calls.
type refusal struct{ err error }

// whom is who can change the limit.
func (l *Limit) whom() string {
	if l.Contact != "" {
		return l.Contact
	}
	return "an admin of the project"
}

// Spelled is a limit in words, such as "$25.00 a month" or "60 requests a minute".
func (l *Limit) Spelled() string {
	var what string
	switch l.Measure {
	case USD:
		what = dollars(l.Amount)
	case Calls:
		return count(l.Amount, "call") + " at a time"
	case Streams:
		return count(l.Amount, "stream") + " at a time"
	default:
		what = count(l.Amount, strings.TrimSuffix(string(l.Measure), "s"))
	}
	if l.Period == Rolling {
		return what + " in " + count(int64(l.Days), "day")
	}
	return what + " a " + string(l.Period)
}

func count(n int64, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return strconv.FormatInt(n, 10) + " " + of + "s"
}

func dollars(micros int64) string {
	s := fmt.Sprintf("$%d.%06d", micros/1_000_000, micros%1_000_000)
	for strings.HasSuffix(s, "0") && len(s)-strings.IndexByte(s, '.') > 3 {
		s = s[:len(s)-1]
	}
	return s
}

// reached is the refusal of what a moment mends.
func (r *rule) reached(after time.Duration) *refusal {
	after = max(after, 10*time.Millisecond)
	err := fault.Wrap(&Refusal{After: after}, fault.RateLimitExceeded, "The limit %q of %s is reached: try again in %s, or ask %s for more.",
		r.Name, r.Spelled(), seconds(after), r.whom())
	return &refusal{err}
}

// waits is the refusal while what is left of a budget is reserved.
func (r *rule) waits() *refusal {
	err := fault.Wrap(&Refusal{After: time.Second}, fault.RateLimitExceeded,
		"What is left of the budget %q (%s) is reserved by calls under way: try again in a moment, or ask %s for more.", r.Name, r.Spelled(), r.whom())
	return &refusal{err}
}

// spent is the refusal of a budget that has not got as much as a call may come to.
func (r *rule) spent(w Window, now time.Time) *refusal {
	after := w.End.Sub(now)
	when := "it begins anew at " + w.End.UTC().Format(time.RFC3339)
	if r.Period == Rolling {
		when = "the first of its days drops out at " + w.End.UTC().Format(time.RFC3339)
	}
	err := fault.Wrap(&Refusal{After: after}, fault.BudgetExceeded, "The budget %q of %s is spent, or has not got left what this call may come to: %s. Ask %s for more.",
		r.Name, r.Spelled(), when, r.whom())
	return &refusal{err}
}

// tooLarge is the refusal of a call that the limit never lets through.
func (r *rule) tooLarge(n int64) *refusal {
	code := fault.RateLimitExceeded
	if r.Budget() {
		code = fault.BudgetExceeded
	}
	may := count(n, strings.TrimSuffix(string(r.Measure), "s"))
	if r.Measure == USD {
		may = dollars(n)
	}
	return &refusal{fault.New(code, "The call may come to %s, and the limit %q is %s: ask for a shorter answer (max_tokens), or ask %s for more.",
		may, r.Name, r.Spelled(), r.whom())}
}

func seconds(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10) + " s"
}
