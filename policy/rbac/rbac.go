// Package rbac decides with Casbin. A principal's effective rules (its roles and grants) are compiled into a small enforcer; what
// it decided is kept until the principal or the clock makes it void.
package rbac

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/names"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/uses"
)

// Options tune a Checker; every field may be left zero.
type Options struct {
	Clock        func() time.Time // nil means time.Now
	MaxDecisions int              // decisions kept in memory; 0 means 200,000 (about 0.4 KB each)
	MaxEnforcers int              // principals kept compiled; 0 means 2,000 (about 40 KB each)
	Uses         *uses.Log        // is told what allows something; nil: nobody is
}

// maxCachedName keeps long names that a caller made up out of the cache, in bytes; prompts' names are shorter.
const maxCachedName = 256

// Checker implements policy.Checker. It is safe for concurrent use.
type Checker struct {
	clock     func() time.Time
	seed      maphash.Seed
	decisions *otter.Cache[uint64, *decided] // by the hash of a question; see decided
	// recent are the decisions of callers that ask the same again, in front of that: a look at one costs less than the cache's own accounts. A place belongs
	// to whoever asked last.
	recent    [recentDecisions]atomic.Pointer[decided]
	enforcers *otter.Cache[who, *ruleset]
	base      *baseModel
	uses      *uses.Log
}

// who is a principal as it was at a revision.
type who struct {
	project, principal, kind string
	revision                 int64
}

// question is all that a decision depends on, but time.
type question struct {
	who
	want policy.Permission
}

// decided is a decision beside the question that it answers. The cache is keyed by the question's hash, because hashing eight strings as
// a map key costs more than all the rest of a warm check; questions that collide are told apart by comparing them, and the newer one stays.
type decided struct {
	question
	policy.Decision
	basis

	noted atomic.Int64 // the minute since 1970 in which its use was noted last
}

// basis is what an allowing decision rests on: each of its holdings would do alone, but a key's besides its owner's.
type basis struct {
	subject  string   // whose use of them it is: the owner of a key that has one, else the principal
	holdings []string // ids of bindings, and of the key
}

// recentDecisions is a power of two.
const recentDecisions = 1 << 13

// place is where a question's recent decision stands.
func (c *Checker) place(q *question) *atomic.Pointer[decided] {
	h := maphash.String(c.seed, q.principal) ^ 3*maphash.String(c.seed, q.want.Name) ^ 5*maphash.String(c.seed, q.want.Label) ^ 7*maphash.String(c.seed, string(q.want.Action))
	return &c.recent[h%recentDecisions]
}

// holds reports whether this decision answers a question now.
func (d *decided) holds(q *question, clock func() time.Time) bool {
	return d != nil && d.question == *q && (d.Expires.IsZero() || clock().Before(d.Expires))
}

func (c *Checker) hash(q *question) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	var revision [8]byte
	binary.LittleEndian.PutUint64(revision[:], uint64(q.revision))
	_, _ = h.Write(revision[:]) // writing to a hash does not fail
	for _, s := range [...]string{q.project, q.principal, q.kind, string(q.want.Action), q.want.Kind, q.want.Name, q.want.Label} {
		_, _ = h.WriteString(s)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

// New builds a checker. An error means that no checker can be had: refuse to start.
func New(o Options) (*Checker, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.MaxDecisions <= 0 {
		o.MaxDecisions = 200_000
	}
	if o.MaxEnforcers <= 0 {
		o.MaxEnforcers = 2_000
	}
	base, err := newBaseModel()
	if err != nil {
		return nil, err
	}
	decisions, err := otter.New(&otter.Options[uint64, *decided]{MaximumSize: o.MaxDecisions})
	if err != nil {
		return nil, fmt.Errorf("rbac: decision cache: %w", err)
	}
	enforcers, err := otter.New(&otter.Options[who, *ruleset]{MaximumSize: o.MaxEnforcers})
	if err != nil {
		return nil, fmt.Errorf("rbac: enforcer cache: %w", err)
	}
	return &Checker{clock: o.Clock, seed: maphash.MakeSeed(), decisions: decisions, enforcers: enforcers, base: base, uses: o.Uses}, nil
}

// Check implements policy.Checker. A principal past its expiry may do nothing. Errors are Internal: the rules could not be
// compiled, and nothing is allowed.
func (c *Checker) Check(ctx context.Context, p *policy.Principal, want policy.Permission) (policy.Decision, error) {
	if p == nil {
		return policy.Decision{Missing: want.Describe()}, nil
	}
	if want.Kind == policy.ObjectModel {
		want.Name = names.Normal(want.Name) // as grants spell it: a denial that knows one spelling of two is none
	}
	q := question{who{project: p.Project, principal: p.ID, kind: p.Kind, revision: p.Revision}, want}
	recent := c.place(&q)
	if hit := recent.Load(); hit.holds(&q, c.clock) {
		c.note(ctx, hit)
		return hit.Decision, nil
	}
	key := c.hash(&q)
	if hit, ok := c.decisions.GetIfPresent(key); ok && hit.holds(&q, c.clock) {
		recent.Store(hit)
		c.note(ctx, hit)
		return hit.Decision, nil
	}
	d, on, err := c.decide(p, want)
	if err != nil {
		return policy.Decision{Missing: want.Describe()}, fault.Wrap(err, fault.Internal, "The permissions of this key or user cannot be evaluated: ask an admin to save them anew.")
	}
	made := &decided{question: q, Decision: d, basis: on}
	if len(want.Name) <= maxCachedName && len(want.Label) <= maxCachedName {
		c.decisions.Set(key, made)
		recent.Store(made)
	}
	c.note(ctx, made)
	return d, nil
}

// note has the use of what allowed something noted, once a minute.
func (c *Checker) note(ctx context.Context, d *decided) {
	if c.uses == nil || len(d.holdings) == 0 || d.noted.Load() == c.uses.Minute() {
		return
	}
	if policy.Hypothetical(ctx) {
		return
	}
	minute := c.uses.Minute()
	d.noted.Store(minute)
	c.uses.Note(minute, d.project, d.subject, d.holdings)
}

func (c *Checker) decide(p *policy.Principal, want policy.Permission) (policy.Decision, basis, error) {
	now := c.clock()
	on := basis{subject: p.ID}
	if !p.Expires.IsZero() && !now.Before(p.Expires) {
		return policy.Decision{Missing: want.Describe()}, basis{}, nil
	}
	if p.Kind == policy.KindKey {
		on.holdings = append(on.holdings, p.ID)
	}
	if p.Owner == nil {
		d, held, err := c.judge(p, want, now, false)
		return d, on.with(d, held), err
	}
	on.subject = p.Owner.ID
	// A key of somebody's may do what both may. An admin may do all that it could grant itself, calls included: keys are what people call by.
	theirs, held, err := c.judge(p.Owner, want, now, true)
	if err != nil || p.Inherits {
		return until(theirs, p.Expires), on.with(theirs, held), err
	}
	d, _, err := c.judge(p, want, now, false)
	if err != nil {
		return d, basis{}, err
	}
	d = until(d, theirs.Expires)
	d.Allowed, d.Holds = d.Allowed && theirs.Allowed, d.Holds && theirs.Holds
	if !d.Allowed {
		d.Missing = want.Describe()
	}
	return d, on.with(d, held), nil
}

// with adds what a member holds that allowed something; a refusal rests on nothing that would be used.
func (b basis) with(d policy.Decision, held []string) basis {
	if !d.Allowed {
		return basis{}
	}
	b.holdings = append(b.holdings, held...)
	return b
}

// until is a decision that ends at a time at the latest; zero: it does not.
func until(d policy.Decision, end time.Time) policy.Decision {
	if !end.IsZero() && (d.Expires.IsZero() || end.Before(d.Expires)) {
		d.Expires = end
	}
	return d
}

// judge asks what a principal holds itself, and which of its bindings allow it; admin says that admins of the whole project hold every action in it.
func (c *Checker) judge(p *policy.Principal, want policy.Permission, now time.Time, admin bool) (d policy.Decision, by []string, err error) {
	d = policy.Decision{Missing: want.Describe()}
	set, err := c.compiled(p, now, admin)
	if err != nil {
		return d, nil, err
	}
	if d.Allowed, err = set.allows(want); err != nil {
		return policy.Decision{Missing: want.Describe()}, nil, err
	}
	d.Expires = set.until
	d.Holds = d.Allowed || set.holds(want.Kind, want.Name)
	if d.Allowed {
		d.Missing, by = "", set.allowedBy(want)
	}
	return d, by, nil
}

// compiled is what a principal may do now, compiled once until it or the clock changes that.
func (c *Checker) compiled(p *policy.Principal, now time.Time, admin bool) (*ruleset, error) {
	key := who{project: p.Project, principal: p.ID, kind: p.Kind, revision: p.Revision}
	if admin {
		key.kind += "+" // compiled with more than it holds itself
	}
	if set, ok := c.enforcers.GetIfPresent(key); ok && (set.until.IsZero() || now.Before(set.until)) {
		return set, nil
	}
	set, err := c.base.compile(p, now, admin)
	if err != nil {
		return nil, err
	}
	c.enforcers.Set(key, set)
	return set, nil
}
