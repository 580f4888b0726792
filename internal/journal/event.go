// Package journal is the one way to change state: it commits each change together with its entry in a hash chain, gives it the
// next revision, and tells every replica's caches what to forget, in the order of revisions and without gaps.
package journal

import (
	"context"
	"time"

	"github.com/uptrace/bun"
)

// Actor is who did it.
type Actor struct {
	Kind string // "user", "key" or "system"
	ID   string
	Name string // as it was then; for people to read
}

// Origin says who asks for a change, from where and why. Every mutation of a domain takes one.
type Origin struct {
	Actor Actor
	From  string // network address of the caller, "" for the system
	Why   string // the caller's reason, may be ""
}

// Event is one change as the journal keeps it. Before and After are stored sealed beside the chained row, which holds salted
// commitments only, so they can be shredded without breaking the chain.
type Event struct {
	Project string
	Origin  Origin
	Action  string // "<noun>.<verb>", e.g. "label.move"
	Object  string // "<noun>:<id>", e.g. "prompt:pmpt_01…"
	Before  any    // encoded as JSON; nil for none
	After   any
	Touches []Touch // what caches must forget

	// Stamp, when set, runs after the change's own statements, once its revision is known and nobody else's can come before it:
	// for rows that carry their revision. All other changes wait meanwhile, so it should be one statement. It may still add
	// Touches and set Before and After.
	Stamp func(ctx context.Context, tx bun.Tx, revision int64) error

	rows []rowWrite // what Adds, Sets and Drops told of
}

// Touch names one cached pointer that a change made stale.
type Touch struct {
	Kind    string `json:"k"`           // "handle", "label", "prompt", "key", "principal", "provider", …
	Project string `json:"p,omitempty"` // "" when the key is unique over all projects
	Key     string `json:"i"`           // within kind and project; parts joined by "\x00"
}

// Change is a committed event as subscribers get it, in the order of revisions and without gaps.
type Change struct {
	Revision int64
	At       time.Time
	Project  string
	Action   string
	Object   string
	Touches  []Touch
}
