package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// FeedbackSummary sums up the scores of one name.
type FeedbackSummary struct {
	Name       string           `json:"name"`
	Kind       string           `json:"kind" enum:"boolean,number,category"`
	Count      int64            `json:"count"`
	Mean       *float64         `json:"mean,omitempty"`
	Categories map[string]int64 `json:"categories,omitempty"`
}

// Feedback is one score on one call.
type Feedback struct {
	ID       string    `json:"id"`
	CallID   string    `json:"call_id"`
	Name     string    `json:"name"`
	Bool     *bool     `json:"boolean,omitempty"`
	Number   *float64  `json:"number,omitempty"`
	Category string    `json:"category,omitempty"`
	Comment  string    `json:"comment,omitempty"`
	User     string    `json:"user,omitempty" doc:"Keyed hash, as a call's end_user"`
	Source   string    `json:"source"`
	At       time.Time `json:"at"`
}

type listFeedbackInput struct {
	OnPrompt
	Paging
	Version int    `query:"version" minimum:"1"`
	Name    string `query:"name"`
	Call    string `query:"call"`
}

type feedbackList struct {
	Body struct {
		Feedback []Feedback `json:"feedback" doc:"Newest first"`
		Next     string     `json:"next,omitempty"`
	}
}

// feedback are the scores that calls were given.
type feedback struct {
	registry *registry.Service
	ledger   metrics.Reader
}

func (n feedback) routes(a *API) {
	handle(a, op{id: "list-feedback", method: http.MethodGet, path: "/prompts/{prompt}/feedback", action: policy.ActionRead,
		kind: policy.ObjectPrompt, tag: "calls", summary: "List the scores given to a prompt's calls"}, n.listFeedback)
}

func (n feedback) listFeedback(ctx context.Context, c *caller, in *listFeedbackInput) (*feedbackList, error) {
	r, err := readingOf(ctx, n.registry, c, c.Prompt)
	switch {
	case err != nil:
		return nil, err
	case !r.all && in.Version == 0:
		return nil, fault.New(fault.InvalidRequest, "This key may read some versions only: say which version's scores to list.").WithParam("version")
	case in.Version > 0 && !r.version(in.Version):
		return nil, registry.ErrVersionNotFound(in.Version)
	}
	found, next, err := n.ledger.ListFeedback(ctx, c.Project, metrics.FeedbackFilter{
		PromptID: c.Prompt.ID, Version: in.Version, Name: in.Name, CallID: in.Call,
	}, metrics.Page{After: in.After, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := &feedbackList{}
	out.Body.Feedback, out.Body.Next = []Feedback{}, next
	for _, f := range found {
		out.Body.Feedback = append(out.Body.Feedback, Feedback{
			ID: f.ID, CallID: f.CallID, Name: f.Name, Bool: f.Bool, Number: f.Number, Category: f.Category, Comment: f.Comment,
			User: f.User, Source: f.Source, At: f.At,
		})
	}
	return out, nil
}
