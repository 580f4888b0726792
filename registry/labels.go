package registry

import (
	"context"
	"slices"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/registry/template"
)

// Labels lists a prompt's labels by name, without the implicit LabelLatest.
func (s *Service) Labels(ctx context.Context, project, promptID string) ([]Label, error) {
	return s.store.ListLabels(ctx, project, promptID)
}

// Label is where one label points now; LabelLatest works as well.
func (s *Service) Label(ctx context.Context, ref LabelRef) (Label, error) {
	return s.store.LabelOf(ctx, ref.Project, ref.PromptID, ref.Label)
}

// LabelHistory lists the moves of one label ("": of all labels of the prompt), newest first, and the cursor of the next page.
func (s *Service) LabelHistory(ctx context.Context, ref LabelRef, page Page) ([]LabelEvent, string, error) {
	return s.store.LabelHistory(ctx, ref.Project, ref.PromptID, ref.Label, page)
}

// MoveLabel sets or moves a label (m.To ≥ 1), or removes it (m.To == 0). A Conflict names the version it points at now. The move is
// refused when the new target requires a variable without default that the old target did not, unless m.Force and by.Why say
// otherwise; and when the Gate refuses. A move to where it points already changes nothing.
func (s *Service) MoveLabel(ctx context.Context, by journal.Origin, m LabelMove) (Label, error) {
	if err := checkMove(by, m); err != nil {
		return Label{}, err
	}
	p, err := s.store.PromptByHandle(ctx, m.Project, m.PromptID)
	if err != nil {
		return Label{}, err
	}
	m.PromptID = p.ID
	for try := 1; ; try++ {
		moved, err := s.tryMove(ctx, by, m)
		switch {
		case m.From != nil || !fault.Is(err, fault.Conflict) || !lostRace(err):
			return moved, err
		case try == moveTries: // what the caller expects was never asked, so it is not told that it was wrong
			return moved, fault.Wrap(err, fault.Conflict, "Others keep moving the label %q: try again.", m.Label)
		}
		// Somebody else moved it meanwhile: judge the move that it would be now.
	}
}

// moveTries bounds how often a move that expects nothing is judged again. Some other move succeeds each time it is lost.
const moveTries = 20

func checkMove(by journal.Origin, m LabelMove) error {
	if err := CheckLabel(m.Label); err != nil {
		return err
	}
	if m.To < 0 {
		return invalid("version", "A label points at a version from 1 up; 0 removes it.")
	}
	if m.Force && strings.TrimSpace(by.Why) == "" {
		return invalid("why", "Say why this move is forced.")
	}
	return checkOrigin(by)
}

// tryMove judges the move from where the label points now, and makes exactly that one: the Store compares what was judged.
func (s *Service) tryMove(ctx context.Context, by journal.Origin, m LabelMove) (Label, error) {
	from, err := s.store.LabelOf(ctx, m.Project, m.PromptID, m.Label)
	if fault.Is(err, fault.LabelNotFound) {
		from, err = Label{Project: m.Project, PromptID: m.PromptID, Name: m.Label}, nil
	}
	if err != nil {
		return Label{}, err
	}
	if m.From != nil && *m.From != from.Version {
		return Label{}, MoveConflict(m, from.Version)
	}
	if m.To == from.Version && m.To > 0 {
		return from, nil
	}
	m.From = &from.Version
	if err := s.checkCallers(ctx, m); err != nil {
		return Label{}, err
	}
	return s.store.MoveLabel(ctx, by, m)
}

// checkCallers refuses a move that would break calls which work now. m.From is set.
func (s *Service) checkCallers(ctx context.Context, m LabelMove) error {
	if m.To == 0 {
		return nil
	}
	to, err := s.store.VersionOf(ctx, m.Project, m.PromptID, m.To)
	if err != nil || *m.From == 0 || m.Force {
		return err
	}
	from, err := s.store.VersionOf(ctx, m.Project, m.PromptID, *m.From)
	if err != nil {
		return err
	}
	if added := newlyRequired(from.Content.Variables, to.Content.Variables); len(added) > 0 {
		return fault.New(fault.Conflict, "Version %d requires variables that version %d does not: %s. Calls that do not send them would fail:"+
			" give them defaults, or force the move and say why.", m.To, *m.From, strings.Join(added, ", ")).WithParam("force")
	}
	return nil
}

func newlyRequired(from, to map[string]template.Variable) []string {
	var added []string
	for name, v := range to {
		if mustSend(v) && !mustSend(from[name]) {
			added = append(added, name)
		}
	}
	slices.Sort(added)
	return added
}

func mustSend(v template.Variable) bool { return v.Required && v.Default == nil }

// paramFrom marks the Conflict of a lost compare-and-set.
const paramFrom = "from"

// MoveConflict is the answer to a move whose From is not where the label points: current, 0 when it is not set. Stores return it.
func MoveConflict(m LabelMove, current int) error {
	const code = fault.Conflict
	switch {
	case current == 0:
		return fault.New(code, "The label %q is not set now, but you expected it at version %d.", m.Label, *m.From).WithParam(paramFrom)
	case *m.From == 0:
		return fault.New(code, "The label %q points at version %d now, but you expected it not to be set.", m.Label, current).
			WithParam(paramFrom)
	}
	return fault.New(code, "The label %q points at version %d now, not at %d as you expected.", m.Label, current, *m.From).
		WithParam(paramFrom)
}

func lostRace(err error) bool { return paramOf(err) == paramFrom }

// Rollback moves a label back to where it pointed before its last move, also when that move removed it. A second Rollback undoes
// the first.
func (s *Service) Rollback(ctx context.Context, by journal.Origin, in RollbackInput) (Label, error) {
	if err := CheckLabel(in.Label); err != nil {
		return Label{}, err
	}
	p, err := s.store.PromptByHandle(ctx, in.Project, in.PromptID)
	if err != nil {
		return Label{}, err
	}
	events, _, err := s.store.LabelHistory(ctx, in.Project, p.ID, in.Label, Page{Limit: 1})
	switch {
	case err != nil:
		return Label{}, err
	case len(events) == 0:
		return Label{}, fault.New(fault.LabelNotFound, "This prompt never had a label %q.", in.Label).WithParam("label")
	}
	last := events[0]
	m := LabelMove{Project: in.Project, PromptID: p.ID, Label: in.Label, To: last.From, From: &last.To, Force: in.Force}
	if in.From != nil && *in.From != last.To {
		m.From = in.From
		return Label{}, MoveConflict(m, last.To)
	}
	if last.From == 0 {
		return Label{}, fault.New(fault.Conflict, "The label %q was not set before its last move: there is nothing to go back to."+
			" Remove it instead.", in.Label).WithParam("label")
	}
	return s.MoveLabel(ctx, by, m)
}
