package policy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
)

// The prefixes of ids.
const (
	UserPrefix    = "usr_"
	GroupPrefix   = "grp_"
	ServicePrefix = "svc_"
	BindingPrefix = "bnd_"
)

// Account is a user with its groups.
type Account struct {
	User
	Groups []GroupMember
}

// People is what it takes to know what somebody may do: one point read each. NotFound when there is none, RegistryUnavailable (and only that) for an
// infrastructure fault. What it returns is shared and not to be changed.
type People interface {
	Account(ctx context.Context, id string) (*Account, error)
	// Bindings are all of one user, group or service account in a project, without the actions of the project's own roles; none is no error.
	Bindings(ctx context.Context, project, subject string) (*[]Binding, error)
	Role(ctx context.Context, project, name string) (*Role, error)
	Service(ctx context.Context, project, id string) (*ServiceAccount, error)
}

// Member is a user or a service account as one of a project: what it may do there. NotFound when it is none, or may not do anything any more. Project
// "" is what lies outside every project, where operators are.
func Member(ctx context.Context, from People, project, id string) (*Principal, error) {
	m := gathering{People: from, project: project, state: sha256.New()}
	p := &Principal{ID: id, Kind: KindUser, Project: project}
	var err error
	switch {
	case strings.HasPrefix(id, ServicePrefix):
		err = m.service(ctx, p)
	case strings.HasPrefix(id, UserPrefix):
		err = m.user(ctx, p)
	default:
		err = noMember()
	}
	if err != nil {
		return nil, err
	}
	p.Revision = int64(binary.BigEndian.Uint64(m.state.Sum(nil)) >> 1)
	return p, p.Compile()
}

func noMember() error {
	return fault.New(fault.NotFound, "There is no such member of this project.")
}

// gathering reads what somebody holds. Every row that counts goes into state with its revision, so that two states of one principal never share a
// Revision: the highest revision of rows would be the same before and after one of them is taken away.
type gathering struct {
	People
	project string
	state   hash.Hash
}

func (m *gathering) saw(id string, revision int64) {
	fmt.Fprintf(m.state, "%s %d\n", id, revision) // writing to a hash does not fail
}

func (m *gathering) service(ctx context.Context, p *Principal) error {
	s, err := m.Service(ctx, m.project, p.ID)
	if err != nil {
		return err
	}
	if !s.EndedAt.IsZero() {
		return noMember()
	}
	m.saw(s.ID, s.Revision)
	p.Kind, p.Name = KindService, s.Name
	p.Bindings, err = m.bindings(ctx, p.ID)
	return err
}

func (m *gathering) user(ctx context.Context, p *Principal) error {
	a, err := m.Account(ctx, p.ID)
	if err != nil {
		return err
	}
	if !a.Active() {
		return noMember()
	}
	m.saw(a.ID, a.Revision)
	p.Name = a.Email
	if a.Operator {
		p.Grants = []Grant{OperatorGrant()}
	}
	if m.project == "" {
		if !a.Operator {
			return noMember()
		}
		return nil
	}
	if p.Bindings, err = m.bindings(ctx, p.ID); err != nil {
		return err
	}
	held := len(p.Bindings)
	for _, in := range a.Groups {
		g := Group{ID: in.GroupID}
		m.saw(in.GroupID, in.Revision)
		if g.Bindings, err = m.bindings(ctx, in.GroupID); err != nil {
			return err
		}
		held += len(g.Bindings)
		p.Groups = append(p.Groups, g)
	}
	if held == 0 && !a.Operator {
		return noMember()
	}
	return nil
}

func (m *gathering) bindings(ctx context.Context, subject string) ([]Binding, error) {
	list, err := m.Bindings(ctx, m.project, subject)
	if err != nil {
		return nil, err
	}
	out := make([]Binding, 0, len(*list))
	for _, b := range *list {
		m.saw(b.ID, b.Revision)
		if RoleActions(b.Role) == nil {
			role, err := m.Role(ctx, m.project, b.Role)
			if err != nil { // a denial by a role that is not there must not be left out
				return nil, fault.Wrap(err, fault.RegistryUnavailable, "A role of this project cannot be read: its operator has to look at it.")
			}
			m.saw(role.Name, role.Revision)
			b.Actions = role.Actions
		}
		out = append(out, b)
	}
	return out, nil
}

// OwnedBy is a key's principal as its owner is now.
func (p *Principal) OwnedBy(owner *Principal) *Principal {
	c := *p
	c.Owner = owner
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d", p.Revision, owner.Revision))
	c.Revision = int64(binary.BigEndian.Uint64(sum[:]) >> 1)
	if !owner.Expires.IsZero() && !endsBy(c.Expires, owner.Expires) {
		c.Expires = owner.Expires
	}
	return &c
}

// What caches of people listen for.
const (
	TouchUser     = "user"     // Key is the id; Project is ""
	TouchBindings = "bindings" // Key is the subject's id; Project is the project
	TouchRole     = "role"     // Key is the name
	TouchService  = "service"  // Key is the id
)

// Expired reports whether a binding is over.
func (b Binding) Expired(now time.Time) bool { return !b.Expires.IsZero() && !now.Before(b.Expires) }
