package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

// Journal is the hash-chained record of every change.
type Journal interface {
	List(ctx context.Context, q journal.Query) (entries []journal.Entry, next int64, err error)
}

// Event is one change as the audit trail shows it.
type Event struct {
	Revision int64     `json:"revision"`
	At       time.Time `json:"at"`
	Action   string    `json:"action" example:"label.move"`
	Object   string    `json:"object" example:"prompt:pmpt_0k3v"`
	Actor    string    `json:"actor" example:"key_0k3v"`
	Name     string    `json:"actor_name"`
	From     string    `json:"from" doc:"Network address"`
	Why      string    `json:"why"`
	Before   Raw       `json:"before,omitempty"`
	After    Raw       `json:"after,omitempty"`
	Shredded bool      `json:"shredded,omitempty"`
}

type listEventsInput struct {
	Credentials
	Before  int64     `query:"before" minimum:"0" doc:"Only revisions below; the next of the page before"`
	Limit   int       `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Object  string    `query:"object" maxLength:"200"`
	Action  string    `query:"action" maxLength:"100" doc:"Exact, or label.* for every action on labels"`
	Actor   string    `query:"actor" maxLength:"100"`
	Since   time.Time `query:"since"`
	Until   time.Time `query:"until"`
	Details bool      `query:"details" doc:"With what was there before and after"`
}

type eventList struct {
	Body struct {
		Events []Event `json:"events" doc:"Newest first"`
		Next   int64   `json:"next,omitempty"`
	}
}

// events are the changes of a project, from the journal.
type events struct {
	journal Journal
}

func (n events) routes(a *API) {
	handle(a, op{id: "list-events", method: http.MethodGet, path: "/events", action: policy.ActionAudit, kind: policy.ObjectSystem,
		tag: "audit", summary: "List the project's changes: who, what, when, from where, why"}, n.listEvents)
	handle(a, op{id: "list-installation-events", method: http.MethodGet, path: "/installation/events", action: policy.ActionManageAccounts, kind: policy.ObjectSystem,
		tag: "audit", summary: "List the changes outside every project: accounts, groups, sessions, links, directories"}, n.listOutside)
}

func (n events) listEvents(ctx context.Context, c *caller, in *listEventsInput) (*eventList, error) {
	return n.list(ctx, c.Project, in)
}

func (n events) listOutside(ctx context.Context, _ *caller, in *listEventsInput) (*eventList, error) {
	return n.list(ctx, "", in)
}

// list are the changes of a project, or with "" those outside every project.
func (n events) list(ctx context.Context, project string, in *listEventsInput) (*eventList, error) {
	found, next, err := n.journal.List(ctx, journal.Query{
		Project: project, Object: in.Object, Action: in.Action, ActorID: in.Actor, Since: in.Since, Until: in.Until,
		Before: in.Before, Limit: in.Limit, Payloads: in.Details,
	})
	if err != nil {
		return nil, err
	}
	out := &eventList{}
	out.Body.Events, out.Body.Next = []Event{}, next
	for _, e := range found {
		out.Body.Events = append(out.Body.Events, Event{
			Revision: e.Revision, At: e.At, Action: e.Action, Object: e.Object, Actor: e.Origin.Actor.ID, Name: e.Origin.Actor.Name,
			From: e.Origin.From, Why: e.Origin.Why, Before: Raw(e.Before), After: Raw(e.After), Shredded: e.Shredded,
		})
	}
	return out, nil
}
