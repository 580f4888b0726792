package admin

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// Gate judges changes of prompts by the rights of who asks for them. It stands in the way of every change, whichever path that came by; an
// operation's own row of the authorization table only decides sooner, before a body is read.
type Gate struct {
	checker policy.Checker
	actors  policy.Actors
	clock   func() time.Time
}

var _ registry.Gate = (*Gate)(nil)

// NewGate makes a Gate. Who asks for a change is read in the change's transaction, by actors: a key that was revoked or changed since its request
// was authorized counts as it is now.
func NewGate(checker policy.Checker, actors policy.Actors, clock func() time.Time) *Gate {
	return &Gate{checker, actors, clock}
}

// Allow implements registry.Gate. The system itself (the command line on the server, the demo) is not asked for rights; whoever else changes a
// prompt is one of the actors. Errors: PermissionDenied naming what is missing, PromptNotFound when the prompt moved out of what the
// caller may know of, RegistryUnavailable.
func (g *Gate) Allow(ctx context.Context, by journal.Origin, c registry.Change) error {
	if by.Actor.Kind == policy.KindSystem {
		return nil
	}
	tx, ok := journal.Tx(ctx)
	if !ok {
		return fault.Wrap(errors.New("admin: a change is judged outside its transaction"), fault.Internal, "This change cannot be judged. Tell an admin.")
	}
	p, err := g.actors.PrincipalIn(ctx, tx, cmp.Or(c.After.Project, c.Before.Project), by.Actor)
	if err != nil {
		return err
	}
	for _, want := range rights(c) {
		verdict, _, err := policy.Decide(ctx, g.checker, p, want, policy.Named{Spelled: want.Name, Current: want.Name})
		switch {
		case err != nil:
			return err
		case verdict == policy.Granted:
		case verdict == policy.Unseen && want.Name == c.Before.Name:
			return registry.ErrPromptNotFound()
		default:
			return policy.Lacks(want.Describe())
		}
	}
	if !c.Renames() {
		return nil
	}
	return policy.GainsNothing(ctx, g.checker, p, policy.Renaming{From: c.Before.Name, To: c.After.Name, Labels: labelNames(c.Labels)}, g.clock())
}

func labelNames(labels []registry.Label) []string {
	out := make([]string, len(labels))
	for i, l := range labels {
		out[i] = l.Name
	}
	return out
}

// rights is all that a change asks for.
func rights(c registry.Change) []policy.Permission {
	on := func(action policy.Action, name, label string) policy.Permission {
		return policy.Permission{Action: action, Kind: policy.ObjectPrompt, Name: name, Label: label}
	}
	var want []policy.Permission
	switch c.Kind {
	case registry.ChangeMove:
		return append(want, on(policy.ActionMoveLabel, c.Before.Name, c.Move.Label))
	case registry.ChangeVersion:
		return append(want, on(policy.ActionWrite, c.Before.Name, policy.LabelAny))
	case registry.ChangeCreate:
		want = append(want, on(policy.ActionWrite, c.After.Name, policy.LabelAny))
	case registry.ChangeEdit:
		want = append(want, on(policy.ActionWrite, c.Before.Name, policy.LabelAny))
		if !c.Renames() {
			break
		}
		// What moves must be the mover's at both ends: the text, which is read by other keys there, and each label, which other keys call.
		for _, name := range []string{c.Before.Name, c.After.Name} {
			want = append(want, on(policy.ActionWrite, name, policy.LabelAny), on(policy.ActionRead, name, policy.LabelVersion))
			for _, l := range c.Labels {
				want = append(want, on(policy.ActionMoveLabel, name, l.Name))
			}
		}
	default: // a kind that nobody taught this Gate
		return append(want, policy.Permission{Action: policy.ActionManageProject, Kind: policy.ObjectSystem})
	}
	for _, h := range c.After.Aliases {
		// A handle is taken for good, so it must not be taken from a folder that the caller has no rights in. Ids of another system stand in no folder.
		if h != c.Before.Name && !slices.Contains(c.Before.Aliases, h) && !strings.HasPrefix(h, registry.PromptIDPrefix) {
			want = append(want, on(policy.ActionWrite, h, policy.LabelAny))
		}
	}
	return want
}
