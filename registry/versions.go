package registry

import (
	"context"
	"encoding/json"
	"math"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/registry/template"
)

// MaxContentBytes bounds a version's content as JSON.
const MaxContentBytes = 4 << 20

// Check tells what SaveVersion would save, or why it would refuse, and changes nothing.
func (s *Service) Check(ctx context.Context, in VersionInput) (Checked, error) {
	p, err := s.store.PromptByHandle(ctx, in.Project, in.PromptID)
	if err != nil {
		return Checked{}, err
	}
	return s.check(ctx, p, &in)
}

// check is everything that a version must pass, its content in the order that template asks for. It brings the note into its one form.
func (s *Service) check(ctx context.Context, p Prompt, in *VersionInput) (Checked, error) {
	if p.Archived {
		return Checked{}, ErrArchived()
	}
	c, err := in.Content.Normal()
	if err != nil {
		return Checked{}, err
	}
	in.Content = c
	if err := normalText("note", &in.Note, MaxNoteBytes); err != nil {
		return Checked{}, err
	}
	raw, err := json.Marshal(c)
	switch {
	case err != nil:
		return Checked{}, fault.Wrap(err, fault.InvalidTemplate, "A JSON field of this version is malformed: check its tools, parameters and schemas.")
	case len(raw) > MaxContentBytes:
		return Checked{}, fault.New(fault.InvalidTemplate, "A version has at most %d bytes; this one has %d.", MaxContentBytes, len(raw))
	}
	if err := checkKind(p.Kind, c); err != nil {
		return Checked{}, err
	}
	for _, names := range []*[]string{&c.Locked, &c.Ignored} {
		if *names = sortedUnique(*names); len(*names) == 0 {
			*names = nil // as it will be read again
		}
	}
	var refs map[string]template.Content
	if c.References, refs, err = s.pin(ctx, p, *in); err != nil {
		return Checked{}, err
	}
	if c.Variables, err = template.Infer(c, refs); err != nil {
		return Checked{}, err
	}
	if len(c.Variables) == 0 {
		c.Variables = nil
	}
	if _, err := template.Compile(c, refs); err != nil {
		return Checked{}, err
	}
	if !in.Insist {
		if err := s.misspelt(ctx, p, c); err != nil {
			return Checked{}, err
		}
	}
	digest, err := c.Digest()
	return Checked{Content: c, Digest: digest}, err
}

// misspelt refuses what is probably not meant, unless the version before says the same.
func (s *Service) misspelt(ctx context.Context, p Prompt, c template.Content) error {
	doubt := template.Misspelt(c, nil)
	if doubt == nil || p.LatestVersion == 0 {
		return doubt
	}
	latest, err := s.store.VersionOf(ctx, p.Project, p.ID, p.LatestVersion)
	if err != nil {
		return err
	}
	return template.Misspelt(c, &latest.Content)
}

// checkKind holds a text prompt to its form: one text, which can be included elsewhere.
func checkKind(kind Kind, c template.Content) error {
	if len(c.Messages) == 0 {
		return fault.New(fault.InvalidTemplate, "A version needs at least one message.").WithParam("messages")
	}
	if kind != KindText {
		return nil
	}
	m := c.Messages[0]
	if len(c.Messages) != 1 || m.Type != "" || m.Role != "user" || len(m.Parts) > 0 || m.ToolCalls != nil || m.ToolCallID != "" {
		return fault.New(fault.InvalidTemplate, "A prompt of kind %q has exactly one message: role user, with one text.", KindText).
			WithParam("messages")
	}
	return nil
}

// SaveVersion checks and saves a version: templates parse, variables are inferred where not declared, references are pinned,
// cycles and a depth over MaxReferenceDepth refused. Content equal to the latest version's is not saved again.
func (s *Service) SaveVersion(ctx context.Context, by journal.Origin, in VersionInput) (Saved, error) {
	if err := checkOrigin(by); err != nil {
		return Saved{}, err
	}
	if in.Number < 0 || in.Number > math.MaxInt32 {
		return Saved{}, invalid("version", "A version's number is 1 to %d.", math.MaxInt32)
	}
	p, err := s.store.PromptByHandle(ctx, in.Project, in.PromptID)
	if err != nil {
		return Saved{}, err
	}
	if in.Latest != nil && *in.Latest != p.LatestVersion {
		return Saved{}, fault.New(fault.Conflict, "The latest version is %d now, and you started from %d: compare them, then save again.",
			p.LatestVersion, *in.Latest).WithParam("latest")
	}
	checked, err := s.check(ctx, p, &in)
	if err != nil {
		return Saved{}, err
	}
	v := Version{
		Project: p.Project, PromptID: p.ID, Number: in.Number, Digest: checked.Digest, Content: checked.Content, Note: in.Note,
		Author: authorOf(by),
	}
	if v.Parent, err = s.parent(ctx, p, in.Parent); err != nil {
		return Saved{}, err
	}
	if in.Number == 0 && p.LatestVersion > 0 {
		latest, err := s.store.VersionOf(ctx, p.Project, p.ID, p.LatestVersion)
		if err != nil {
			return Saved{}, err
		}
		if latest.Digest == v.Digest {
			return Saved{Version: latest, Unchanged: true}, nil
		}
	}
	if in.Number == 0 && in.Latest != nil {
		// Asking for the very next number makes the comparison above hold to the end: whoever saves in between takes it.
		v.Number = *in.Latest + 1
	}
	saved, err := s.store.AddVersion(ctx, by, v)
	return Saved{Version: saved}, err
}

// parent is the version that a new one was made from.
func (s *Service) parent(ctx context.Context, p Prompt, number int) (int, error) {
	if number == 0 {
		return p.LatestVersion, nil
	}
	_, err := s.store.VersionOf(ctx, p.Project, p.ID, number)
	if fault.Is(err, fault.VersionNotFound) {
		return 0, fault.Wrap(err, fault.VersionNotFound, "The parent version %d does not exist.", number).WithParam("parent")
	}
	return number, err
}

// Version is one version.
func (s *Service) Version(ctx context.Context, project, promptID string, number int) (Version, error) {
	return s.store.VersionOf(ctx, project, promptID, number)
}

// Versions lists versions, newest first, and the cursor of the next page.
func (s *Service) Versions(ctx context.Context, project, promptID string, page Page) ([]Version, string, error) {
	return s.store.ListVersions(ctx, project, promptID, page)
}

// Diff compares two versions of a prompt.
func (s *Service) Diff(ctx context.Context, project, promptID string, from, to int) (Diff, error) {
	a, err := s.store.VersionOf(ctx, project, promptID, from)
	if err != nil {
		return Diff{}, err
	}
	b, err := s.store.VersionOf(ctx, project, promptID, to)
	if err != nil {
		return Diff{}, err
	}
	return Compare(a, b), nil
}
