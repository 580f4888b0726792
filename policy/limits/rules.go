package limits

import (
	"slices"
	"sync"

	"github.com/promptgate/promptgate/policy"
)

// ruleset is a project's limits, ready to be asked.
type ruleset struct {
	raw      Rules
	none     bool
	project  []*rule
	keys     map[string][]*rule
	users    map[string][]*rule
	groups   map[string][]*rule
	labels   map[string][]*rule
	prompts  []*rule
	eachKey  []*rule
	eachUser []*rule
	ids      map[string]*rule
}

func (s *ruleset) byID(id string) *rule { return s.ids[id] }

// rule is one limit with its pots. It never changes once it is built; what calls use of it stands in its pots, which outlive it.
type rule struct {
	Limit
	off  map[string]map[int64]int64 // what was reset, by subject and window
	pot  *pot                       // nil for a default
	each *pots                      // of a default
}

// offOf is what was reset of the windows that count.
func (r *rule) offOf(subject string, from int64) (sum int64) {
	for window, n := range r.off[subject] {
		if window >= from {
			sum += n
		}
	}
	return sum
}

// Own are the limits of a key, or of a user, and of nobody else: its own, and the defaults that it has none in the place of.
func Own(all []Limit, kind, id string) (own []Limit) {
	scope, each := ScopeKey, ScopeEachKey
	if kind == policy.KindUser {
		scope, each = ScopeUser, ScopeEachUser
	}
	for _, l := range all {
		if l.Scope == scope && l.Subject == id {
			own = append(own, l)
		}
	}
	mine := own
	for _, l := range all {
		if l.Scope == each && !slices.ContainsFunc(mine, func(o Limit) bool { return l.alike(&o) }) {
			own = append(own, l)
		}
	}
	return own
}

// alike reports whether two limits are of one kind: a limit of somebody's own stands in for the default of its kind.
func (l *Limit) alike(o *Limit) bool {
	return l.Measure == o.Measure && l.Budget() == o.Budget() && l.Sandbox == o.Sandbox
}

// compile builds the set. Rules that cannot be read are an error: a limit that is not enforced is none.
func (e *Enforcer) compile(raw Rules) (*ruleset, error) {
	s := &ruleset{
		raw: raw, none: len(raw.Limits) == 0,
		keys: map[string][]*rule{}, users: map[string][]*rule{}, groups: map[string][]*rule{}, labels: map[string][]*rule{},
		ids: map[string]*rule{},
	}
	off := map[string]map[string]map[int64]int64{}
	for _, reset := range raw.Resets {
		if off[reset.Limit] == nil {
			off[reset.Limit] = map[string]map[int64]int64{}
		}
		off[reset.Limit][reset.Subject] = reset.Off
	}
	for i := range raw.Limits {
		r := &rule{Limit: raw.Limits[i], off: off[raw.Limits[i].ID]}
		if err := r.Validate(); err != nil {
			return nil, err
		}
		if r.Each() {
			r.each = e.potsOf(&r.Limit)
		} else {
			r.pot = e.potOf(&r.Limit)
		}
		s.ids[r.ID] = r
		switch r.Scope {
		case ScopeProject:
			s.project = append(s.project, r)
		case ScopeKey:
			s.keys[r.Subject] = append(s.keys[r.Subject], r)
		case ScopeUser:
			s.users[r.Subject] = append(s.users[r.Subject], r)
		case ScopeGroup:
			s.groups[r.Subject] = append(s.groups[r.Subject], r)
		case ScopeLabel:
			s.labels[r.Subject] = append(s.labels[r.Subject], r)
		case ScopePrompt:
			s.prompts = append(s.prompts, r)
		case ScopeEachKey:
			s.eachKey = append(s.eachKey, r)
		case ScopeEachUser:
			s.eachUser = append(s.eachUser, r)
		}
	}
	return s, nil
}

// match calls f for each rule that counts a call, with whose it is where the rule is a default, until f returns an error.
func (s *ruleset) match(ask *Ask, f func(r *rule, subject string) error) error {
	for _, rules := range [...][]*rule{s.project, s.keys[ask.Principal], s.labels[ask.Label]} {
		for _, r := range rules {
			if err := f(r, ""); err != nil {
				return err
			}
		}
	}
	if ask.PromptName != "" {
		for _, r := range s.prompts {
			if policy.MatchPrompt(r.Subject, ask.PromptName) {
				if err := f(r, ""); err != nil {
					return err
				}
			}
		}
	}
	if err := s.defaults(s.eachKey, s.keys, ask.Principal, f); err != nil || ask.Owner == "" {
		return err
	}
	for _, r := range s.users[ask.Owner] {
		if err := f(r, ""); err != nil {
			return err
		}
	}
	for i := range ask.Groups {
		for _, r := range s.groups[ask.Groups[i].ID] {
			if err := f(r, ""); err != nil {
				return err
			}
		}
	}
	return s.defaults(s.eachUser, s.users, ask.Owner, f)
}

func (s *ruleset) defaults(each []*rule, own map[string][]*rule, id string, f func(*rule, string) error) error {
	if id == "" {
		return nil
	}
	for _, r := range each {
		if r.stoodInFor(own[id]) {
			continue
		}
		if err := f(r, id); err != nil {
			return err
		}
	}
	return nil
}

func (r *rule) stoodInFor(own []*rule) bool {
	for _, o := range own {
		if r.alike(&o.Limit) {
			return true
		}
	}
	return false
}

// pots are those of a default, by whose they are.
type pots struct {
	limit  *Limit
	shards [16]potShard
}

type potShard struct {
	mu sync.RWMutex
	m  map[string]*pot
}

func (p *pots) shard(subject string) *potShard {
	h := uint32(2166136261)
	for i := range len(subject) {
		h = (h ^ uint32(subject[i])) * 16777619
	}
	return &p.shards[h%uint32(len(p.shards))]
}

func (p *pots) get(subject string) *pot {
	s := p.shard(subject)
	s.mu.RLock()
	found := s.m[subject]
	s.mu.RUnlock()
	if found != nil {
		return found
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if found = s.m[subject]; found == nil {
		if s.m == nil {
			s.m = map[string]*pot{}
		}
		found = newPot(p.limit, subject, p)
		s.m[subject] = found
	}
	return found
}

func (p *pots) drop(dead *pot) {
	s := p.shard(dead.subject)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[dead.subject] == dead {
		delete(s.m, dead.subject)
	}
}
