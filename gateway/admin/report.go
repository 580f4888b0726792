package admin

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// Held is one thing that somebody holds in the project.
type Held struct {
	Holding       string         `json:"holding" doc:"The binding or the key" example:"bnd_0k3v"`
	Subject       string         `json:"subject" doc:"usr_…, svc_…, grp_… of a group that nobody is in; of a key its owner, or the key" example:"usr_0k3v"`
	SubjectName   string         `json:"subject_name,omitempty"`
	Via           string         `json:"via,omitempty" doc:"The group that gives it"`
	ViaName       string         `json:"via_name,omitempty"`
	State         string         `json:"state" enum:"in_force,expired,invited,deactivated,vacant"`
	Role          string         `json:"role" doc:"Of a key: its roles, or inherits"`
	Effect        string         `json:"effect" enum:"allow,deny"`
	Prompts       []string       `json:"prompts"`
	Labels        []string       `json:"labels"`
	Models        []string       `json:"models"`
	Grants        []policy.Grant `json:"grants,omitempty" doc:"Of a key"`
	GrantedBy     string         `json:"granted_by"`
	GrantedByName string         `json:"granted_by_name,omitempty"`
	GrantedAt     time.Time      `json:"granted_at"`
	Reason        string         `json:"reason,omitempty" doc:"Of a key: its name"`
	ExpiresAt     *time.Time     `json:"expires_at,omitempty"`
	LastUsedAt    *time.Time     `json:"last_used_at,omitempty" doc:"The minute in which it allowed this subject something last; absent: never"`
	UsedMinutes   int64          `json:"used_minutes" doc:"The minutes in which it did"`
}

func heldOf(a policy.Access) Held {
	return Held{
		Holding: a.Holding, Subject: a.Subject, SubjectName: a.SubjectName, Via: a.Via, ViaName: a.ViaName, State: string(a.State), Role: a.Role, Effect: a.Effect,
		Prompts: list(a.Prompts), Labels: list(a.Labels), Models: list(a.Models), Grants: a.Grants, GrantedBy: a.GrantedBy, GrantedByName: a.GrantedByName,
		GrantedAt: a.GrantedAt, Reason: a.Reason, ExpiresAt: moment(a.Expires), LastUsedAt: moment(a.LastUsed), UsedMinutes: a.Minutes,
	}
}

// AccessFiltering is embedded in the inputs of reports.
type AccessFiltering struct {
	Role    string `query:"role" maxLength:"40" doc:"Who holds this role"`
	Subject string `query:"subject" maxLength:"60" doc:"What one user, group, service account or key holds; a user's groups are looked at as well"`
	Prompt  string `query:"prompt" maxLength:"256" doc:"A pattern: who holds something over prompts under it" example:"support/**"`
	Unused  int    `query:"unused_days" minimum:"1" maximum:"3650" doc:"What was not used for so many days"`
}

func (f AccessFiltering) filter(now time.Time) (policy.AccessFilter, error) {
	out := policy.AccessFilter{Role: f.Role, Subject: f.Subject, Prompt: f.Prompt}
	if f.Unused > 0 {
		out.UnusedBy = now.AddDate(0, 0, -f.Unused)
	}
	if f.Prompt == "" {
		return out, nil
	}
	if err := policy.CheckPromptPattern(f.Prompt); err != nil {
		return out, fault.New(fault.InvalidRequest, "prompt is no pattern: an exact name, folder/* or folder/**").WithParam("prompt")
	}
	return out, nil
}

type reportInput struct {
	Credentials
	Paging
	AccessFiltering
}

type reportCSVInput struct {
	Credentials
	AccessFiltering
}

type reportAnswer struct {
	Body struct {
		Access []Held `json:"access"`
		Next   string `json:"next,omitempty"`
	}
}

// report says who holds what.
type report struct {
	store policy.Reports
	clock func() time.Time
}

func (n report) routes(a *API) {
	see := func(id, path, summary string) op {
		return op{id: id, method: http.MethodGet, path: path, action: policy.ActionManageUsers, or: policy.ActionAudit, kind: policy.ObjectSystem, tag: "people", summary: summary}
	}
	list := see("report-access", "/access/report", "Say who holds what, since when, granted by whom, and when it was used last; what was never used first")
	list.about = "What a group holds has a line for each of its members. What operators hold lies outside every project and is not here."
	handle(a, list, n.page)
	handle(a, see("report-access-csv", "/access/report.csv", "The whole report as CSV"), n.table)
}

func (n report) page(ctx context.Context, c *caller, in *reportInput) (*reportAnswer, error) {
	f, err := in.filter(n.clock())
	if err != nil {
		return nil, err
	}
	after, err := placed(in.After)
	if err != nil {
		return nil, err
	}
	all, err := n.store.Report(ctx, c.Project, f)
	if err != nil {
		return nil, err
	}
	out := &reportAnswer{}
	out.Body.Access = []Held{}
	last := ""
	for _, one := range all {
		if one.Place() <= after {
			continue
		}
		if len(out.Body.Access) == in.Limit {
			out.Body.Next = place(last)
			break
		}
		last = one.Place()
		out.Body.Access = append(out.Body.Access, heldOf(one))
	}
	return out, nil
}

func (n report) table(ctx context.Context, c *caller, in *reportCSVInput) (*csvAnswer, error) {
	f, err := in.filter(n.clock())
	if err != nil {
		return nil, err
	}
	all, err := n.store.Report(ctx, c.Project, f)
	if err != nil {
		return nil, err
	}
	var t table
	t.row(accessColumns()...)
	for _, a := range all {
		t.row(accessCells(a)...)
	}
	return t.answer("access.csv"), nil
}

func accessColumns() []string {
	return []string{"holding", "subject", "subject_name", "via", "via_name", "state", "role", "effect", "prompts", "labels", "models", "granted_by", "granted_by_name",
		"granted_at", "reason", "expires_at", "last_used_at", "used_minutes"}
}

func accessCells(a policy.Access) []string {
	return []string{a.Holding, a.Subject, a.SubjectName, a.Via, a.ViaName, string(a.State), a.Role, a.Effect, strings.Join(a.Prompts, " "), strings.Join(a.Labels, " "),
		strings.Join(a.Models, " "), a.GrantedBy, a.GrantedByName, spelledTime(a.GrantedAt), a.Reason, spelledTime(a.Expires), spelledTime(a.LastUsed), strconv.FormatInt(a.Minutes, 10)}
}

func spelledTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
