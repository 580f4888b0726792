package metrics

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Bounds of a price list.
const (
	MaxPrices         = 200       // own prices in one list
	MaxPriceOfMillion = 1_000_000 // US dollars per million tokens
)

// CatalogueNone is the catalogue of a provider whose models have only the prices that are given.
const CatalogueNone = "none"

// Catalogues are the built-in lists of public prices (metrics/pricing), one a vendor, sorted.
func Catalogues() []string {
	return []string{
		"anthropic", "aws", "azure", "cerebras", "cohere", "deepseek", "fireworks", "google", "groq", "mistral", "moonshotai", "openai",
		"together", "x-ai",
	}
}

// PriceList says what the tokens of a provider cost: whose it is and not what the provider is called decides. The zero value has no price.
type PriceList struct {
	Catalogue string  `json:"catalogue"` // one of Catalogues, or CatalogueNone; "" is nobody's choice yet and has no price
	Own       []Price `json:"prices"`    // go before the catalogue's, wholly: a kind without a price is priced as what it is part of
}

// Price is what a model's tokens cost, in US dollars per million, while it holds. nil: no price of its own.
type Price struct {
	Model string    `json:"model"`          // as sent upstream, in any case; a trailing * matches any ending. The exact name goes first, then the longest
	From  time.Time `json:"from,omitzero"`  // first moment at which it holds; zero: ever since. Of several that hold, the latest
	Until time.Time `json:"until,omitzero"` // first moment at which it holds no longer; zero: for ever

	Input       *float64 `json:"input,omitempty"`
	CachedInput *float64 `json:"cached_input,omitempty"`
	CacheWrite  *float64 `json:"cache_write,omitempty"`
	AudioInput  *float64 `json:"audio_input,omitempty"`
	Output      *float64 `json:"output,omitempty"`
	Reasoning   *float64 `json:"reasoning,omitempty"`
	AudioOutput *float64 `json:"audio_output,omitempty"`
}

// Amounts are the prices in the order of Price's fields.
func (p *Price) Amounts() [7]*float64 {
	return [7]*float64{p.Input, p.CachedInput, p.CacheWrite, p.AudioInput, p.Output, p.Reasoning, p.AudioOutput}
}

// Check judges a list before it is used or saved.
func (l PriceList) Check() error {
	if l.Catalogue != "" && l.Catalogue != CatalogueNone && !slices.Contains(Catalogues(), l.Catalogue) {
		return fmt.Errorf("there is no catalogue %.40q: use one of %s, or %s", l.Catalogue, strings.Join(Catalogues(), ", "), CatalogueNone)
	}
	if len(l.Own) > MaxPrices {
		return fmt.Errorf("a provider has at most %d prices of its own; a trailing * in a model's name matches any ending", MaxPrices)
	}
	for i := range l.Own {
		if err := l.Own[i].check(); err != nil {
			return fmt.Errorf("price %d (%.100q): %w", i+1, l.Own[i].Model, err)
		}
	}
	return nil
}

func (p *Price) check() error {
	if p.Model == "" || len(p.Model) > 200 || strings.Contains(strings.TrimSuffix(p.Model, "*"), "*") {
		return errors.New("model must be a name of at most 200 bytes, or the beginning of one and *")
	}
	if !p.Until.IsZero() && !p.Until.After(p.From) {
		return errors.New("until must be after from")
	}
	given := false
	for _, v := range p.Amounts() {
		if v == nil {
			continue
		}
		given = true
		if math.IsNaN(*v) || *v < 0 || *v > MaxPriceOfMillion {
			return fmt.Errorf("%v is no price: give US dollars per million tokens, 0 to %d", *v, MaxPriceOfMillion)
		}
	}
	if !given {
		return errors.New("has no amount: give input and output, in US dollars per million tokens")
	}
	return nil
}

// Holding is the price of a model at a moment, nil when the list has none of its own.
func (l *PriceList) Holding(model string, at time.Time) *Price {
	var best *Price
	width := -1
	for i := range l.Own {
		p := &l.Own[i]
		w := p.matches(model)
		if w < 0 || at.Before(p.From) || !p.Until.IsZero() && !at.Before(p.Until) {
			continue
		}
		if w > width || w == width && !p.From.Before(best.From) {
			best, width = p, w
		}
	}
	return best
}

// matches says how narrowly: -1 not at all, else the length of what had to match; a whole name is the narrowest.
func (p *Price) matches(model string) int {
	prefix, pattern := strings.CutSuffix(p.Model, "*")
	switch {
	case !pattern && strings.EqualFold(p.Model, model):
		return math.MaxInt
	case pattern && len(model) >= len(prefix) && strings.EqualFold(prefix, model[:len(prefix)]):
		return len(prefix)
	}
	return -1
}
