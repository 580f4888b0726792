package admin

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

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

// Stats are the figures of one group of a prompt's calls.
type Stats struct {
	Version    int                       `json:"version,omitempty"`
	Label      string                    `json:"label,omitempty"`
	Variant    string                    `json:"variant,omitempty"`
	Provider   string                    `json:"provider,omitempty"`
	Model      string                    `json:"model,omitempty"`
	Key        string                    `json:"key,omitempty"`
	Endpoint   string                    `json:"endpoint,omitempty"`
	Purpose    metrics.Purpose           `json:"purpose,omitempty"`
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

func statsOf(s metrics.Stats) Stats {
	out := Stats{
		Version: s.Version, Label: s.Label, Variant: s.Variant, Provider: s.Provider, Model: s.Model, Key: s.Key, Endpoint: s.Endpoint,
		Purpose: s.Purpose, Calls: s.Calls, Errors: s.Errors, Outcomes: s.Outcomes,
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

type statsInput struct {
	OnPrompt
	By    []string  `query:"by" enum:"version,label,variant,model,provider,key,endpoint,purpose" default:"version" doc:"One or more, with commas; model stands for provider and model"`
	Since time.Time `query:"since" doc:"Rounded down to the minute"`
	Until time.Time `query:"until" doc:"Rounded up to the minute"`
}

// group is what is asked for, as the ledger groups: by prompt in any case, and by provider with each model.
func (in *statsInput) group() []metrics.Dimension {
	group := []metrics.Dimension{metrics.ByPrompt}
	for _, by := range in.By {
		group = append(group, metrics.Dimension(by))
	}
	if slices.Contains(group, metrics.ByModel) && !slices.Contains(group, metrics.ByProvider) {
		group = append(group, metrics.ByProvider)
	}
	return group
}

type statsAnswer struct {
	Body struct {
		Stats []Stats `json:"stats"`
	}
}

// stats are the figures of a prompt.
type stats struct {
	registry *registry.Service
	ledger   metrics.Reader
}

func (n stats) routes(a *API) {
	handle(a, op{id: "prompt-stats", method: http.MethodGet, path: "/prompts/{prompt}/stats", action: policy.ActionRead, kind: policy.ObjectPrompt,
		tag: "calls", summary: "Figures of a prompt by version, label, variant, model, provider, key, endpoint or purpose"}, n.ofPrompt)
}

func (n stats) ofPrompt(ctx context.Context, c *caller, in *statsInput) (*statsAnswer, error) {
	r, err := readingOf(ctx, n.registry, c, c.Prompt)
	if err != nil {
		return nil, err
	}
	group := in.group()
	byVersion, byLabel := slices.Contains(group, metrics.ByVersion), slices.Contains(group, metrics.ByLabel)
	if !r.all && !byVersion && !byLabel { // the figures would be of versions that may not be read, too
		return nil, policy.Lacks(policy.Permission{Action: policy.ActionRead, Kind: policy.ObjectPrompt, Name: c.Prompt.Name, Label: policy.LabelVersion}.Describe())
	}
	found, err := n.ledger.Stats(ctx, c.Project, metrics.StatsQuery{
		PromptID: c.Prompt.ID, Group: group, Since: in.Since, Until: in.Until,
	})
	if err != nil {
		return nil, err
	}
	out := &statsAnswer{}
	out.Body.Stats = []Stats{}
	for _, s := range found {
		if byLabel && !r.label(s.Label) || byVersion && !r.version(s.Version) {
			continue
		}
		out.Body.Stats = append(out.Body.Stats, statsOf(s))
	}
	return out, nil
}
