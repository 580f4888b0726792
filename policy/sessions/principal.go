package sessions

import (
	"context"
	"maps"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

// maxProjects bounds what is noted of one session: past it, the rights in further projects are not compared.
const maxProjects = 200

// Principal is who a token stands for in a project, as that one is now; "" is what lies outside every project. renewed is the token that the browser has
// to use from now on, "" when it stays: what its person may do has changed since it was last used here. PermissionDenied when it is no member, or
// signed in otherwise than the project requires; else as for Session.
func (k *Keeper) Principal(ctx context.Context, token, project string, from Browser) (p *policy.Principal, renewed string, err error) {
	h, err := k.Session(ctx, token)
	if err != nil {
		return nil, "", err
	}
	p, err = k.d.People.Member(ctx, project, h.UserID)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, "", notHere(project)
	case err != nil:
		return nil, "", err
	}
	if err := k.satisfied(ctx, h.Session, project); err != nil {
		return nil, "", err
	}
	if h.entry.unchanged(project, p.Revision) {
		return p, "", nil
	}
	renewed, err = k.renew(ctx, h, from, project, p.Revision)
	if fault.Is(err, fault.RegistryUnavailable) || fault.Is(err, fault.StorageFull) {
		return p, "", nil // it holds what it holds now; the token is changed by the next request that can
	}
	return p, renewed, err
}

func notHere(project string) error {
	if project == "" {
		return fault.New(fault.PermissionDenied, "Only operators of the installation may do this. Ask one, or name a project in X-Promptgate-Project.")
	}
	return fault.New(fault.PermissionDenied, "You are no member of this project, or there is none of that name. Ask an admin of it to add you.")
}

// satisfied refuses a session that was signed in to otherwise than a project requires.
func (k *Keeper) satisfied(ctx context.Context, s policy.Session, project string) error {
	if project == "" {
		return nil
	}
	m, ok := k.required.Get(project)
	if !ok {
		var err error
		m, err = k.required.Load(ctx, project, true, func(ctx context.Context) (policy.Method, error) { return k.d.Source.Requires(ctx, project) })
		if err != nil {
			return fault.Wrap(err, fault.RegistryUnavailable, "What this project requires of a sign-in could not be read: try again shortly.")
		}
	}
	if s.Satisfies(m) {
		return nil
	}
	return fault.New(fault.PermissionDenied, "This project requires that you sign in by %s: sign out, and in again that way. Your account page is where you add one.", m)
}

// unchanged reports whether what somebody may do in a project is what it was when the session was last used there, which is noted at the first time.
func (e *entry) unchanged(project string, revision int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	was, known := e.rights[project]
	if known {
		return was == revision
	}
	if e.rights == nil {
		e.rights = map[string]int64{}
	}
	if len(e.rights) < maxProjects {
		e.rights[project] = revision
		e.written = e.CreatedAt.AddDate(-1, 0, 0) // to be noted soon
	}
	return true
}

// renew gives a session another token. Requests that came with the old one before it was void get the same new one.
func (k *Keeper) renew(ctx context.Context, h Held, from Browser, project string, revision int64) (string, error) {
	e := h.entry
	e.renewing.Lock()
	defer e.renewing.Unlock()
	if e.renewed != "" {
		return e.renewed, nil
	}
	token, id, err := k.d.Hasher.Issue(k.o.Random)
	if err != nil {
		return "", err
	}
	next := h.Session
	next.ID, next.RotatedAt = id, k.o.Clock()
	by := journal.Origin{Actor: journal.Actor{Kind: policy.KindUser, ID: h.UserID, Name: h.Account.Email}, From: from.Address, Why: "what its person may do has changed"}
	if next, err = k.d.Source.RenewSession(ctx, by, e.ID, next); err != nil {
		if fault.Is(err, fault.NotFound) {
			return "", refused()
		}
		return "", err
	}
	fresh := &entry{Session: next, seen: next.RotatedAt}
	e.mu.Lock()
	fresh.rights = maps.Clone(e.rights)
	e.mu.Unlock()
	fresh.rights[project] = revision
	k.known.Put(id, fresh)
	_ = k.note(ctx, fresh) // else another replica compares from its first request on
	e.renewed = token
	return token, nil
}
