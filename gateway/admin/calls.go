package admin

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// Tokens by kind. Input includes the cached and audio ones, output the reasoning and audio ones.
type Tokens struct {
	Input       int64 `json:"input"`
	CachedInput int64 `json:"cached_input,omitempty"`
	CacheWrite  int64 `json:"cache_write,omitempty"`
	AudioInput  int64 `json:"audio_input,omitempty"`
	Output      int64 `json:"output"`
	Reasoning   int64 `json:"reasoning,omitempty"`
	AudioOutput int64 `json:"audio_output,omitempty"`
	Estimated   bool  `json:"estimated,omitempty"`
}

func tokensOf(t metrics.Tokens) *Tokens {
	if !t.Reported && !t.Estimated {
		return nil // absent, not zero
	}
	return &Tokens{
		Input: t.Input, CachedInput: t.CachedInput, CacheWrite: t.CacheWrite, AudioInput: t.AudioInput,
		Output: t.Output, Reasoning: t.Reasoning, AudioOutput: t.AudioOutput, Estimated: t.Estimated,
	}
}

// Attempt is one request to one provider.
type Attempt struct {
	Provider     string   `json:"provider"`
	Model        string   `json:"model"`
	StartedAt    string   `json:"started_at" format:"date-time"`
	FirstTokenMS *float64 `json:"first_token_ms"`
	TotalMS      float64  `json:"total_ms"`
	Status       int      `json:"status" doc:"Of the provider; 0: no answer"`
	Outcome      string   `json:"outcome"`
	Tokens       *Tokens  `json:"tokens"`
	CostUSD      *float64 `json:"cost_usd" doc:"null: unknown, not free"`
}

// Call is one recorded request.
type Call struct {
	ID           string    `json:"id" example:"call_01…"`
	PromptID     string    `json:"prompt_id,omitempty"`
	Prompt       string    `json:"prompt,omitempty" doc:"Its name when the call was made"`
	Version      int       `json:"version,omitempty"`
	Label        string    `json:"label,omitempty"`
	Digest       string    `json:"digest,omitempty"`
	Key          string    `json:"key" doc:"The caller's id"`
	Provider     string    `json:"provider,omitempty"`
	Model        string    `json:"model,omitempty"`
	Endpoint     string    `json:"endpoint"`
	Stream       bool      `json:"stream"`
	CompletionID string    `json:"completion_id,omitempty" doc:"The provider's id of the answer"`
	EndUser      string    `json:"end_user,omitempty" doc:"Keyed hash of the request's user"`
	StartedAt    time.Time `json:"started_at"`
	FirstTokenMS *float64  `json:"first_token_ms"`
	TotalMS      float64   `json:"total_ms"`
	OverheadMS   float64   `json:"overhead_ms" doc:"Total less the time spent waiting for the provider"`
	Status       int       `json:"status"`
	ErrorCode    string    `json:"error_code,omitempty"`
	Outcome      string    `json:"outcome"`
	Tokens       *Tokens   `json:"tokens" doc:"null: the provider reported none"`
	CostUSD      *float64  `json:"cost_usd" doc:"null: unknown, not free"`
	Attempts     []Attempt `json:"attempts"`
}

func callOf(c metrics.Call) Call {
	out := Call{
		ID: c.ID, PromptID: c.PromptID, Prompt: c.PromptName, Version: c.Version, Label: c.Label, Digest: c.Digest, Key: c.Principal,
		Provider: c.Provider, Model: c.Model, Endpoint: c.Endpoint, Stream: c.Stream, CompletionID: c.CompletionID, EndUser: c.EndUser,
		StartedAt: c.Start, FirstTokenMS: someMS(c.FirstToken), TotalMS: ms(c.Total), OverheadMS: ms(c.Overhead), Status: c.Status,
		ErrorCode: c.ErrorCode, Outcome: string(c.Outcome), Tokens: tokensOf(c.Tokens), CostUSD: usd(c.CostMicros), Attempts: []Attempt{},
	}
	for _, a := range c.Attempts {
		out.Attempts = append(out.Attempts, Attempt{
			Provider: a.Provider, Model: a.Model, StartedAt: a.Start.UTC().Format(time.RFC3339Nano), FirstTokenMS: someMS(a.FirstToken),
			TotalMS: ms(a.Total), Status: a.Status, Outcome: string(a.Outcome), Tokens: tokensOf(a.Tokens), CostUSD: usd(a.CostMicros),
		})
	}
	return out
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func someMS(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	v := ms(d)
	return &v
}

func usd(micros *int64) *float64 {
	if micros == nil {
		return nil
	}
	v := float64(*micros) / 1e6
	return &v
}

// Quantiles of a duration in milliseconds.
type Quantiles struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P95   float64 `json:"p95_ms"`
	P99   float64 `json:"p99_ms"`
}

func quantilesOf(q metrics.Quantiles) Quantiles {
	return Quantiles{Count: q.Count, P50: ms(q.P50), P95: ms(q.P95), P99: ms(q.P99)}
}

// Stats are the figures of one version, label or model of a prompt.
type Stats struct {
	Version    int                       `json:"version,omitempty"`
	Label      string                    `json:"label,omitempty"`
	Provider   string                    `json:"provider,omitempty"`
	Model      string                    `json:"model,omitempty"`
	Calls      int64                     `json:"calls"`
	Errors     int64                     `json:"errors" doc:"Neither ok, nor refused by the gateway, nor cancelled by the caller"`
	Outcomes   map[metrics.Outcome]int64 `json:"outcomes"`
	Latency    Quantiles                 `json:"latency"`
	FirstToken Quantiles                 `json:"first_token"`
	Overhead   Quantiles                 `json:"overhead"`
	Tokens     *Tokens                   `json:"tokens"`
	CostUSD    *float64                  `json:"cost_usd" doc:"Of the priced calls; null when none was priced"`
	Unpriced   int64                     `json:"unpriced_calls" doc:"cost_usd lacks them"`
	Feedback   []FeedbackSummary         `json:"feedback"`
}

// FeedbackSummary sums up the scores of one name.
type FeedbackSummary struct {
	Name       string           `json:"name"`
	Kind       string           `json:"kind" enum:"boolean,number,category"`
	Count      int64            `json:"count"`
	Mean       *float64         `json:"mean,omitempty"`
	Categories map[string]int64 `json:"categories,omitempty"`
}

func statsOf(s metrics.Stats) Stats {
	out := Stats{
		Version: s.Version, Label: s.Label, Provider: s.Provider, Model: s.Model, Calls: s.Calls, Errors: s.Errors, Outcomes: s.Outcomes,
		Latency: quantilesOf(s.Latency), FirstToken: quantilesOf(s.FirstToken), Overhead: quantilesOf(s.Overhead),
		Tokens: tokensOf(s.Tokens), CostUSD: usd(s.CostMicros), Unpriced: s.Unpriced, Feedback: []FeedbackSummary{},
	}
	for _, f := range s.Feedback {
		out.Feedback = append(out.Feedback, FeedbackSummary{
			Name: f.Name, Kind: string(f.Kind), Count: f.Count, Mean: f.Mean, Categories: f.Categories,
		})
	}
	return out
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

type listCallsInput struct {
	Credentials
	Paging
	Prompt  string    `query:"prompt" doc:"Name, alias or id"`
	Version int       `query:"version" minimum:"1"`
	Label   string    `query:"label"`
	Outcome string    `query:"outcome" enum:"ok,refused,provider,timeout,truncated,cancelled,internal"`
	Since   time.Time `query:"since"`
	Until   time.Time `query:"until"`
}

type callList struct {
	Body struct {
		Calls []Call `json:"calls" doc:"Newest first"`
		Next  string `json:"next,omitempty"`
	}
}

type callInput struct {
	Credentials
	ID string `path:"call" example:"call_01…"`
}

type callAnswer struct{ Body Call }

type statsInput struct {
	OnPrompt
	By    string    `query:"by" enum:"version,label,model" default:"version"`
	Since time.Time `query:"since" doc:"Rounded down to the minute"`
	Until time.Time `query:"until" doc:"Rounded up to the minute"`
}

type statsAnswer struct {
	Body struct {
		Stats []Stats `json:"stats"`
	}
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

func (a *API) calls() {
	handle(a, op{id: "list-calls", method: http.MethodGet, path: "/calls", tag: "calls",
		summary: "List the calls of prompts that this key may read; calls without a prompt are shown to admins"}, a.listCalls)
	handle(a, op{id: "get-call", method: http.MethodGet, path: "/calls/{call}", tag: "calls", summary: "Get a call with its attempts"}, a.getCall)
	handle(a, op{id: "prompt-stats", method: http.MethodGet, path: "/prompts/{prompt}/stats", action: policy.ActionRead, kind: policy.ObjectPrompt,
		tag: "calls", summary: "Figures of a prompt by version, label or model"}, a.stats)
	handle(a, op{id: "list-feedback", method: http.MethodGet, path: "/prompts/{prompt}/feedback", action: policy.ActionRead,
		kind: policy.ObjectPrompt, tag: "calls", summary: "List the scores given to a prompt's calls"}, a.listFeedback)
}

// visibleCalls tells which calls a key may see. Grants see a prompt's current name, so calls are judged by the prompt's id, not by
// the name it had.
type visibleCalls struct {
	api   *API
	c     *caller
	known map[string]*reading // by prompt id; nil: none of its calls
}

// sees reports whether a call may be seen: one of a version that may be read.
func (s *visibleCalls) sees(ctx context.Context, call metrics.Call) (bool, error) {
	r, err := s.of(ctx, call.PromptID)
	return err == nil && r != nil && r.call(call), err
}

// of is what may be read of a prompt, nil for nothing of it; "" stands for calls without a prompt.
func (s *visibleCalls) of(ctx context.Context, promptID string) (*reading, error) {
	if r, judged := s.known[promptID]; judged {
		return r, nil
	}
	want := policy.Permission{Action: policy.ActionManageProject, Kind: policy.ObjectSystem}
	if promptID != "" {
		p, err := s.api.deps.Registry.Prompt(ctx, s.c.Project, promptID)
		if fault.Is(err, fault.PromptNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return s.ofPrompt(ctx, p)
	}
	ok, err := s.c.may(ctx, want)
	if err == nil && ok {
		s.known[promptID] = &reading{all: true}
	}
	return s.known[promptID], err
}

func (s *visibleCalls) ofPrompt(ctx context.Context, p registry.Prompt) (*reading, error) {
	ok, err := s.c.may(ctx, policy.Permission{Action: policy.ActionRead, Kind: policy.ObjectPrompt, Name: p.Name})
	if err != nil {
		return nil, err
	}
	s.known[p.ID] = nil
	if ok {
		s.known[p.ID], err = s.api.readingOf(ctx, s.c, p)
	}
	return s.known[p.ID], err
}

func (a *API) listCalls(ctx context.Context, c *caller, in *listCallsInput) (*callList, error) {
	f := metrics.CallFilter{Version: in.Version, Label: in.Label, Outcome: metrics.Outcome(in.Outcome), Since: in.Since, Until: in.Until}
	s := &visibleCalls{api: a, c: c, known: map[string]*reading{}}
	out := &callList{}
	out.Body.Calls = []Call{}
	var err error
	if f.Behind, err = positionOf(in.After); err != nil {
		return nil, err
	}
	if in.Prompt != "" {
		p, err := a.deps.Registry.Prompt(ctx, c.Project, in.Prompt)
		if fault.Is(err, fault.PromptNotFound) {
			return out, nil // like one that this key may not see
		}
		if err != nil {
			return nil, err
		}
		f.PromptID = p.ID
		if r, err := s.of(ctx, p.ID); err != nil || r == nil {
			return out, err
		}
	}
	found, next, err := s.page(ctx, f, in.Limit, scanned)
	if errors.Is(err, errMostlyHidden) {
		if f.Prompts, err = s.all(ctx); err != nil || len(f.Prompts) == 0 {
			return out, err
		}
		found, next, err = s.page(ctx, f, in.Limit, math.MaxInt)
	}
	if err != nil {
		return nil, err
	}
	for _, call := range found {
		out.Body.Calls = append(out.Body.Calls, callOf(call))
	}
	out.Body.Next = next
	return out, nil
}

// scanned bounds how many calls are read to show one page. Past it the key is taken to see few of the project's prompts, and theirs are
// asked for by name.
const scanned = 2000

var errMostlyHidden = errors.New("admin: most calls are hidden from this key")

// page is what the key sees of the calls that f selects; errMostlyHidden once more than most of them have been read.
func (s *visibleCalls) page(ctx context.Context, f metrics.CallFilter, limit, most int) ([]metrics.Call, string, error) {
	read := 0
	return visible(limit, func(after string, limit int) ([]metrics.Call, string, error) {
		if read > most {
			return nil, "", errMostlyHidden
		}
		read += limit
		return s.api.deps.Calls.ListCalls(ctx, s.c.Project, f, metrics.Page{After: after, Limit: limit})
	}, func(call metrics.Call) (bool, error) { return s.sees(ctx, call) }, placeOf)
}

// all lists the prompts whose calls the key sees by id, "" standing for calls without one.
func (s *visibleCalls) all(ctx context.Context) (ids []string, err error) {
	if r, err := s.of(ctx, ""); err != nil {
		return nil, err
	} else if r != nil {
		ids = append(ids, "")
	}
	for after := ""; ; {
		prompts, next, err := s.api.deps.Registry.Prompts(ctx, s.c.Project, registry.PromptFilter{Archived: true}, registry.Page{After: after, Limit: 200})
		if err != nil {
			return nil, err
		}
		for _, p := range prompts {
			r, err := s.ofPrompt(ctx, p)
			if err != nil {
				return nil, err
			}
			if r != nil {
				ids = append(ids, p.ID)
			}
		}
		if after = next; after == "" {
			return ids, nil
		}
	}
}

func placeOf(c metrics.Call) string {
	return place(strconv.FormatInt(c.Start.UnixMicro(), 10) + " " + c.ID)
}

func positionOf(cursor string) (metrics.Position, error) {
	entry, err := placed(cursor)
	if err != nil || entry == "" {
		return metrics.Position{}, err
	}
	at, id, ok := strings.Cut(entry, " ")
	us, err := strconv.ParseInt(at, 10, 64)
	if err != nil || !ok {
		return metrics.Position{}, wrongCursor()
	}
	return metrics.Position{Start: time.UnixMicro(us), ID: id}, nil
}

// getCall answers alike for a call that is not there, a foreign one and one of a prompt that the key may not read.
func (a *API) getCall(ctx context.Context, c *caller, in *callInput) (*callAnswer, error) {
	found, err := a.deps.Calls.Call(ctx, c.Project, in.ID)
	ok := false
	if err == nil {
		s := &visibleCalls{api: a, c: c, known: map[string]*reading{}}
		ok, err = s.sees(ctx, *found)
	}
	switch {
	case err != nil && !fault.Is(err, fault.CallNotFound):
		return nil, err
	case !ok:
		return nil, fault.New(fault.CallNotFound, "There is no such call, or this key may not see it. One that has just ended shows after a moment.").
			WithParam("call")
	}
	return &callAnswer{Body: callOf(*found)}, nil
}

func (a *API) stats(ctx context.Context, c *caller, in *statsInput) (*statsAnswer, error) {
	r, err := a.readingOf(ctx, c, c.Prompt)
	if err != nil {
		return nil, err
	}
	if !r.all && metrics.GroupBy(in.By) == metrics.ByModel {
		return nil, lacks(policy.Permission{Action: policy.ActionRead, Kind: policy.ObjectPrompt, Name: c.Prompt.Name, Label: policy.LabelVersion}.Describe())
	}
	found, err := a.deps.Calls.Stats(ctx, c.Project, metrics.StatsQuery{
		PromptID: c.Prompt.ID, By: metrics.GroupBy(in.By), Since: in.Since, Until: in.Until,
	})
	if err != nil {
		return nil, err
	}
	out := &statsAnswer{}
	out.Body.Stats = []Stats{}
	for _, s := range found {
		if metrics.GroupBy(in.By) == metrics.ByLabel && !r.label(s.Label) || metrics.GroupBy(in.By) == metrics.ByVersion && !r.version(s.Version) {
			continue
		}
		out.Body.Stats = append(out.Body.Stats, statsOf(s))
	}
	return out, nil
}

func (a *API) listFeedback(ctx context.Context, c *caller, in *listFeedbackInput) (*feedbackList, error) {
	r, err := a.readingOf(ctx, c, c.Prompt)
	switch {
	case err != nil:
		return nil, err
	case !r.all && in.Version == 0:
		return nil, fault.New(fault.InvalidRequest, "This key may read some versions only: say which version's scores to list.").WithParam("version")
	case in.Version > 0 && !r.version(in.Version):
		return nil, registry.ErrVersionNotFound(in.Version)
	}
	found, next, err := a.deps.Calls.ListFeedback(ctx, c.Project, metrics.FeedbackFilter{
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
