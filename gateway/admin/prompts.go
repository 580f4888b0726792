package admin

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// Prompt is a prompt without its text.
type Prompt struct {
	ID            string    `json:"id" example:"pmpt_0k3v"`
	Name          string    `json:"name" example:"support/triage"`
	Kind          string    `json:"kind" enum:"chat,text"`
	Description   string    `json:"description"`
	Category      string    `json:"category"`
	Tags          []string  `json:"tags"`
	Owner         string    `json:"owner"`
	Archived      bool      `json:"archived"`
	LatestVersion int       `json:"latest_version" doc:"0 before the first version"`
	Variables     []string  `json:"variables" doc:"Names that any version declares"`
	Aliases       []string  `json:"aliases"`
	CreatedAt     time.Time `json:"created_at"`
	UpdatedAt     time.Time `json:"updated_at"`
	Revision      int64     `json:"revision" doc:"The journal's revision of the last edit; also the ETag"`
}

func promptOf(p registry.Prompt) Prompt {
	return Prompt{
		ID: p.ID, Name: p.Name, Kind: string(p.Kind), Description: p.Description, Category: p.Category, Tags: list(p.Tags), Owner: p.Owner,
		Archived: p.Archived, LatestVersion: p.LatestVersion, Variables: list(p.Variables), Aliases: list(p.Aliases),
		CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt, Revision: p.Revision,
	}
}

// PromptCreate makes a prompt, with its first version when content is given.
type PromptCreate struct {
	Name        string   `json:"name" minLength:"1" maxLength:"200" doc:"Lowercase segments joined by /" example:"support/triage"`
	Kind        string   `json:"kind,omitempty" enum:"chat,text" default:"chat"`
	Description string   `json:"description,omitempty" maxLength:"2000"`
	Category    string   `json:"category,omitempty" maxLength:"100"`
	Tags        []string `json:"tags,omitempty" maxItems:"50"`
	Owner       string   `json:"owner,omitempty" maxLength:"200"`
	Aliases     []string `json:"aliases,omitempty" maxItems:"20"`
	Content     *Content `json:"content,omitempty" doc:"Version 1"`
	Note        string   `json:"note,omitempty" maxLength:"2000" doc:"Why version 1 was made"`
	Insist      bool     `json:"insist,omitempty" doc:"Save what looks misspelt in content"`
}

// PromptPatch changes a prompt; absent fields stay.
type PromptPatch struct {
	Name        *string   `json:"name,omitempty" minLength:"1" maxLength:"200" doc:"Renames; the id stays, the old name still answers"`
	Description *string   `json:"description,omitempty" maxLength:"2000"`
	Category    *string   `json:"category,omitempty" maxLength:"100"`
	Tags        *[]string `json:"tags,omitempty" maxItems:"50"`
	Owner       *string   `json:"owner,omitempty" maxLength:"200"`
	Aliases     *[]string `json:"aliases,omitempty" maxItems:"20"`
	Archived    *bool     `json:"archived,omitempty" doc:"Archived prompts answer calls with 404"`
}

type promptAnswer struct {
	Changed
	ETag string `header:"ETag"`
	Body Prompt
}

type createdPrompt struct {
	Changed
	Created
	ETag string `header:"ETag"`
	Body Prompt
}

func (n prompts) answerPrompt(ctx context.Context, c *caller, p registry.Prompt) (*promptAnswer, error) {
	body, err := n.show(ctx, c, p)
	return &promptAnswer{Changed: changed(p.Revision), ETag: etag(p.Revision), Body: body}, err
}

type promptList struct {
	Body struct {
		Prompts []Prompt `json:"prompts"`
		Next    string   `json:"next,omitempty" doc:"Pass as after for the next page"`
	}
}

type listPromptsInput struct {
	Credentials
	Paging
	Folder   string `query:"folder" doc:"Only names below this folder" example:"support"`
	Tag      string `query:"tag"`
	Category string `query:"category"`
	Query    string `query:"q" maxLength:"200" doc:"Part of the name or the description"`
	Archived bool   `query:"archived" doc:"With archived ones"`
}

type createPromptInput struct {
	Credentials
	Body PromptCreate
}

func (i *createPromptInput) newName() string { return i.Body.Name }

type patchPromptInput struct {
	OnPrompt
	Precondition
	DryRun      bool `query:"dry_run" doc:"Check only: answers with the prompt as it would be, and whose access a new name would change"`
	CarryGrants bool `query:"carry_grants" doc:"With a new name: keys whose grants name the prompt exactly keep their access; needs manage_keys"`
	Body        PromptPatch
}

// PromptPatched is a prompt after an edit.
type PromptPatched struct {
	Prompt
	AccessChanges []AccessChange `json:"access_changes,omitempty" doc:"Keys whose rights the new name changes; shown to those who may manage keys"`
}

type patchedPrompt struct {
	Changed
	ETag string `header:"ETag"`
	Body PromptPatched
}

// prompts are named things without their text.
type prompts struct {
	registry *registry.Service
	keys     policy.KeyStore
	log      *slog.Logger
	clock    func() time.Time
}

func (n prompts) routes(a *API) {
	handle(a, op{id: "list-prompts", method: http.MethodGet, path: "/prompts", tag: "prompts", summary: "List the prompts that this key may read"}, n.listPrompts)
	handle(a, op{id: "create-prompt", method: http.MethodPost, path: "/prompts", action: policy.ActionWrite, kind: policy.ObjectPrompt,
		tag: "prompts", summary: "Create a prompt", status: http.StatusCreated}, n.createPrompt)
	handle(a, op{id: "get-prompt", method: http.MethodGet, path: "/prompts/{prompt}", action: policy.ActionRead, kind: policy.ObjectPrompt,
		tag: "prompts", summary: "Get a prompt"}, func(ctx context.Context, c *caller, _ *OnPrompt) (*promptAnswer, error) {
		return n.answerPrompt(ctx, c, c.Prompt)
	})
	handle(a, op{id: "update-prompt", method: http.MethodPatch, path: "/prompts/{prompt}", action: policy.ActionWrite, kind: policy.ObjectPrompt,
		tag: "prompts", summary: "Change, rename, archive or restore a prompt"}, n.patchPrompt)
}

func (n prompts) listPrompts(ctx context.Context, c *caller, in *listPromptsInput) (*promptList, error) {
	behind, err := placed(in.After)
	if err != nil {
		return nil, err
	}
	f := registry.PromptFilter{
		Folder: in.Folder, Tag: in.Tag, Category: in.Category, Query: in.Query, Archived: in.Archived, Behind: behind,
	}
	found, next, err := visible(in.Limit, func(after string, limit int) ([]registry.Prompt, string, error) {
		return n.registry.Prompts(ctx, c.Project, f, registry.Page{After: after, Limit: limit})
	}, func(p registry.Prompt) (bool, error) {
		return c.may(ctx, policy.Permission{Action: policy.ActionRead, Kind: policy.ObjectPrompt, Name: p.Name})
	}, func(p registry.Prompt) string { return place(p.Name) })
	if err != nil {
		return nil, err
	}
	out := &promptList{}
	out.Body.Prompts, out.Body.Next = make([]Prompt, 0, len(found)), next
	for _, p := range found {
		shown, err := n.show(ctx, c, p)
		if err != nil {
			return nil, err
		}
		out.Body.Prompts = append(out.Body.Prompts, shown)
	}
	return out, nil
}

func (n prompts) createPrompt(ctx context.Context, c *caller, in *createPromptInput) (*createdPrompt, error) {
	b := in.Body
	create := registry.PromptInput{
		Project: c.Project, Name: b.Name, Kind: registry.Kind(b.Kind), Description: b.Description, Category: b.Category,
		Tags: b.Tags, Owner: b.Owner, Aliases: b.Aliases,
	}
	if create.Owner == "" {
		create.Owner = c.Name
	}
	if b.Content != nil {
		create.First = &registry.FirstVersion{Content: b.Content.template(), Note: b.Note, Insist: b.Insist, AllowReference: c.mayInclude}
	}
	p, err := n.registry.CreatePrompt(ctx, c.Origin, create)
	if err != nil {
		return nil, err
	}
	return &createdPrompt{Changed: changed(p.Revision), Created: created("prompts", p.ID), ETag: etag(p.Revision), Body: promptOf(p)}, nil
}

// mayInclude lets an author include what it may read: an included text can be read in whatever includes it.
func (c *caller) mayInclude(ctx context.Context, p registry.Prompt, label string) error {
	if label == "" {
		label = policy.LabelVersion
	}
	ok, err := c.may(ctx, policy.Permission{Action: policy.ActionRead, Kind: policy.ObjectPrompt, Name: p.Name, Label: label})
	if err != nil || ok {
		return err
	}
	return registry.ErrPromptNotFound()
}

// patchPrompt changes a prompt's row; the Gate asks for more where it moves to another folder.
func (n prompts) patchPrompt(ctx context.Context, c *caller, in *patchPromptInput) (*patchedPrompt, error) {
	rev, err := in.revision()
	if err != nil {
		return nil, err
	}
	b := in.Body
	update := registry.PromptUpdate{
		Project: c.Project, ID: c.Prompt.ID, Revision: rev, Name: b.Name, Description: b.Description, Category: b.Category,
		Tags: b.Tags, Owner: b.Owner, Aliases: b.Aliases, Archived: b.Archived,
	}
	out := &patchedPrompt{}
	undo := func(context.Context) {}
	if b.Name != nil && *b.Name != c.Prompt.Name {
		r := &renaming{prompts: n, caller: c, from: c.Prompt, to: *b.Name}
		if out.Body.AccessChanges, err = r.changes(ctx); err != nil {
			return nil, err
		}
		if in.CarryGrants && !in.DryRun {
			if undo, err = r.carry(ctx); err != nil {
				return nil, err
			}
		}
	}
	var p registry.Prompt
	if in.DryRun {
		p, err = n.registry.CheckUpdate(ctx, c.Origin, update)
	} else if p, err = n.registry.UpdatePrompt(ctx, c.Origin, update); err == nil {
		out.Changed, out.ETag = changed(p.Revision), etag(p.Revision)
	}
	if err != nil {
		undo(context.WithoutCancel(ctx))
		return nil, err
	}
	out.Body.Prompt, err = n.show(ctx, c, p)
	return out, err
}
