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
)

const internalMessage = "Something went wrong here. Try again, and tell an admin when it stays."

// finish ends the answer of a call that has been recorded.
func (g *Gateway) finish(c *call, err error) {
	if err != nil {
		g.logFault(c.r.Context(), c.rec.ID, err)
	}
	switch {
	case c.ans.large:
		_ = g.write(c, []byte{c.ans.last}) // a caller that left now has the whole record, too
	case c.ans.begun: // a stream: endStream has said what there was to say
	case err != nil:
		h := c.w.Header()
		if c.ref.resolved != nil {
			c.describe(newHead(h))
		}
		g.refuse(c.w, c.api, c.rec.ID, err)
	default:
		g.begin(c, int64(len(c.ans.buf.B)))
		_ = g.write(c, c.ans.buf.B)
	}
}

// refuse answers with our own error, as the shape spells it. What it sets depends on the error alone.
func (g *Gateway) refuse(w http.ResponseWriter, api wire.API, callID string, err error) {
	g.refuseStatus(w, api, callID, statusOf(fault.CodeOf(err)), err)
}

func (g *Gateway) refuseStatus(w http.ResponseWriter, api wire.API, callID string, status int, err error) {
	code := fault.CodeOf(err)
	body := api.AppendError(nil, err)
	h := newHead(w.Header())
	h.set("Content-Type", "application/json")
	h.set("Content-Length", strconv.Itoa(len(body)))
	h.set("X-Content-Type-Options", "nosniff")
	if callID != "" {
		h.set("X-Promptgate-Call-Id", callID)
		h.named(callID)
	}
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
	if errors.As(err, &pe) && pe.RetryAfter > 0 {
		h.set("Retry-After", strconv.Itoa(int((pe.RetryAfter+time.Second-1)/time.Second)))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // nobody is left to tell when this fails
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
