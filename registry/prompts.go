package registry

import (
	"context"
	"reflect"
	"slices"

	"github.com/promptgate/promptgate/internal/journal"
)

// Prompt finds a prompt by any handle: name, alias, id; archived ones too.
func (s *Service) Prompt(ctx context.Context, project, handle string) (Prompt, error) {
	return s.store.PromptByHandle(ctx, project, handle)
}

// Prompts lists prompts by name, and the cursor of the next page ("" when there is none).
func (s *Service) Prompts(ctx context.Context, project string, f PromptFilter, page Page) ([]Prompt, string, error) {
	for param, text := range map[string]*string{"folder": &f.Folder, "tag": &f.Tag, "category": &f.Category, "query": &f.Query} {
		if err := normalText(param, text, MaxNameBytes); err != nil {
			return nil, "", err
		}
	}
	return s.store.ListPrompts(ctx, project, f, page)
}

// CreatePrompt makes a prompt, with its first version when one is given. Name and aliases must never have been used.
func (s *Service) CreatePrompt(ctx context.Context, by journal.Origin, in PromptInput) (Prompt, error) {
	p := Prompt{
		Project: in.Project, Name: in.Name, Kind: in.Kind, Description: in.Description, Category: in.Category, Tags: in.Tags,
		Owner: in.Owner, Aliases: in.Aliases,
	}
	if p.Kind == "" {
		p.Kind = KindChat
	}
	if err := normalize(&p, by); err != nil {
		return Prompt{}, err
	}
	id, err := s.newID(PromptIDPrefix)
	if err != nil {
		return Prompt{}, err
	}
	p.ID = id
	if in.First == nil {
		return s.store.CreatePrompt(ctx, by, p, nil)
	}
	first := VersionInput{Content: in.First.Content, Note: in.First.Note, Insist: in.First.Insist, AllowReference: in.First.AllowReference}
	checked, err := s.check(ctx, p, &first)
	if err != nil {
		return Prompt{}, err
	}
	return s.store.CreatePrompt(ctx, by, p, &Version{
		Project: p.Project, PromptID: p.ID, Number: 1, Digest: checked.Digest, Content: checked.Content, Note: first.Note,
		Author: authorOf(by),
	})
}

// UpdatePrompt changes, renames, archives or restores a prompt.
func (s *Service) UpdatePrompt(ctx context.Context, by journal.Origin, u PromptUpdate) (Prompt, error) {
	return withRevision(u.Revision, func() (Prompt, error) {
		p, same, err := s.edited(ctx, by, u)
		if err != nil || same {
			return p, err
		}
		return s.store.UpdatePrompt(ctx, by, p)
	})
}

// CheckUpdate tells what UpdatePrompt would make of the prompt, or why it would refuse, and changes nothing.
func (s *Service) CheckUpdate(ctx context.Context, by journal.Origin, u PromptUpdate) (Prompt, error) {
	p, same, err := s.edited(ctx, by, u)
	if err != nil || same {
		return p, err
	}
	return p, s.store.CheckUpdate(ctx, by, p)
}

// edited is the prompt as an update makes it, and whether that is what it is.
func (s *Service) edited(ctx context.Context, by journal.Origin, u PromptUpdate) (p Prompt, same bool, err error) {
	if p, err = s.store.PromptByHandle(ctx, u.Project, u.ID); err != nil {
		return Prompt{}, false, err
	}
	if err := sameRevision(u.Revision, p.Revision); err != nil {
		return Prompt{}, false, err
	}
	before := p
	u.apply(&p)
	if err := normalize(&p, by); err != nil {
		return Prompt{}, false, err
	}
	return p, reflect.DeepEqual(p, before), nil
}

func (u PromptUpdate) apply(p *Prompt) {
	set(&p.Description, u.Description)
	set(&p.Category, u.Category)
	set(&p.Tags, u.Tags)
	set(&p.Owner, u.Owner)
	set(&p.Aliases, u.Aliases)
	set(&p.Archived, u.Archived)
	if u.Name != nil && *u.Name != p.Name {
		p.Aliases = append(slices.Clone(p.Aliases), p.Name)
		p.Name = *u.Name
	}
}

// normalize checks a prompt's row and brings its lists into their one form.
func normalize(p *Prompt, by journal.Origin) (err error) {
	if err := CheckName(p.Name); err != nil {
		return err
	}
	if p.Kind != KindChat && p.Kind != KindText {
		return invalid("kind", "A prompt's kind is %q or %q.", KindChat, KindText)
	}
	for _, text := range []struct {
		param string
		text  *string
		limit int
	}{
		{"description", &p.Description, MaxDescriptionBytes},
		{"category", &p.Category, MaxCategoryBytes},
		{"owner", &p.Owner, MaxOwnerBytes},
	} {
		if err := normalText(text.param, text.text, text.limit); err != nil {
			return err
		}
	}
	if p.Tags, err = normalTags(p.Tags); err != nil {
		return err
	}
	if p.Aliases, err = normalAliases(p.Aliases, p.Name); err != nil {
		return err
	}
	return checkOrigin(by)
}

func authorOf(by journal.Origin) string {
	if by.Actor.Name != "" {
		return by.Actor.Name
	}
	return by.Actor.ID
}
