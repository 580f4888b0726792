package policy

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
)

// What stands here is asked by the data plane and by the management API: whose request it is, whether that one may come from there, and whether
// it may do something to the prompt that it names. A new plane asks here as well, and decides nothing beside it.

// ComesFrom judges a caller's address, "host:port": a key that is bound to networks may be used from inside them only, and an address that cannot
// be read is inside none (PermissionDenied).
func (p *Principal) ComesFrom(remote string) error {
	if len(p.Networks) == 0 {
		return nil
	}
	if from, err := netip.ParseAddrPort(remote); err == nil && p.AllowsAddr(from.Addr()) {
		return nil
	}
	return fault.New(fault.PermissionDenied, "This key may not be used from this network address. Ask an admin to allow it.")
}

// Named is a prompt as a request names it.
type Named struct {
	Spelled string // by the caller
	Current string // its name now; "" when there is no such prompt
}

// Verdict is what a caller is told.
type Verdict uint8

// The verdicts. Unseen is one answer for a prompt that is not there and for one that is not this caller's to know of.
const (
	Unseen  Verdict = iota
	Granted         // and it exists
	Refused         // the caller holds something on the object, so it is told what is missing
)

// Decide judges what a caller wants of a prompt that it names: want.Name is set here. A prompt counts by its current name, and what is not there by
// its spelling. A prompt that was moved out of what the caller may know of is answered, under the name that it had, like a name that nobody has.
func Decide(ctx context.Context, c Checker, p *Principal, want Permission, n Named) (Verdict, Decision, error) {
	exists := n.Current != ""
	want.Name = n.Current
	if !exists {
		want.Name = n.Spelled
	}
	d, err := c.Check(ctx, p, want)
	if err == nil && !d.Allowed && !d.Holds && exists && n.Current != n.Spelled {
		exists, want.Name = false, n.Spelled
		d, err = c.Check(ctx, p, want)
	}
	switch {
	case err != nil:
		return Unseen, d, err
	case d.Allowed && exists:
		return Granted, d, nil
	case !d.Allowed && d.Holds:
		return Refused, d, nil
	}
	return Unseen, d, nil
}

// Lacks is the refusal that names a missing permission, as Decision.Missing and Permission.Describe spell it (PermissionDenied).
func Lacks(missing string) *fault.Error {
	return fault.New(fault.PermissionDenied, "This key lacks a permission: %s. Ask an admin of the project to grant it.", missing)
}

// Actors finds who makes a change, in the change's own transaction.
type Actors interface {
	// PrincipalIn is an actor's principal as tx has it, kept from changing until tx ends. PermissionDenied when it may do nothing any more: it is
	// revoked, or of another project.
	PrincipalIn(ctx context.Context, tx journal.Transaction, project string, actor journal.Actor) (*Principal, error)
}

// Renaming is a prompt on its way to another name.
type Renaming struct {
	From, To string
	Labels   []string // they move along
}

// Differences are the permissions on a prompt that a principal gains by a renaming, under the new name, and loses, under the old one. Reading
// every version stands for reading under each label.
func Differences(ctx context.Context, c Checker, p *Principal, r Renaming) (gained, lost []Permission, err error) {
	ctx = Suppose(ctx)
	for _, action := range projectActions() {
		for _, label := range labelsOf(action, r.Labels) {
			var allowed [2]bool
			for i, name := range []string{r.From, r.To} {
				d, err := c.Check(ctx, p, Permission{Action: action, Kind: ObjectPrompt, Name: name, Label: label})
				if err != nil {
					return nil, nil, err
				}
				allowed[i] = d.Allowed
			}
			if allowed[0] == allowed[1] {
				continue
			}
			if allowed[1] {
				gained = append(gained, Permission{Action: action, Kind: ObjectPrompt, Name: r.To, Label: label})
			} else {
				lost = append(lost, Permission{Action: action, Kind: ObjectPrompt, Name: r.From, Label: label})
			}
			if action == ActionRead && label == LabelVersion {
				break
			}
		}
	}
	return gained, lost, nil
}

// labelsOf is under which labels an action on a prompt can be asked for; nil for what concerns no prompt.
func labelsOf(a Action, labels []string) []string {
	switch a {
	case ActionCall, ActionRead:
		return slices.Concat([]string{LabelVersion, labelLatest}, labels)
	case ActionMoveLabel:
		return labels
	case ActionManageKeys, ActionManageUsers, ActionManageProject, ActionAudit:
		return nil
	}
	return []string{LabelAny}
}

// GainsNothing refuses (PermissionDenied) a renaming after which the principal could do something to the prompt that it cannot now. The admin of
// the whole project may grant itself everything, so it is exempt.
func GainsNothing(ctx context.Context, c Checker, p *Principal, r Renaming, now time.Time) error {
	if _, ok := governs(p, now); ok {
		return nil
	}
	gained, _, err := Differences(ctx, c, p, r)
	if err != nil || len(gained) == 0 {
		return err
	}
	return fault.New(fault.PermissionDenied, "The new name would give this key a permission that it lacks now: %s. Ask an admin to move the prompt.",
		gained[0].Describe()).WithParam("name")
}
