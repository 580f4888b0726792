package admin

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// Version is one immutable state of a prompt.
type Version struct {
	PromptID  string    `json:"prompt_id"`
	Number    int       `json:"version"`
	Digest    string    `json:"digest" example:"sha256:9f86d0…"`
	Note      string    `json:"note"`
	Author    string    `json:"author"`
	Parent    int       `json:"parent,omitempty" doc:"The version that it was made from"`
	CreatedAt time.Time `json:"created_at"`
	Content   *Content  `json:"content,omitempty" doc:"Absent in lists"`
}

func versionOf(v registry.Version, withContent bool) Version {
	out := Version{PromptID: v.PromptID, Number: v.Number, Digest: v.Digest, Note: v.Note, Author: v.Author, Parent: v.Parent, CreatedAt: v.Created}
	if withContent {
		c := ContentOf(v.Content)
		out.Content = &c
	}
	return out
}

// VersionCreate saves a version.
type VersionCreate struct {
	Content Content `json:"content"`
	Note    string  `json:"note,omitempty" maxLength:"2000" doc:"Why it was made"`
	Parent  int     `json:"parent,omitempty" minimum:"1" doc:"The version it was made from; the latest unless said"`
	Number  int     `json:"version,omitempty" minimum:"1" maximum:"2147483647" doc:"Its number, one that no version has, for imports; the next unless said"`
	Latest  *int    `json:"latest,omitempty" minimum:"0" doc:"The latest version that the author saw; 409 when there is a newer one"`
	Insist  bool    `json:"insist,omitempty" doc:"Save what looks misspelt: parameters and locks nearly named as known fields, tools without a type"`
	DryRun  bool    `json:"dry_run,omitempty" doc:"Check only: answers 200 with the content as it would be saved"`
}

type versionAnswer struct {
	Changed
	Created
	Status int
	Body   VersionSaved
}

// VersionSaved is the outcome of saving a version.
type VersionSaved struct {
	Version
	Unchanged bool `json:"unchanged,omitempty" doc:"Nothing was saved: the latest version says the same"`
}

type versionInput struct {
	OnPrompt
	Number int `path:"version" minimum:"1"`
}

type oneVersion struct{ Body Version }

type createVersionInput struct {
	OnPrompt
	Body VersionCreate
}

type listVersionsInput struct {
	OnPrompt
	Paging
}

type versionList struct {
	Body struct {
		Versions []Version `json:"versions" doc:"Newest first"`
		Next     string    `json:"next,omitempty"`
	}
}

type diffInput struct {
	OnPrompt
	From int `query:"from" minimum:"1" required:"true"`
	To   int `query:"to" minimum:"1" required:"true"`
}

// Diff is what differs between two versions.
type Diff struct {
	From     int           `json:"from"`
	To       int           `json:"to"`
	Changed  []string      `json:"changed" doc:"Names of the fields that differ"`
	Messages []MessageDiff `json:"messages"`
	Fields   []FieldDiff   `json:"fields"`
}

// MessageDiff is one message that differs.
type MessageDiff struct {
	From    int    `json:"from" doc:"Position from 0; -1 where there is none"`
	To      int    `json:"to"`
	Role    string `json:"role"`
	Unified string `json:"unified" doc:"Unified diff of the text"`
}

// FieldDiff is one field that differs.
type FieldDiff struct {
	Field string `json:"field"`
	From  Raw    `json:"from,omitempty"`
	To    Raw    `json:"to,omitempty"`
}

type diffAnswer struct{ Body Diff }

// versions are the immutable states of a prompt.
type versions struct {
	registry *registry.Service
}

func (n versions) routes(a *API) {
	handle(a, op{id: "list-versions", method: http.MethodGet, path: "/prompts/{prompt}/versions", action: policy.ActionRead,
		kind: policy.ObjectPrompt, tag: "versions", summary: "List a prompt's versions"}, n.listVersions)
	handle(a, op{id: "create-version", method: http.MethodPost, path: "/prompts/{prompt}/versions", action: policy.ActionWrite,
		kind: policy.ObjectPrompt, tag: "versions", summary: "Save a version", status: http.StatusCreated}, n.createVersion)
	handle(a, op{id: "get-version", method: http.MethodGet, path: "/prompts/{prompt}/versions/{version}", action: policy.ActionRead,
		kind: policy.ObjectPrompt, tag: "versions", summary: "Get a version with its content"}, n.getVersion)
	handle(a, op{id: "diff-versions", method: http.MethodGet, path: "/prompts/{prompt}/diff", action: policy.ActionRead,
		kind: policy.ObjectPrompt, tag: "versions", summary: "Compare two versions"}, n.diffVersions)
}

func (n versions) listVersions(ctx context.Context, c *caller, in *listVersionsInput) (*versionList, error) {
	r, err := readingOf(ctx, n.registry, c, c.Prompt)
	if err != nil {
		return nil, err
	}
	found, next, err := n.versionsIn(ctx, c, r, in.page())
	if err != nil {
		return nil, err
	}
	out := &versionList{}
	out.Body.Versions, out.Body.Next = []Version{}, next
	for _, v := range found {
		out.Body.Versions = append(out.Body.Versions, versionOf(v, false))
	}
	return out, nil
}

// versionsIn lists what may be read: a page of all, or the few that labels point at.
func (n versions) versionsIn(ctx context.Context, c *caller, r *reading, page registry.Page) (found []registry.Version, next string, err error) {
	if r.all {
		return n.registry.Versions(ctx, c.Project, c.Prompt.ID, page)
	}
	numbers := slices.Sorted(maps.Keys(r.versions))
	slices.Reverse(numbers)
	for _, number := range numbers {
		v, err := n.registry.Version(ctx, c.Project, c.Prompt.ID, number)
		if err != nil {
			return nil, "", err
		}
		found = append(found, v)
	}
	return found, "", nil
}

// readable refuses, like versions that are not there, those that the caller may not read.
func (n versions) readable(ctx context.Context, c *caller, numbers ...int) error {
	r, err := readingOf(ctx, n.registry, c, c.Prompt)
	if err != nil {
		return err
	}
	for _, number := range numbers {
		if !r.version(number) {
			return registry.ErrVersionNotFound(number)
		}
	}
	return nil
}

func (n versions) createVersion(ctx context.Context, c *caller, in *createVersionInput) (*versionAnswer, error) {
	v := registry.VersionInput{
		Project: c.Project, PromptID: c.Prompt.ID, Content: in.Body.Content.template(), Note: in.Body.Note,
		Parent: in.Body.Parent, Latest: in.Body.Latest, Number: in.Body.Number, Insist: in.Body.Insist, AllowReference: c.mayInclude,
	}
	if in.Body.DryRun {
		checked, err := n.registry.Check(ctx, v)
		if err != nil {
			return nil, err
		}
		content := ContentOf(checked.Content)
		return &versionAnswer{Status: http.StatusOK, Body: VersionSaved{Version: Version{
			PromptID: c.Prompt.ID, Digest: checked.Digest, Content: &content,
		}}}, nil
	}
	saved, err := n.registry.SaveVersion(ctx, c.Origin, v)
	if err != nil {
		return nil, err
	}
	out := &versionAnswer{
		Changed: changed(saved.Version.Revision), Status: http.StatusCreated,
		Body: VersionSaved{Version: versionOf(saved.Version, true), Unchanged: saved.Unchanged},
	}
	out.Created = created("prompts", c.Prompt.ID, "versions", strconv.Itoa(saved.Version.Number))
	if saved.Unchanged {
		out.Status = http.StatusOK
	}
	return out, nil
}

func (n versions) getVersion(ctx context.Context, c *caller, in *versionInput) (*oneVersion, error) {
	if err := n.readable(ctx, c, in.Number); err != nil {
		return nil, err
	}
	v, err := n.registry.Version(ctx, c.Project, c.Prompt.ID, in.Number)
	if err != nil {
		return nil, err
	}
	return &oneVersion{Body: versionOf(v, true)}, nil
}

func (n versions) diffVersions(ctx context.Context, c *caller, in *diffInput) (*diffAnswer, error) {
	if err := n.readable(ctx, c, in.From, in.To); err != nil {
		return nil, err
	}
	d, err := n.registry.Diff(ctx, c.Project, c.Prompt.ID, in.From, in.To)
	if err != nil {
		return nil, err
	}
	out := Diff{From: d.From, To: d.To, Changed: list(d.Changed), Messages: []MessageDiff{}, Fields: []FieldDiff{}}
	for _, m := range d.Messages {
		out.Messages = append(out.Messages, MessageDiff{From: m.From, To: m.To, Role: m.Role, Unified: m.Unified})
	}
	for _, f := range d.Fields {
		out.Fields = append(out.Fields, FieldDiff{Field: f.Field, From: Raw(f.From), To: Raw(f.To)})
	}
	return &diffAnswer{Body: out}, nil
}
