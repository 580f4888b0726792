package pricing

import (
	"math"
	"math/bits"
	"time"

	"github.com/promptgate/promptgate/metrics"
)

// The kinds of tokens that can have a price of their own.
const (
	input = iota
	cachedInput
	cacheWrite
	audioInput
	output
	reasoning
	audioOutput
	kinds
)

const (
	picoPerToken     = 1e6 // US dollars per million tokens → pico-dollars per token
	picoPerMicro     = 1e6
	maxUSDPerMillion = 1_000_000
)

// amount is a price in pico-dollars per token, which may depend on the size of the whole input.
type amount struct {
	set   bool
	base  int64
	tiers []tier // rising
}

// tier is the price of all tokens once the input is larger than above.
type tier struct {
	above int64
	price int64
}

func (a amount) at(totalInput int64) int64 {
	price := a.base
	for _, t := range a.tiers {
		if totalInput > t.above {
			price = t.price
		}
	}
	return price
}

// rate is what a model costs while it holds.
type rate struct {
	from       time.Time // zero: for ever
	start, end int       // seconds of the UTC day [start, end), which may wrap; both 0: the whole day
	prices     [kinds]amount
}

func (r *rate) holds(at time.Time) bool {
	if at.Before(r.from) {
		return false
	}
	if r.start == r.end {
		return true
	}
	at = at.UTC()
	s := at.Hour()*3600 + at.Minute()*60 + at.Second()
	if r.end < r.start {
		return s >= r.start || s < r.end
	}
	return s >= r.start && s < r.end
}

// holding is the last rate that holds, nil when none does.
func holding(rates []rate, at time.Time) *rate {
	for i := len(rates) - 1; i >= 0; i-- {
		if rates[i].holds(at) {
			return &rates[i]
		}
	}
	return nil
}

// cost splits the tokens into parts that do not overlap and adds up what the parts cost.
func (r *rate) cost(t metrics.Tokens) (micros int64, ok bool) {
	if t.Input < 0 || t.Output < 0 || t.CachedInput < 0 || t.CacheWrite < 0 || t.AudioInput < 0 || t.Reasoning < 0 || t.AudioOutput < 0 {
		return 0, false
	}
	var parts [kinds]int64
	// A part can exceed its whole only if a provider's figures overlap (cached audio is counted as both) or are wrong: the
	// excess is taken from the later kind, so that the parts never add up to more than the whole.
	parts[input] = t.Input
	for kind, n := range [...]int64{cachedInput: t.CachedInput, cacheWrite: t.CacheWrite, audioInput: t.AudioInput} {
		if kind != input && r.prices[kind].set {
			parts[kind] = min(n, parts[input])
			parts[input] -= parts[kind]
		}
	}
	parts[output] = t.Output
	if r.prices[reasoning].set {
		parts[reasoning] = min(t.Reasoning, parts[output])
		parts[output] -= parts[reasoning]
	}
	if r.prices[audioOutput].set {
		parts[audioOutput] = min(t.AudioOutput, parts[output])
		parts[output] -= parts[audioOutput]
	}
	var pico uint64
	for kind, n := range parts {
		if n == 0 {
			continue
		}
		p := r.prices[kind]
		if !p.set {
			return 0, false
		}
		hi, lo := bits.Mul64(uint64(n), uint64(p.at(t.Input)))
		var carry uint64
		pico, carry = bits.Add64(pico, lo, 0)
		if hi != 0 || carry != 0 {
			return 0, false
		}
	}
	if pico > math.MaxUint64-picoPerMicro/2 {
		return 0, false
	}
	return int64((pico + picoPerMicro/2) / picoPerMicro), true
}
