package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// Label points at a version.
type Label struct {
	Name     string    `json:"label" example:"production"`
	Version  int       `json:"version"`
	MovedAt  time.Time `json:"moved_at"`
	Revision int64     `json:"revision" doc:"The journal's revision of the last move"`
}

func labelOf(l registry.Label) Label {
	return Label{Name: l.Name, Version: l.Version, MovedAt: l.Moved, Revision: l.Revision}
}

// LabelMove sets or moves a label.
type LabelMove struct {
	Version int  `json:"version" minimum:"1" doc:"Where it shall point"`
	From    *int `json:"from,omitempty" minimum:"0" doc:"Where it must point now (0: nowhere); 409 when it does not"`
	Force   bool `json:"force,omitempty" doc:"Although the new version requires variables that the old one did not; say why in X-Promptgate-Why"`
}

// Rollback moves a label back to where it pointed before.
type Rollback struct {
	From  *int `json:"from,omitempty" minimum:"1" doc:"Where it must point now"`
	Force bool `json:"force,omitempty"`
}

// LabelEvent is one move of a label.
type LabelEvent struct {
	Revision int64     `json:"revision"`
	At       time.Time `json:"at"`
	Label    string    `json:"label"`
	From     int       `json:"from" doc:"0: it was not there"`
	To       int       `json:"to" doc:"0: it was removed"`
	Actor    string    `json:"actor"`
	Why      string    `json:"why"`
}

type labelAnswer struct {
	Changed
	Body Label
}

type labelList struct {
	Body struct {
		Labels []Label `json:"labels"`
	}
}

type moveLabelInput struct {
	OnLabel
	Body LabelMove
}

type removeLabelInput struct {
	OnLabel
	From int `query:"from" minimum:"1" doc:"Where it must point now; 409 when it does not"`
}

type rollbackInput struct {
	OnLabel
	Body Rollback
}

type labelHistoryInput struct {
	OnPrompt
	Paging
	Label string `path:"label"` // no label(): reading the history is reading the prompt
}

type labelHistory struct {
	Body struct {
		Events []LabelEvent `json:"events" doc:"Newest first"`
		Next   string       `json:"next,omitempty"`
	}
}

type removedAnswer struct{ Changed }

// removed is the answer of what takes something away, at a revision; 0 when there was nothing to do.
func removed(at int64, err error) (*removedAnswer, error) {
	if err != nil || at == 0 {
		return &removedAnswer{}, err
	}
	return &removedAnswer{Changed: changed(at)}, nil
}

// labels are the names that point at versions.
type labels struct {
	registry *registry.Service
}

func (n labels) routes(a *API) {
	move := func(id, method, path, summary string) op {
		return op{id: id, method: method, path: path, action: policy.ActionMoveLabel, kind: policy.ObjectPrompt, tag: "labels", summary: summary}
	}
	read := func(id, path, summary string) op {
		return op{id: id, method: http.MethodGet, path: path, action: policy.ActionRead, kind: policy.ObjectPrompt, tag: "labels", summary: summary}
	}
	handle(a, read("list-labels", "/prompts/{prompt}/labels", "List where a prompt's labels point"), n.listLabels)
	handle(a, read("label-history", "/prompts/{prompt}/labels/{label}/history", "List the moves of a label"), n.labelHistory)
	handle(a, move("move-label", http.MethodPut, "/prompts/{prompt}/labels/{label}", "Set or move a label"), n.moveLabel)
	remove := move("remove-label", http.MethodDelete, "/prompts/{prompt}/labels/{label}", "Remove a label: calls that name it get 404")
	remove.status = http.StatusNoContent
	handle(a, remove, n.removeLabel)
	handle(a, move("rollback-label", http.MethodPost, "/prompts/{prompt}/labels/{label}/rollback", "Move a label back to where it pointed before"), n.rollback)
}

func (n labels) listLabels(ctx context.Context, c *caller, _ *OnPrompt) (*labelList, error) {
	r, err := readingOf(ctx, n.registry, c, c.Prompt)
	if err != nil {
		return nil, err
	}
	found, err := n.registry.Labels(ctx, c.Project, c.Prompt.ID)
	if err != nil {
		return nil, err
	}
	out := &labelList{}
	out.Body.Labels = []Label{}
	for _, l := range found {
		if !r.label(l.Name) {
			continue
		}
		out.Body.Labels = append(out.Body.Labels, labelOf(l))
	}
	return out, nil
}

func (n labels) moveLabel(ctx context.Context, c *caller, in *moveLabelInput) (*labelAnswer, error) {
	l, err := n.registry.MoveLabel(ctx, c.Origin, registry.LabelMove{
		Project: c.Project, PromptID: c.Prompt.ID, Label: in.Label, To: in.Body.Version, From: in.Body.From, Force: in.Body.Force,
	})
	if err != nil {
		return nil, err
	}
	return &labelAnswer{Changed: changed(l.Revision), Body: labelOf(l)}, nil
}

func (n labels) removeLabel(ctx context.Context, c *caller, in *removeLabelInput) (*removedAnswer, error) {
	m := registry.LabelMove{Project: c.Project, PromptID: c.Prompt.ID, Label: in.Label}
	if in.From > 0 {
		m.From = &in.From
	}
	l, err := n.registry.MoveLabel(ctx, c.Origin, m)
	if err != nil {
		return nil, err
	}
	return &removedAnswer{Changed: changed(l.Revision)}, nil
}

func (n labels) rollback(ctx context.Context, c *caller, in *rollbackInput) (*labelAnswer, error) {
	l, err := n.registry.Rollback(ctx, c.Origin, registry.RollbackInput{
		LabelRef: registry.LabelRef{Project: c.Project, PromptID: c.Prompt.ID, Label: in.Label}, From: in.Body.From, Force: in.Body.Force,
	})
	if err != nil {
		return nil, err
	}
	return &labelAnswer{Changed: changed(l.Revision), Body: labelOf(l)}, nil
}

func (n labels) labelHistory(ctx context.Context, c *caller, in *labelHistoryInput) (*labelHistory, error) {
	found, next, err := n.registry.LabelHistory(ctx, registry.LabelRef{Project: c.Project, PromptID: c.Prompt.ID, Label: in.Label}, in.page())
	if err != nil {
		return nil, err
	}
	r, err := readingOf(ctx, n.registry, c, c.Prompt)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 && in.After == "" || !r.label(in.Label) {
		return nil, fault.New(fault.LabelNotFound, "This prompt never had a label %q; list its labels to see what there is.", in.Label).WithParam("label")
	}
	out := &labelHistory{}
	out.Body.Events, out.Body.Next = []LabelEvent{}, next
	for _, e := range found {
		out.Body.Events = append(out.Body.Events, LabelEvent{
			Revision: e.Revision, At: e.At, Label: e.Label, From: e.From, To: e.To, Actor: e.Actor, Why: e.Why,
		})
	}
	return out, nil
}
