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

// calls are what was recorded.
type calls struct {
	registry *registry.Service
	ledger   metrics.Reader
}

func (n calls) routes(a *API) {
	handle(a, op{id: "list-calls", method: http.MethodGet, path: "/calls", tag: "calls",
		summary: "List the calls of prompts that this key may read; calls without a prompt are shown to admins"}, n.listCalls)
	handle(a, op{id: "get-call", method: http.MethodGet, path: "/calls/{call}", tag: "calls", summary: "Get a call with its attempts"}, n.getCall)
}

// visibleCalls tells which calls a key may see. Grants see a prompt's current name, so calls are judged by the prompt's id, not by
// the name it had.
type visibleCalls struct {
	calls
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
		p, err := s.registry.Prompt(ctx, s.c.Project, promptID)
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
		s.known[p.ID], err = readingOf(ctx, s.registry, s.c, p)
	}
	return s.known[p.ID], err
}

func (n calls) listCalls(ctx context.Context, c *caller, in *listCallsInput) (*callList, error) {
	f := metrics.CallFilter{Version: in.Version, Label: in.Label, Outcome: metrics.Outcome(in.Outcome), Since: in.Since, Until: in.Until}
	s := &visibleCalls{calls: n, c: c, known: map[string]*reading{}}
	out := &callList{}
	out.Body.Calls = []Call{}
	var err error
	if f.Behind, err = positionOf(in.After); err != nil {
		return nil, err
	}
	if in.Prompt != "" {
		p, err := n.registry.Prompt(ctx, c.Project, in.Prompt)
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
		return s.ledger.ListCalls(ctx, s.c.Project, f, metrics.Page{After: after, Limit: limit})
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
		prompts, next, err := s.registry.Prompts(ctx, s.c.Project, registry.PromptFilter{Archived: true}, registry.Page{After: after, Limit: 200})
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
func (n calls) getCall(ctx context.Context, c *caller, in *callInput) (*callAnswer, error) {
	found, err := n.ledger.Call(ctx, c.Project, in.ID)
	ok := false
	if err == nil {
		s := &visibleCalls{calls: n, c: c, known: map[string]*reading{}}
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
