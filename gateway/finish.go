package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy/limits"
)

const internalMessage = "Something went wrong here. Try again, and tell an admin when it stays."

// finish ends the answer of a call that has been recorded.
func (g *Gateway) finish(ctx context.Context, c *call, err error) {
	if err != nil {
		g.logFault(ctx, c.rec.ID, err)
	}
	switch {
	case c.ans.large:
		_ = g.write(c, c.ans.last) // a caller that left now has the whole record, too
	case c.ans.begun: // a stream: endStream has said what there was to say
	case err != nil:
		h := newHead(c.w.Header())
		if c.ref.resolved != nil {
			c.describe(h)
		}
		h.meter(c)
		c.ans.begun = true
		g.armDeadline(c)
		g.refuse(c.w, h, c.api, c.rec.ID, err)
	case c.ans.ours:
		h := newHead(c.w.Header())
		c.describe(h)
		c.ans.begun = true
		g.armDeadline(c)
		writeOwn(c.w, h, c.rec.ID, c.ans.status, c.ans.buf.B)
	default:
		g.begin(c, int64(len(c.ans.buf.B)))
		_ = g.write(c, c.ans.buf.B)
	}
}

// refuse answers with our own error, as the shape spells it. What it sets depends on the error alone.
func (g *Gateway) refuse(w http.ResponseWriter, h *head, api wire.API, callID string, err error) {
	h.explain(err)
	h.namedAs(api.RequestID(), callID)
	writeOwn(w, h, callID, statusOf(fault.CodeOf(err)), api.AppendError(nil, err, callID))
}

// writeOwn writes a whole answer of ours: everything but what a provider said goes out here.
func writeOwn(w http.ResponseWriter, h *head, id string, status int, body []byte) {
	h.set("Content-Type", "application/json")
	h.set("Content-Length", strconv.Itoa(len(body)))
	h.set("Cache-Control", "no-store")
	h.set("X-Content-Type-Options", "nosniff")
	if id != "" {
		h.set("X-Promptgate-Call-Id", id)
		h.named(id)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // nobody is left to tell when this fails
}

// explain sets what a refusal's head says of its reason.
func (h *head) explain(err error) {
	code := fault.CodeOf(err)
	h.set("X-Promptgate-Error-Origin", originOf(code))
	switch code {
	case fault.InvalidAPIKey:
		h.set("Www-Authenticate", "Bearer")
	case fault.Overloaded, fault.RegistryUnavailable:
		h.set("Retry-After", "1")
	case fault.NotImplemented, fault.ProviderAuth, fault.BudgetExceeded: // the SDKs would try again by the status alone, and be told the same
		h.set("X-Should-Retry", "false")
	}
	var pe *provider.Error
	var limit *limits.Refusal
	switch {
	case errors.As(err, &pe) && pe.RetryAfter > 0:
		h.set("Retry-After", inSeconds(pe.RetryAfter))
	case errors.As(err, &limit):
		h.set("Retry-After", inSeconds(limit.After))
	case code == fault.RateLimitExceeded: // no time mends it: the call is larger than its limit
		h.set("X-Should-Retry", "false")
	}
}

func inSeconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// originOf says whose fault a code is.
func originOf(code fault.Code) string {
	switch code {
	case fault.ProviderError, fault.ProviderTimeout, fault.ProviderTruncated, fault.ProviderAuth:
		return "provider"
	}
	return "gateway"
}

// logFault logs what the caller is not told. Refusals are the caller's business and show at debug level only, as do all but the first of
// the failures that an outage of the database makes.
func (g *Gateway) logFault(ctx context.Context, callID string, err error) {
	level, hidden := slog.LevelDebug, int64(0)
	if code := fault.CodeOf(err); statusOf(code) >= 500 && code != fault.Overloaded && code != fault.NotImplemented {
		var worth bool
		if hidden, worth = g.repeats.Worth(code, g.deps.Clock()); worth {
			level = slog.LevelWarn
		}
	}
	if g.log.Enabled(ctx, level) {
		g.log.LogAttrs(ctx, level, "call failed", slog.String("call", callID), slog.Int64("others_like_it", hidden), slog.Any("error", err))
	}
}
