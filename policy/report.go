package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Reports says who holds what in a project.
type Reports interface {
	// Report is all that is held and fits, what was never used first. What a group holds is told of each of its members.
	Report(ctx context.Context, project string, f AccessFilter) ([]Access, error)
	// LastUsed are the minutes in which bindings or keys allowed something last; those that never did are not in it.
	LastUsed(ctx context.Context, project string, holdings ...string) (map[string]time.Time, error)
}

// Access is one thing that somebody holds in a project: a binding, of its own or of a group that it is in, or a key.
type Access struct {
	Holding     string      `json:"holding"` // "bnd_…" or "key_…"
	Subject     string      `json:"subject"` // "usr_…", "svc_…", of a group that nobody is in "grp_…"; of a key its owner, or the key
	SubjectName string      `json:"subject_name,omitempty"`
	Via         string      `json:"via,omitempty"` // the group that the binding is of
	ViaName     string      `json:"via_name,omitempty"`
	State       AccessState `json:"state"`
	Role        string      `json:"role"` // of a key: its roles, or "inherits"
	Effect      string      `json:"effect"`
	Prompts     []string    `json:"prompts,omitempty"`
	Labels      []string    `json:"labels,omitempty"`
	Models      []string    `json:"models,omitempty"`
	Grants      []Grant     `json:"grants,omitempty"` // of a key

	GrantedBy     string    `json:"granted_by"`
	GrantedByName string    `json:"granted_by_name,omitempty"`
	GrantedAt     time.Time `json:"granted_at"`
	Reason        string    `json:"reason,omitempty"`
	Expires       time.Time `json:"expires_at,omitzero"`
	LastUsed      time.Time `json:"last_used_at,omitzero"` // the minute; zero: never
	Minutes       int64     `json:"used_minutes"`          // in which it was used
	Revision      int64     `json:"revision"`              // of the binding or key
}

// AccessState says whether a holding is worth anything now.
type AccessState string

// The states of what is held.
const (
	AccessInForce     AccessState = "in_force"
	AccessExpired     AccessState = "expired"
	AccessInvited     AccessState = "invited"     // its holder never signed in
	AccessDeactivated AccessState = "deactivated" // its holder is, or has ended
	AccessVacant      AccessState = "vacant"      // nobody is in the group
)

// AccessFilter narrows a report; its zero value is all.
type AccessFilter struct {
	Role     string
	Subject  string // a user, with what its groups give it; a group; a service account; a key
	Prompt   string // a pattern: what speaks of a prompt under it
	UnusedBy time.Time
}

// Fits reports whether a filter lets something through.
func (f AccessFilter) Fits(a Access) bool {
	if f.Role != "" && !slices.ContainsFunc(strings.Split(a.Role, ", "), func(r string) bool {
		role, _, _ := strings.Cut(r, ":")
		return role == f.Role
	}) {
		return false
	}
	if f.Subject != "" && f.Subject != a.Subject && f.Subject != a.Via && f.Subject != a.Holding {
		return false
	}
	if f.Prompt != "" && !slices.ContainsFunc(a.Prompts, func(p string) bool { return overlapsPrompt(p, f.Prompt) }) {
		return false
	}
	return f.UnusedBy.IsZero() || a.LastUsed.Before(f.UnusedBy)
}

// Place is where something stands in a report: what was never used first, the longest held before others, then by the time that it was used last.
func (a Access) Place() string {
	used := int64(0)
	if !a.LastUsed.IsZero() {
		used = a.LastUsed.UnixMicro()
	}
	return fmt.Sprintf("%020d %020d %s %s", used, a.GrantedAt.UnixMicro(), a.Holding, a.Subject)
}

// AccessOfKey is what a key holds by itself; names are left out. What its owner holds is its owner's.
func AccessOfKey(k KeyRecord, now time.Time) Access {
	a := Access{
		Holding: k.ID, Subject: k.ID, State: AccessInForce, Role: strings.Join(k.Roles, ", "), Effect: EffectAllow, Grants: k.Grants,
		GrantedBy: k.CreatedBy, GrantedAt: k.CreatedAt, Reason: k.Name, Expires: k.Expires, Revision: k.Revision,
	}
	if k.Owner != "" {
		a.Subject = k.Owner
	}
	if k.Inherits {
		a.Role, a.Prompts = "inherits", []string{"**"}
	}
	for _, s := range k.Roles {
		if b, err := ParseRole(s); err == nil {
			a.Prompts = append(a.Prompts, b.Pattern)
		}
	}
	for _, g := range k.Grants {
		a.Prompts, a.Labels, a.Models = append(a.Prompts, g.Prompts...), append(a.Labels, g.Labels...), append(a.Models, g.Models...)
	}
	for _, list := range []*[]string{&a.Prompts, &a.Labels, &a.Models} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	if !k.Expires.IsZero() && !now.Before(k.Expires) {
		a.State = AccessExpired
	}
	return a
}

// AccessOfBinding is what a binding gives; names are left out.
func AccessOfBinding(b Binding, now time.Time) Access {
	a := Access{
		Holding: b.ID, Subject: b.Subject, State: AccessInForce, Role: b.Role, Effect: b.Effect, Prompts: b.Prompts, Labels: b.Labels, Models: b.Models,
		GrantedBy: b.GrantedBy, GrantedAt: b.GrantedAt, Reason: b.Reason, Expires: b.Expires, Revision: b.Revision,
	}
	if b.Expired(now) {
		a.State = AccessExpired
	}
	return a
}

// ExpiryNotice is how long before its end a key is told of.
const ExpiryNotice = 14 * 24 * time.Hour
