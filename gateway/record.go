package gateway

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

// record puts the call into the spool, once, before its answer ends. Callers that could not be identified are counted, not recorded: a
// ledger that strangers can fill is no ledger.
func (g *Gateway) record(ctx context.Context, c *call, err error) {
	if c.done {
		return
	}
	c.done = true
	if c.who == nil {
		if fault.Is(err, fault.InvalidAPIKey) {
			g.deps.Events.count(eventUnauthenticated)
		}
		return
	}
	c.conclude(err)
	c.keepRunning()
	g.seenBatch(ctx, c)
	g.remember(c)
	c.rec.Total = g.deps.Clock().Sub(c.rec.Start)
	c.rec.Overhead = max(0, c.rec.Total-c.ans.waited)
	g.noteCaller(c)
	// The caller may be gone; its call is recorded all the same.
	if err := g.deps.Recorder.RecordCall(context.Background(), &c.rec); err != nil { //nolint:contextcheck // just so
		g.deps.Events.count(eventRecordFailed)
		g.log.ErrorContext(ctx, "call could not be recorded", "call", c.rec.ID, "project", c.rec.Project, "error", err)
	}
	if c.rec.Outcome == metrics.OutcomeRunning {
		g.follow(&c.rec)
	} else {
		g.meter.ObserveCall(&c.rec)
	}
	if g.log.Enabled(ctx, slog.LevelDebug) {
		g.log.LogAttrs(ctx, slog.LevelDebug, "call", slog.String("id", c.rec.ID), slog.String("project", c.rec.Project),
			slog.String("key", c.rec.Principal), slog.String("prompt", c.rec.PromptName), slog.Int("version", c.rec.Version),
			slog.String("provider", c.rec.Provider), slog.Int("status", c.rec.Status), slog.String("outcome", string(c.rec.Outcome)),
			slog.Duration("total", c.rec.Total), slog.Duration("overhead", c.rec.Overhead))
	}
}

// noteCaller notes the caller's own name for whom it calls.
func (g *Gateway) noteCaller(c *call) {
	if user := c.api.EndUser(&c.in.body); user != "" {
		c.rec.EndUser = g.deps.HashUser(c.who.Project, user)
	}
}

// conclude says how the call ended.
func (c *call) conclude(err error) {
	switch {
	case err != nil:
		code := fault.CodeOf(err)
		c.rec.ErrorCode, c.rec.Outcome, c.rec.Status = string(code), outcomeOf(code), wire.Status(code)
		if c.ans.begun {
			c.rec.Status = c.ans.status // that is what the caller saw
		}
	case c.ans.status >= 400:
		c.rec.Outcome, c.rec.Status = metrics.OutcomeProvider, c.ans.status
	default:
		c.rec.Outcome, c.rec.Status = metrics.OutcomeOK, c.ans.status
	}
	if n := len(c.rec.Attempts); n > 0 && err != nil && c.rec.Provider != "" && !c.isOwed() {
		c.rec.Attempts[n-1].Outcome = c.rec.Outcome
	}
}

// outcomeOf sorts a fault.
func outcomeOf(code fault.Code) metrics.Outcome {
	switch code {
	case "":
		return metrics.OutcomeOK
	case fault.ClientClosed:
		return metrics.OutcomeCancelled
	case fault.ProviderTimeout:
		return metrics.OutcomeTimeout
	case fault.ProviderTruncated:
		return metrics.OutcomeTruncated
	case fault.ProviderError, fault.ProviderAuth:
		return metrics.OutcomeProvider
	case fault.Internal, fault.RegistryUnavailable, fault.StorageFull:
		return metrics.OutcomeInternal
	default:
		return metrics.OutcomeRefused
	}
}

// statusOf is the HTTP status of a refusal.
func statusOf(code fault.Code) int {
	if s := wire.Status(code); s >= 400 {
		return s
	}
	return http.StatusInternalServerError
}
