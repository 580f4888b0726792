// Package pricing knows what tokens cost: a dated table of public prices, and the operator's own prices before it.
//
// Amounts are whole micro-dollars (millionths of a US dollar). A cost is the exact sum over the kinds of tokens, computed in
// pico-dollars, and rounded once, at the end, half up. A kind is priced by its own price where there is one and as what
// it is a part of where there is none: cached, written and audio input as input; reasoning and audio output as output. No token is
// counted twice. What cannot be priced wholly is not priced at all.
package pricing

import (
	_ "embed"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promptgate/promptgate/metrics"
)

//go:embed prices.json
var pricesJSON []byte

// Price is a price of the operator's own, in US dollars per million tokens. It comes before the table's prices, wholly: kinds without a
// price are priced as the kind they are part of, never from the table.
type Price struct {
	Provider string    // the provider's name in its project; "" for every provider
	Model    string    // as sent upstream, without regard to case; a trailing * matches any ending
	From     time.Time // first moment at which it holds; zero for ever

	Input, CachedInput, CacheWrite, AudioInput *float64 // nil: none
	Output, Reasoning, AudioOutput             *float64
}

// Options of a table.
type Options struct {
	Overrides []Price
	// Aliases maps the names that projects give their providers to the table's ("my-azure" to "azure").
	Aliases map[string]string
}

// cacheSize bounds the remembered models; those beyond are looked up anew each time.
const cacheSize = 4096

// Table is a metrics.Pricer. It is safe for concurrent use and does not change.
type Table struct {
	providers map[string]*providerPrices // by id and by name
	aliases   map[string]string
	overrides []override
	ids       map[string]bool // of the table's models

	found  sync.Map // modelKey → []rate
	cached atomic.Int64
}

var _ metrics.Pricer = (*Table)(nil)

type modelKey struct{ provider, model string }

type override struct {
	provider, model string
	prefix          bool
	rate            rate
}

// New builds the table. An override that is negative, not a number or beyond a million dollars per million tokens is an error.
func New(o Options) (*Table, error) {
	t := &Table{aliases: o.Aliases}
	var err error
	if t.providers, err = parseTable(pricesJSON); err != nil {
		return nil, fmt.Errorf("prices.json: %w", err)
	}
	t.ids = map[string]bool{}
	for _, p := range t.providers {
		for i := range p.models {
			t.ids[p.models[i].id] = true
		}
	}
	for name, id := range o.Aliases {
		if t.providers[id] == nil {
			return nil, fmt.Errorf("price alias %q: there is no provider %q in the price table", name, id)
		}
	}
	for i, p := range o.Overrides {
		ov, err := newOverride(p)
		if err != nil {
			return nil, fmt.Errorf("price %d (%s %s): %w", i+1, p.Provider, p.Model, err)
		}
		t.overrides = append(t.overrides, ov)
	}
	return t, nil
}

func newOverride(p Price) (override, error) {
	if strings.TrimSuffix(p.Model, "*") == "" && p.Model != "*" {
		return override{}, fmt.Errorf("model is missing")
	}
	model, prefix := strings.CutSuffix(strings.ToLower(p.Model), "*")
	ov := override{provider: p.Provider, model: model, prefix: prefix}
	ov.rate.from = p.From
	for kind, v := range [kinds]*float64{p.Input, p.CachedInput, p.CacheWrite, p.AudioInput, p.Output, p.Reasoning, p.AudioOutput} {
		if v == nil {
			continue
		}
		if math.IsNaN(*v) || *v < 0 || *v > maxUSDPerMillion {
			return override{}, fmt.Errorf("%v is no price: give US dollars per million tokens, 0 to %d", *v, maxUSDPerMillion)
		}
		ov.rate.prices[kind] = amount{set: true, base: int64(math.Round(*v * picoPerToken))}
	}
	return ov, nil
}

// Lists reports whether a model's name is one of the table's own, to the letter but for case. Names that only match a pattern of the table are none.
func (t *Table) Lists(model string) bool { return t.ids[strings.ToLower(model)] }

// Cost implements metrics.Pricer: micro-dollars, rounded half up. It is not ok when the model has no price at that moment, a kind of
// token that was used has none, a count is negative, or nothing is known about the tokens (neither Reported nor Estimated). The
// operator's prices win over the table's; among several, the latest that holds.
func (t *Table) Cost(provider, model string, at time.Time, tokens metrics.Tokens) (micros int64, ok bool) {
	if !tokens.Reported && !tokens.Estimated {
		return 0, false
	}
	r := holding(t.rates(provider, model), at)
	if r == nil {
		return 0, false
	}
	return r.cost(tokens)
}

// rates finds a model's prices, in rising precedence.
func (t *Table) rates(provider, model string) []rate {
	key := modelKey{provider, model}
	if v, ok := t.found.Load(key); ok {
		return v.([]rate)
	}
	rates := t.lookup(provider, strings.ToLower(strings.TrimSpace(model)))
	// Names of models may come from callers: remember a bounded number. Racing adds may pass the bound by a few.
	if t.cached.Load() < cacheSize && len(model) <= 256 {
		key = modelKey{strings.Clone(provider), strings.Clone(model)}
		if _, loaded := t.found.LoadOrStore(key, rates); !loaded {
			t.cached.Add(1)
		}
	}
	return rates
}

func (t *Table) lookup(provider, model string) []rate {
	var own []rate
	for _, o := range t.overrides {
		if o.provider != "" && o.provider != provider {
			continue
		}
		if o.model == model || o.prefix && strings.HasPrefix(model, o.model) {
			own = append(own, o.rate)
		}
	}
	id := provider
	if a, ok := t.aliases[provider]; ok {
		id = a
	}
	p := t.providers[strings.ToLower(id)]
	if p == nil {
		return sortByDate(own)
	}
	public := p.find(model)
	if public == nil {
		if dated := hyphenDates(model); dated != model {
			public = p.find(dated)
		}
	}
	rates := make([]rate, 0, len(own)+8)
	if public != nil {
		rates = append(rates, public.rates...)
	}
	return append(rates, sortByDate(own)...)
}
