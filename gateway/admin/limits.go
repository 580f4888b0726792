package admin

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/limits"
)

// Limit is one rule of a project: how much of something may be used, in which time, by whom.
type Limit struct {
	ID        string    `json:"id" example:"lim_0k3v"`
	Name      string    `json:"name" doc:"Refusals show it" example:"checkout"`
	Measure   string    `json:"measure" enum:"requests,tokens,usd,concurrent_calls,concurrent_streams"`
	Amount    float64   `json:"amount" doc:"US dollars where measure is usd"`
	Period    string    `json:"period,omitempty" enum:"minute,day,week,month,rolling" doc:"Absent for what runs at a time"`
	Days      int       `json:"days,omitempty" doc:"Of a rolling limit: today and the days before"`
	TimeZone  string    `json:"time_zone,omitempty" doc:"Whose days count" example:"Europe/Berlin"`
	Scope     string    `json:"scope" enum:"project,key,user,group,prompt,label,each_key,each_user"`
	Subject   string    `json:"subject,omitempty" doc:"An id, a pattern of prompts or a label, by scope"`
	Soft      bool      `json:"soft" doc:"It warns and refuses nothing"`
	Sandbox   bool      `json:"sandbox" doc:"It counts calls of the sandbox, and no others"`
	Unpriced  string    `json:"unpriced,omitempty" enum:"refuse,allow" doc:"Of usd: what becomes of a call whose price is not known"`
	Contact   string    `json:"contact,omitempty" doc:"Whom a refusal names to ask"`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
	Revision  int64     `json:"revision"`
	Usage     *Usage    `json:"usage,omitempty" doc:"Of a budget that is no default"`
}

// Usage is what was used of a budget in the present period.
type Usage struct {
	Subject  string    `json:"subject,omitempty" doc:"Of a default: whose"`
	Used     float64   `json:"used" doc:"By calls that have ended; a second late at the most"`
	Reserved float64   `json:"reserved" doc:"For calls under way and, by replicas, for calls to come"`
	Left     float64   `json:"left" doc:"What is neither used nor reserved"`
	Amount   float64   `json:"amount"`
	StartsAt time.Time `json:"starts_at"`
	EndsAt   time.Time `json:"ends_at" doc:"Of rolling days: when the first drops out"`
	Forecast *float64  `json:"forecast,omitempty" doc:"What will be used when the week or month ends, at the pace until now: used / time gone by * its length. Absent in its first day"`
	Warned   []int     `json:"warned" doc:"Thresholds that were passed, in percent"`
}

// LimitCreate makes a limit.
type LimitCreate struct {
	Name     string  `json:"name" minLength:"1" maxLength:"100"`
	Measure  string  `json:"measure" enum:"requests,tokens,usd,concurrent_calls,concurrent_streams"`
	Amount   float64 `json:"amount" minimum:"0" doc:"US dollars where measure is usd, else a whole number"`
	Period   string  `json:"period,omitempty" enum:"minute,day,week,month,rolling"`
	Days     int     `json:"days,omitempty" minimum:"1" maximum:"366"`
	TimeZone string  `json:"time_zone,omitempty" maxLength:"60" doc:"UTC without" example:"Europe/Berlin"`
	Scope    string  `json:"scope" enum:"project,key,user,group,prompt,label,each_key,each_user"`
	Subject  string  `json:"subject,omitempty" maxLength:"256"`
	Soft     bool    `json:"soft,omitempty"`
	Sandbox  bool    `json:"sandbox,omitempty"`
	Unpriced string  `json:"unpriced,omitempty" enum:"refuse,allow" default:"refuse"`
	Contact  string  `json:"contact,omitempty" maxLength:"200"`
}

// LimitPatch changes a limit; absent fields stay. What it counts, for whom and in which time stays: that is another limit.
type LimitPatch struct {
	Name     *string  `json:"name,omitempty" minLength:"1" maxLength:"100"`
	Amount   *float64 `json:"amount,omitempty" minimum:"0"`
	Soft     *bool    `json:"soft,omitempty"`
	Unpriced *string  `json:"unpriced,omitempty" enum:"refuse,allow"`
	Contact  *string  `json:"contact,omitempty" maxLength:"200"`
}

// LimitReset takes what was used until now off.
type LimitReset struct {
	Subject string `json:"subject,omitempty" maxLength:"256" doc:"Of a default: whose"`
	Why     string `json:"why" minLength:"1" maxLength:"1000" doc:"Kept in the journal"`
}

// LimitInput names a limit by its id or name.
type LimitInput struct {
	Credentials
	Limit string `path:"limit" example:"lim_0k3v" doc:"Its id or name"`
}

type createLimitInput struct {
	Credentials
	Body LimitCreate
}

type patchLimitInput struct {
	LimitInput
	Precondition
	Body LimitPatch
}

type deleteLimitInput struct {
	LimitInput
	Removal
}

type limitUsageInput struct {
	LimitInput
	Subject string `query:"subject" maxLength:"256" doc:"Of a default: whose; without it those that used most"`
	Most    int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

type resetLimitInput struct {
	LimitInput
	Body LimitReset
}

type limitAnswer struct {
	Changed
	ETag string `header:"ETag"`
	Body Limit
}

type limitCreatedAnswer struct {
	Changed
	Created
	ETag string `header:"ETag"`
	Body Limit
}

type limitList struct {
	Body struct {
		Limits []Limit `json:"limits"`
	}
}

type usageList struct {
	Body struct {
		Usage []Usage `json:"usage"`
	}
}

type usageAnswer struct {
	Changed
	Body Usage
}

// spending are the limits of a project and what was used of them.
type spending struct {
	store limits.Store
	clock func() time.Time
}

func (n spending) routes(a *API) {
	manage := func(id, method, path, summary string) op {
		return op{id: id, method: method, path: path, action: policy.ActionManageProject, kind: policy.ObjectSystem, tag: "limits", summary: summary}
	}
	handle(a, manage("list-limits", http.MethodGet, "/limits", "List limits and budgets"), n.list)
	create := manage("create-limit", http.MethodPost, "/limits", "Create a limit or budget")
	create.status = http.StatusCreated
	handle(a, create, n.create)
	handle(a, manage("get-limit", http.MethodGet, "/limits/{limit}", "Get a limit, and what of a budget was used"), n.get)
	handle(a, manage("update-limit", http.MethodPatch, "/limits/{limit}", "Change how much a limit allows"), n.patch)
	handle(a, manage("delete-limit", http.MethodDelete, "/limits/{limit}", "Delete a limit"), n.delete)
	handle(a, manage("get-limit-usage", http.MethodGet, "/limits/{limit}/usage", "Say what of a budget was used; of a default, by whom"), n.usage)
	handle(a, manage("reset-limit", http.MethodPost, "/limits/{limit}/reset", "Take what of a budget was used until now off, for a reason"), n.reset)
	handle(a, op{id: "own-limits", method: http.MethodGet, path: "/me/limits", tag: "limits", summary: "Say which limits this key has of its own, and what it used"}, n.own)
}

func limitOf(l limits.Limit) Limit {
	out := Limit{
		ID: l.ID, Name: l.Name, Measure: string(l.Measure), Amount: told(l.Measure, l.Amount), Period: string(l.Period), Days: l.Days, TimeZone: l.Zone,
		Scope: string(l.Scope), Subject: l.Subject, Soft: l.Soft, Sandbox: l.Sandbox, Contact: l.Contact, CreatedBy: l.CreatedBy,
		CreatedAt: l.CreatedAt, Revision: l.Revision,
	}
	if l.Measure == limits.USD {
		out.Unpriced = unpricedRefuse
		if l.Unpriced {
			out.Unpriced = unpricedAllow
		}
	}
	return out
}

const (
	unpricedRefuse = "refuse"
	unpricedAllow  = "allow"
)

// told is an amount as it is told: money in dollars.
func told(m limits.Measure, n int64) float64 {
	if m == limits.USD {
		return float64(n) / 1e6
	}
	return float64(n)
}

// amount reads what somebody sent.
func amount(m limits.Measure, v float64) (int64, error) {
	if m == limits.USD {
		n, ok := limits.Micros(v)
		if !ok {
			return 0, fault.New(fault.InvalidRequest, "The amount must be 0 to a billion dollars.").WithParam("amount")
		}
		return n, nil
	}
	if v != math.Trunc(v) || v < 0 || v > limits.MaxAmount {
		return 0, fault.New(fault.InvalidRequest, "The amount must be a whole number, at most %d.", int64(limits.MaxAmount)).WithParam("amount")
	}
	return int64(v), nil
}

func (n spending) usageOf(l limits.Limit, u limits.Usage) Usage {
	out := Usage{
		Subject: u.Subject, Used: told(l.Measure, u.Used), Reserved: told(l.Measure, u.Held), Left: told(l.Measure, max(0, u.Amount-u.Used-u.Held)),
		Amount: told(l.Measure, u.Amount), StartsAt: u.Start.UTC(), EndsAt: u.End.UTC(), Warned: list(u.Warned),
	}
	if v, ok := u.Forecast(l.Period, n.clock()); ok {
		v = told(l.Measure, int64(v))
		out.Forecast = &v
	}
	return out
}

// tell is a limit with its usage, where it has one.
func (n spending) tell(ctx context.Context, l limits.Limit, subject string) (Limit, error) {
	out := limitOf(l)
	if !l.Budget() || l.Each() && subject == "" {
		return out, nil
	}
	used, err := n.store.Spend(ctx, l, subject, 1)
	if err != nil {
		return out, err
	}
	u := n.usageOf(l, used[0])
	out.Usage = &u
	return out, nil
}

func (n spending) list(ctx context.Context, c *caller, _ *Credentials) (*limitList, error) {
	rules, err := n.store.Rules(ctx, c.Project)
	if err != nil {
		return nil, err
	}
	out := &limitList{}
	out.Body.Limits = []Limit{}
	for _, l := range rules.Limits {
		out.Body.Limits = append(out.Body.Limits, limitOf(l))
	}
	return out, nil
}

func (n spending) create(ctx context.Context, c *caller, in *createLimitInput) (*limitCreatedAnswer, error) {
	b := in.Body
	l := limits.Limit{
		Project: c.Project, Name: b.Name, Measure: limits.Measure(b.Measure), Period: limits.Period(b.Period), Days: b.Days, Zone: b.TimeZone,
		Scope: limits.Scope(b.Scope), Subject: b.Subject, Soft: b.Soft, Sandbox: b.Sandbox, Unpriced: b.Unpriced == unpricedAllow, Contact: b.Contact,
	}
	var err error
	if l.Amount, err = amount(l.Measure, b.Amount); err != nil {
		return nil, err
	}
	if l, err = n.store.CreateLimit(ctx, c.Origin, l); err != nil {
		return nil, err
	}
	return &limitCreatedAnswer{Changed: changed(l.Revision), Created: created("limits", l.ID), ETag: etag(l.Revision), Body: limitOf(l)}, nil
}

func (n spending) answer(ctx context.Context, l limits.Limit) (*limitAnswer, error) {
	body, err := n.tell(ctx, l, "")
	if err != nil {
		return nil, err
	}
	return &limitAnswer{Changed: changed(l.Revision), ETag: etag(l.Revision), Body: body}, nil
}

func (n spending) get(ctx context.Context, c *caller, in *LimitInput) (*limitAnswer, error) {
	l, err := n.store.LimitByID(ctx, c.Project, in.Limit)
	if err != nil {
		return nil, err
	}
	return n.answer(ctx, l)
}

func (n spending) patch(ctx context.Context, c *caller, in *patchLimitInput) (*limitAnswer, error) {
	return edit(in.Precondition, func(rev int64) (*limitAnswer, error) {
		l, err := n.store.LimitByID(ctx, c.Project, in.Limit)
		if err != nil {
			return nil, err
		}
		if rev > 0 {
			l.Revision = rev
		}
		b := in.Body
		set(&l.Name, b.Name)
		set(&l.Soft, b.Soft)
		set(&l.Contact, b.Contact)
		if b.Unpriced != nil {
			l.Unpriced = *b.Unpriced == unpricedAllow
		}
		if b.Amount != nil {
			if l.Amount, err = amount(l.Measure, *b.Amount); err != nil {
				return nil, err
			}
		}
		if l, err = n.store.UpdateLimit(ctx, c.Origin, l); err != nil {
			return nil, err
		}
		return n.answer(ctx, l)
	})
}

func (n spending) delete(ctx context.Context, c *caller, in *deleteLimitInput) (*struct{ Changed }, error) {
	rev, err := in.revision()
	if err != nil {
		return nil, err
	}
	revision, err := n.store.DeleteLimit(ctx, c.Origin, c.Project, in.Limit, rev)
	if err != nil {
		return nil, err
	}
	return &struct{ Changed }{changed(revision)}, nil
}

func (n spending) usage(ctx context.Context, c *caller, in *limitUsageInput) (*usageList, error) {
	l, err := n.store.LimitByID(ctx, c.Project, in.Limit)
	if err != nil {
		return nil, err
	}
	found, err := n.store.Spend(ctx, l, in.Subject, in.Most)
	if err != nil {
		return nil, err
	}
	out := &usageList{}
	out.Body.Usage = []Usage{}
	for _, u := range found {
		out.Body.Usage = append(out.Body.Usage, n.usageOf(l, u))
	}
	return out, nil
}

func (n spending) reset(ctx context.Context, c *caller, in *resetLimitInput) (*usageAnswer, error) {
	l, err := n.store.LimitByID(ctx, c.Project, in.Limit)
	if err != nil {
		return nil, err
	}
	by := c.Origin
	if by.Why = in.Body.Why; !storable(by.Why) {
		return nil, fault.New(fault.InvalidRequest, "The reason must be UTF-8 without control characters.").WithParam("why")
	}
	u, err := n.store.ResetSpend(ctx, by, c.Project, l.ID, in.Body.Subject)
	if err != nil {
		return nil, err
	}
	return &usageAnswer{Changed: changed(u.Revision), Body: n.usageOf(l, u)}, nil
}

// own lists what limits this caller and nobody else: what it shares with others would tell what they spend.
func (n spending) own(ctx context.Context, c *caller, _ *Credentials) (*limitList, error) {
	rules, err := n.store.Rules(ctx, c.Project)
	if err != nil {
		return nil, err
	}
	out := &limitList{}
	out.Body.Limits = []Limit{}
	for _, l := range limits.Own(rules.Limits, c.Kind, c.ID) {
		subject := ""
		if l.Each() {
			subject = c.ID
		}
		one, err := n.tell(ctx, l, subject)
		if err != nil {
			return nil, err
		}
		one.CreatedBy = ""
		out.Body.Limits = append(out.Body.Limits, one)
	}
	return out, nil
}
