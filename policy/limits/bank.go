package limits

import (
	"context"
	"time"
)

// Draw is one exchange of a replica with the database about its lease of one budget: it says what it holds and used, and asks for more.
type Draw struct {
	Project string
	Limit   string
	Subject string
	Holder  string // the replica's life: each start is another
	Window  int64  // that it is for, by its start
	From    int64  // the earliest window that counts with it
	Amount  int64  // of the limit
	Room    int64  // what all may hold and use together: Amount, and what was reset
	Base    int64  // what the holder keeps of its lease; never less than it used and has reserved
	Used    int64  // what it used so far
	Want    int64  // more, as much as is fair
	Need    int64  // more, or nothing
	Expires int64  // when the holder, unless it is heard of before, counts as gone: microseconds since 1970. Its lease stays charged
	Close   bool   // the lease ends: what was used stays, the rest is free
}

// Drawn is the answer to a Draw.
type Drawn struct {
	Granted int64 // more; 0, or at least Need
	Used    int64 // by all holders, as far as they have told
	Charged int64 // … and what they hold
}

// Bank charges leases in the database before they are spent. Several holders never have more than Room together, whatever becomes of them.
type Bank interface {
	// Exchange does all draws, or none when it returns an error.
	Exchange(ctx context.Context, draws []Draw) ([]Drawn, error)
}

// Counters are what replicas share to keep rates, and to bound what runs at a time. Losing them loosens a limit for a moment, no more.
type Counters interface {
	// Take takes want from a bucket that refills at perMinute and holds as much; a negative want gives back. It takes nothing when there is less than
	// need. room is what is left then.
	Take(ctx context.Context, key string, b Bucket) (got, room int64, err error)
	// Hold says how many places a holder keeps, and asks for more, like a Draw; it is forgotten unless it says so again within For.
	Hold(ctx context.Context, key string, s Stretch) (got int64, err error)
}

// Bucket is a Take.
type Bucket struct {
	PerMinute  int64
	Want, Need int64
	Now        time.Time
}

// Stretch is a Hold.
type Stretch struct {
	Holder     string
	Limit      int64
	Base       int64
	Want, Need int64
	Now        time.Time
	For        time.Duration
}

// Thresholds are the shares of a budget, in percent, at which it warns.
func Thresholds() []int { return []int{50, 85, 95} }
