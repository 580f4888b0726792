// Package people keeps in memory what members of projects may do: accounts, what is bound to them and their groups, roles and service accounts. A member
// that was asked about before costs a look at each of its parts and no allocation.
package people

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/pointers"
	"github.com/promptgate/promptgate/policy"
)

// Options tune a Directory; every field may be left zero.
type Options struct {
	Clock       func() time.Time // nil means time.Now
	MaxPeople   int              // of each kind of thing kept in memory; 0 means 100,000 (about 1 KB each)
	StaleAfter  time.Duration    // how long they are served after the feed was last certain; 0 means 1 h
	LoadTimeout time.Duration    // bounds what one request waits for the source; 0 means 800 ms
}

// key names what a project keeps.
type key struct{ project, id string }

// Directory answers policy.People from memory, and who is a member. It is safe for concurrent use and starts no goroutine.
type Directory struct {
	source    policy.People
	freshness pointers.Freshness

	accounts *pointers.Cache[string, *policy.Account]
	bindings *pointers.Cache[key, *[]policy.Binding]
	roles    *pointers.Cache[key, *policy.Role]
	services *pointers.Cache[key, *policy.ServiceAccount]
	members  *otter.Cache[key, *member]
}

// member is a principal and the parts that it was put together from: it is good for as long as each of them is the one that is in memory.
type member struct {
	principal *policy.Principal
	parts     []part
}

// part is one thing that was read, by the cache that it is in.
type part struct {
	kind string // as journal.Touch has it
	key  key
	is   any // the pointer that was got
}

var _ policy.People = (*Directory)(nil)

// New subscribes to the feed: make it before the feed is loaded, so that no change falls between.
func New(source policy.People, feed pointers.Feed, o Options) (*Directory, error) {
	if source == nil || feed == nil {
		return nil, errors.New("people: a directory needs a source and a feed")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.MaxPeople <= 0 {
		o.MaxPeople = 100_000
	}
	if o.StaleAfter <= 0 {
		o.StaleAfter = time.Hour
	}
	if o.LoadTimeout <= 0 {
		o.LoadTimeout = 800 * time.Millisecond
	}
	d := &Directory{source: source, freshness: pointers.Freshness{ConfirmedAt: feed.ConfirmedAt, MaxStale: o.StaleAfter, Clock: o.Clock, Name: "Accounts"}}
	var errs [5]error
	d.accounts, errs[0] = pointers.New(pointers.Options[string, *policy.Account]{
		Name: "account", Size: o.MaxPeople, Absences: o.MaxPeople, Timeout: o.LoadTimeout, Clock: o.Clock,
		Key: func(t journal.Touch) (string, bool) { return t.Key, t.Kind == policy.TouchUser },
	})
	d.bindings, errs[1] = cache[*[]policy.Binding](o, "bindings", policy.TouchBindings)
	d.roles, errs[2] = cache[*policy.Role](o, "role", policy.TouchRole)
	d.services, errs[3] = cache[*policy.ServiceAccount](o, "service account", policy.TouchService)
	d.members, errs[4] = otter.New(&otter.Options[key, *member]{MaximumSize: o.MaxPeople})
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	for _, apply := range []func(journal.Change){d.accounts.Apply, d.bindings.Apply, d.roles.Apply, d.services.Apply} {
		feed.Subscribe(apply)
	}
	return d, nil
}

func cache[V any](o Options, name, touch string) (*pointers.Cache[key, V], error) {
	return pointers.New(pointers.Options[key, V]{
		Name: name, Size: o.MaxPeople, Absences: o.MaxPeople, Timeout: o.LoadTimeout, Clock: o.Clock,
		Key: func(t journal.Touch) (key, bool) { return key{t.Project, t.Key}, t.Kind == touch },
	})
}

// Account implements policy.People.
func (d *Directory) Account(ctx context.Context, id string) (*policy.Account, error) {
	return get(ctx, d, d.accounts, id, func(ctx context.Context) (*policy.Account, error) { return d.source.Account(ctx, id) })
}

// Bindings implements policy.People.
func (d *Directory) Bindings(ctx context.Context, project, subject string) (*[]policy.Binding, error) {
	return get(ctx, d, d.bindings, key{project, subject}, func(ctx context.Context) (*[]policy.Binding, error) { return d.source.Bindings(ctx, project, subject) })
}

// Role implements policy.People.
func (d *Directory) Role(ctx context.Context, project, name string) (*policy.Role, error) {
	return get(ctx, d, d.roles, key{project, name}, func(ctx context.Context) (*policy.Role, error) { return d.source.Role(ctx, project, name) })
}

// Service implements policy.People.
func (d *Directory) Service(ctx context.Context, project, id string) (*policy.ServiceAccount, error) {
	return get(ctx, d, d.services, key{project, id}, func(ctx context.Context) (*policy.ServiceAccount, error) { return d.source.Service(ctx, project, id) })
}

func get[K comparable, V any](ctx context.Context, d *Directory, c *pointers.Cache[K, V], k K, load func(ctx context.Context) (V, error)) (V, error) {
	if _, err := d.freshness.Age(); err != nil {
		var none V
		return none, err
	}
	if v, ok := c.Get(k); ok {
		return v, nil
	}
	return c.Load(ctx, k, true, load)
}

// Member is policy.Member from memory. The principal is shared: it is not to be changed.
func (d *Directory) Member(ctx context.Context, project, id string) (*policy.Principal, error) {
	if _, err := d.freshness.Age(); err != nil {
		return nil, err
	}
	at := key{project, id}
	if m, ok := d.members.GetIfPresent(at); ok && d.holds(m) {
		return m.principal, nil
	}
	noting := &noting{Directory: d}
	p, err := policy.Member(ctx, noting, project, id)
	if err != nil {
		return nil, err
	}
	d.members.Set(at, &member{p, noting.parts})
	return p, nil
}

// holds reports whether each part is the one that is in memory.
func (d *Directory) holds(m *member) bool {
	return !slices.ContainsFunc(m.parts, func(p part) bool {
		switch p.kind {
		case policy.TouchUser:
			v, ok := d.accounts.Get(p.key.id)
			return !ok || p.is != any(v)
		case policy.TouchBindings:
			v, ok := d.bindings.Get(p.key)
			return !ok || p.is != any(v)
		case policy.TouchRole:
			v, ok := d.roles.Get(p.key)
			return !ok || p.is != any(v)
		}
		v, ok := d.services.Get(p.key)
		return !ok || p.is != any(v)
	})
}

// noting is a Directory that notes what one member is put together from.
type noting struct {
	*Directory
	parts []part
}

func (n *noting) note(kind, project, id string, is any) {
	n.parts = append(n.parts, part{kind, key{project, id}, is})
}

// Account implements policy.People.
func (n *noting) Account(ctx context.Context, id string) (*policy.Account, error) {
	v, err := n.Directory.Account(ctx, id)
	n.note(policy.TouchUser, "", id, v)
	return v, err
}

// Bindings implements policy.People.
func (n *noting) Bindings(ctx context.Context, project, subject string) (*[]policy.Binding, error) {
	v, err := n.Directory.Bindings(ctx, project, subject)
	n.note(policy.TouchBindings, project, subject, v)
	return v, err
}

// Role implements policy.People.
func (n *noting) Role(ctx context.Context, project, name string) (*policy.Role, error) {
	v, err := n.Directory.Role(ctx, project, name)
	n.note(policy.TouchRole, project, name, v)
	return v, err
}

// Service implements policy.People.
func (n *noting) Service(ctx context.Context, project, id string) (*policy.ServiceAccount, error) {
	v, err := n.Directory.Service(ctx, project, id)
	n.note(policy.TouchService, project, id, v)
	return v, err
}

// Snapshot is what is in memory, for the last-known-good file.
type Snapshot struct {
	Accounts []policy.Account                       `json:"accounts,omitempty"`
	Bindings map[string]map[string][]policy.Binding `json:"bindings,omitempty"` // by project and subject
	Roles    []policy.Role                          `json:"roles,omitempty"`
	Services []policy.ServiceAccount                `json:"services,omitempty"`
}

// Len is how many things are in it.
func (s Snapshot) Len() int {
	n := len(s.Accounts) + len(s.Roles) + len(s.Services)
	for _, subjects := range s.Bindings {
		n += len(subjects)
	}
	return n
}

// Served is what is in memory.
func (d *Directory) Served() Snapshot {
	s := Snapshot{Bindings: map[string]map[string][]policy.Binding{}}
	for _, a := range d.accounts.All() {
		s.Accounts = append(s.Accounts, *a)
	}
	for k, list := range d.bindings.All() {
		if s.Bindings[k.project] == nil {
			s.Bindings[k.project] = map[string][]policy.Binding{}
		}
		s.Bindings[k.project][k.id] = *list
	}
	for _, r := range d.roles.All() {
		s.Roles = append(s.Roles, *r)
	}
	for _, v := range d.services.All() {
		s.Services = append(s.Services, *v)
	}
	return s
}

// Preload remembers what an earlier process served, as if it had just been read. The feed must stand at the revision that it was taken at.
func (d *Directory) Preload(s Snapshot) {
	for _, a := range s.Accounts {
		d.accounts.Put(a.ID, &a)
	}
	for project, subjects := range s.Bindings {
		for subject, list := range subjects {
			d.bindings.Put(key{project, subject}, &list)
		}
	}
	for _, r := range s.Roles {
		d.roles.Put(key{r.Project, r.Name}, &r)
	}
	for _, v := range s.Services {
		d.services.Put(key{v.Project, v.ID}, &v)
	}
}
