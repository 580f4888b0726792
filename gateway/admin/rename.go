package admin

import (
	"context"
	"slices"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// AccessChange is one key whose rights a new name changes: grants see a prompt's current name.
type AccessChange struct {
	Key   string   `json:"key" example:"key_0k3v"`
	Name  string   `json:"name" doc:"The key's"`
	Loses []string `json:"loses" example:"[\"call@production\"]"`
	Gains []string `json:"gains"`
}

// maxKeysLookedAt bounds what a rename looks through. A project with more keys grants by folders.
const maxKeysLookedAt = 5000

// renaming is a prompt on its way to another name.
type renaming struct {
	prompts
	caller *caller
	from   registry.Prompt
	to     string
}

// keys lists the project's keys that are in force.
func (r *renaming) keys(ctx context.Context) (found []policy.KeyRecord, err error) {
	now := r.clock()
	for after := ""; len(found) < maxKeysLookedAt; {
		page, next, err := r.prompts.keys.ListKeys(ctx, r.caller.Project, policy.Page{After: after, Limit: 200})
		if err != nil {
			return nil, err
		}
		for _, k := range page {
			if k.RevokedAt.IsZero() && (k.Expires.IsZero() || now.Before(k.Expires)) {
				found = append(found, k)
			}
		}
		if after = next; after == "" {
			break
		}
	}
	return found, nil
}

// changes says whose access the new name changes; nothing to callers who may not manage keys.
func (r *renaming) changes(ctx context.Context) ([]AccessChange, error) {
	out := []AccessChange{}
	ok, err := r.caller.may(ctx, policy.Permission{Action: policy.ActionManageKeys, Kind: policy.ObjectSystem})
	if err != nil || !ok {
		return out, err
	}
	labels, err := r.registry.Labels(ctx, r.from.Project, r.from.ID)
	if err != nil {
		return nil, err
	}
	keys, err := r.keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		p, err := k.Principal()
		if err != nil {
			return nil, err
		}
		gains, loses, err := policy.Differences(ctx, r.caller.check, p, policy.Renaming{From: r.from.Name, To: r.to, Labels: labelNames(labels)})
		if err != nil {
			return nil, err
		}
		change := AccessChange{Key: k.ID, Name: k.Name, Loses: spelled(loses), Gains: spelled(gains)}
		if len(change.Loses)+len(change.Gains) > 0 {
			out = append(out, change)
		}
	}
	return out, nil
}

// spelled is how answers name permissions on one prompt: "write", "call@production".
func spelled(permissions []policy.Permission) []string {
	out := make([]string, len(permissions))
	for i, p := range permissions {
		out[i] = string(p.Action)
		if everyVersion := p.Action == policy.ActionRead && p.Label == policy.LabelVersion; p.Label != policy.LabelAny && !everyVersion {
			out[i] += "@" + strings.TrimPrefix(p.Label, "@")
		}
	}
	slices.Sort(out)
	return out
}

// carry adds the new name to every grant and denial that names the old one exactly, before the prompt moves: nobody loses access in between. The old name
// stays in them; it belongs to this prompt for good and opens nothing else. undo takes the additions back.
func (r *renaming) carry(ctx context.Context) (undo func(context.Context), err error) {
	var done []policy.KeyRecord // as they were, with the revision that they have now
	undo = func(ctx context.Context) {
		for _, k := range done {
			if _, err := r.prompts.keys.UpdateKey(ctx, r.origin("the rename was refused"), r.caller.Principal, k); err != nil {
				r.log.WarnContext(ctx, "a grant carried along for a rename that was refused stays in a key", "key", k.ID, "error", err)
			}
		}
	}
	if err := r.caller.need(ctx, policy.Permission{Action: policy.ActionManageKeys, Kind: policy.ObjectSystem}); err != nil {
		return undo, err
	}
	keys, err := r.keys(ctx)
	if err != nil {
		return undo, err
	}
	for _, k := range keys {
		next, names := k, false
		next.Grants = slices.Clone(k.Grants)
		for i, g := range next.Grants {
			if slices.Contains(g.Prompts, r.from.Name) && !slices.Contains(g.Prompts, r.to) {
				next.Grants[i].Prompts, names = append(slices.Clone(g.Prompts), r.to), true
			}
		}
		if !names {
			continue
		}
		updated, err := r.prompts.keys.UpdateKey(ctx, r.origin("carried along with a rename"), r.caller.Principal, next)
		if err != nil {
			undo(context.WithoutCancel(ctx))
			return func(context.Context) {}, fault.Wrap(err, fault.CodeOf(err), "The grants of key %s cannot be carried along: change it by hand, or rename without carry_grants.", k.ID)
		}
		k.Revision = updated.Revision
		done = append(done, k)
	}
	return undo, nil
}

// origin is the caller's, with a reason where the caller gave none.
func (r *renaming) origin(why string) journal.Origin {
	by := r.caller.Origin
	if by.Why == "" {
		by.Why = why
	}
	return by
}
