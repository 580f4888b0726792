package gateway

import (
	"strconv"
	"time"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/policy/limits"
)

// meter says how far the caller's rates are used, as the makers of its SDK do. Where a limit of ours counts a call, a provider's word of its own, which is
// shared by all callers, does not reach it.
func (h *head) meter(c *call) {
	told := &c.out.told
	if !told.Requests.Known && !told.Tokens.Known {
		return
	}
	if _, anthropic := c.api.(wire.Messages); anthropic {
		now := c.g.deps.Clock()
		h.rateUntil("Anthropic-Ratelimit-Requests-", &told.Requests, now)
		h.rateUntil("Anthropic-Ratelimit-Tokens-", &told.Tokens, now)
	}
	r := &told.Requests
	if r.Known {
		h.set("X-Ratelimit-Limit-Requests", strconv.FormatInt(r.Limit, 10))
		h.set("X-Ratelimit-Remaining-Requests", strconv.FormatInt(r.Remaining, 10))
		h.set("X-Ratelimit-Reset-Requests", r.Reset.Round(time.Millisecond).String())
	}
	if r = &told.Tokens; r.Known {
		h.set("X-Ratelimit-Limit-Tokens", strconv.FormatInt(r.Limit, 10))
		h.set("X-Ratelimit-Remaining-Tokens", strconv.FormatInt(r.Remaining, 10))
		h.set("X-Ratelimit-Reset-Tokens", r.Reset.Round(time.Millisecond).String())
	}
}

func (h *head) rateUntil(prefix string, r *limits.Rate, now time.Time) {
	if !r.Known {
		return
	}
	h.set(prefix+"Limit", strconv.FormatInt(r.Limit, 10))
	h.set(prefix+"Remaining", strconv.FormatInt(r.Remaining, 10))
	h.set(prefix+"Reset", now.Add(r.Reset).UTC().Format(time.RFC3339))
}
