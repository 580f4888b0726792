package wire

import (
	"bytes"
	"math"
	"strconv"

	"github.com/promptgate/promptgate/metrics"
)

// maxCount bounds a reported number of tokens: more is no figure but a fault, and would overflow sums.
const maxCountDigits = 12

// parseUsage reads a "usage" object: OpenAI's names for chat and for responses, Anthropic's, and DeepSeek's cache figure. ok is false when
// it is no object, or reports neither input nor output, or a figure that cannot be one (negative, fractional, absurd): such a usage
// must not reach the books. Nothing in and nothing out is a usage, but not Reported: an answer has cost something, and some providers end their
// streams with zeros. cost is what the provider says that the answer cost, in micro-dollars, 0 when it does not say.
func parseUsage(v []byte) (t metrics.Tokens, cost int64, ok bool) {
	u := readUsage(v)
	return u.t, u.cost, u.valid
}

// readUsage is parseUsage with all that it found; not valid means not ok.
func readUsage(v []byte) (u usageReader) {
	w, ok := walkInto(v, '{')
	if !ok {
		return u
	}
	u.valid = true
	for {
		key, value, ok := w.member()
		if !ok {
			break
		}
		u.member(key, value)
	}
	if !u.valid || !u.seen || !w.closed('}') {
		return usageReader{}
	}
	if u.t.Input+u.t.Output+u.cacheRead+u.cacheWrite == 0 {
		return usageReader{valid: true}
	}
	u.t = u.tokens()
	return u
}

// usageReader gathers the members of a usage object.
type usageReader struct {
	t                     metrics.Tokens
	seen, valid           bool
	promptNamed           bool  // input was reported under OpenAI's chat name
	cacheRead, cacheWrite int64 // Anthropic's: beside the input tokens, not among them
	cacheHit              int64 // DeepSeek's: among them
	total                 int64
	cost                  int64 // micro-dollars
	pictures              bool  // some of the tokens are pictures
}

func (u *usageReader) member(key, value []byte) {
	switch string(key) {
	case `"prompt_tokens"`:
		u.count(value, &u.t.Input)
		u.seen, u.promptNamed = true, true
	case `"input_tokens"`:
		if !u.promptNamed {
			u.count(value, &u.t.Input)
			u.seen = true
		}
	case `"completion_tokens"`, `"output_tokens"`:
		u.count(value, &u.t.Output)
		u.seen = true
	case `"total_tokens"`:
		u.count(value, &u.total)
	case `"prompt_tokens_details"`, `"input_tokens_details"`, `"input_token_details"`, // the last is of transcriptions
		`"completion_tokens_details"`, `"output_tokens_details"`, `"output_token_details"`:
		u.details(value, bytes.HasPrefix(key, []byte(`"prompt`)) || bytes.HasPrefix(key, []byte(`"input`)))
	case `"cache_read_input_tokens"`:
		u.count(value, &u.cacheRead)
	case `"cache_creation_input_tokens"`:
		u.count(value, &u.cacheWrite)
	case `"cost"`: // OpenRouter's and its like, in dollars
		u.cost = micros(value)
	case `"prompt_cache_hit_tokens"`:
		u.count(value, &u.cacheHit)
	}
}

func (u *usageReader) details(v []byte, input bool) {
	w, ok := walkInto(v, '{')
	if !ok {
		return
	}
	for {
		key, value, ok := w.member()
		if !ok {
			return
		}
		switch string(key) {
		case `"cached_tokens"`:
			u.count(value, &u.t.CachedInput)
		case `"audio_tokens"`:
			if input {
				u.count(value, &u.t.AudioInput)
			} else {
				u.count(value, &u.t.AudioOutput)
			}
		case `"reasoning_tokens"`, `"thinking_tokens"`:
			u.count(value, &u.t.Reasoning)
		case `"image_tokens"`:
			u.pictures = u.pictures || string(value) != "0" && !isNull(value)
		}
	}
}

// tokens makes the figures hold together: what pricing subtracts from a sum is never more than the sum.
func (u *usageReader) tokens() metrics.Tokens {
	t := u.t
	t.Reported = true
	if t.CachedInput == 0 {
		t.CachedInput = u.cacheHit
	}
	if u.promptNamed {
		if t.CachedInput == 0 {
			t.CachedInput = u.cacheRead
		}
		t.CacheWrite = u.cacheWrite
	} else if u.cacheRead > 0 || u.cacheWrite > 0 {
		t.Input += u.cacheRead + u.cacheWrite
		t.CachedInput, t.CacheWrite = u.cacheRead, u.cacheWrite
	}
	if t.Reasoning > 0 && u.total == t.Input+t.Output+t.Reasoning {
		t.Output += t.Reasoning // reported beside the output, as some do, not among it
	}
	t.CachedInput = min(t.CachedInput, t.Input)
	t.CacheWrite = min(t.CacheWrite, t.Input-t.CachedInput)
	t.AudioInput = min(t.AudioInput, t.Input-t.CachedInput-t.CacheWrite)
	t.Reasoning = min(t.Reasoning, t.Output)
	t.AudioOutput = min(t.AudioOutput, t.Output-t.Reasoning)
	return t
}

// maxCost bounds what one answer may say that it cost, in dollars: more is no price.
const maxCost = 10_000

// micros reads a price in dollars as micro-dollars, rounded; 0 for what is none.
func micros(v []byte) int64 {
	dollars, err := strconv.ParseFloat(string(v), 64)
	if err != nil || !(dollars > 0) || dollars > maxCost {
		return 0
	}
	return int64(math.Round(dollars * 1e6))
}

// count reads a number of tokens; null is none. Anything else that is no whole number makes the usage invalid.
func (u *usageReader) count(v []byte, into *int64) {
	if isNull(v) {
		return
	}
	whole, fraction, _ := bytes.Cut(v, []byte{'.'})
	if len(whole) == 0 || len(whole) > maxCountDigits || len(bytes.TrimLeft(fraction, "0")) > 0 {
		u.valid = false
		return
	}
	n := int64(0)
	for _, c := range whole {
		if c < '0' || c > '9' {
			u.valid = false
			return
		}
		n = n*10 + int64(c-'0')
	}
	*into = n
}
