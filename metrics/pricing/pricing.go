// Package pricing knows what tokens cost by a provider's price list: its own prices, then a dated catalogue of public ones.
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

// cacheSize bounds the remembered models; those beyond are looked up anew each time.
const cacheSize = 4096

// Table is a metrics.Pricer. It is safe for concurrent use and does not change.
type Table struct {
	catalogues map[string]*providerPrices // by id
	ids        map[string]bool            // of the table's models

	found  sync.Map // modelKey → []rate
	cached atomic.Int64
}

var _ metrics.Pricer = (*Table)(nil)

type modelKey struct{ catalogue, model string }

// New reads the built-in table.
func New() (*Table, error) {
	t := &Table{ids: map[string]bool{}}
	var err error
	if t.catalogues, err = parseTable(pricesJSON); err != nil {
		return nil, fmt.Errorf("prices.json: %w", err)
	}
	for _, p := range t.catalogues {
		for i := range p.models {
			t.ids[p.models[i].id] = true
		}
	}
	return t, nil
}

// Lists reports whether a model's name is one of the table's own, to the letter but for case. Names that only match a pattern of the table are none.
func (t *Table) Lists(model string) bool { return t.ids[strings.ToLower(model)] }

// Cost implements metrics.Pricer: micro-dollars, rounded half up. It is not ok when the model has no price at that moment, a kind of
// token that was used has none, a count is negative, or nothing is known about the tokens (neither Reported nor Estimated). The
// list's own prices win over its catalogue's.
func (t *Table) Cost(list *metrics.PriceList, model string, at time.Time, tokens metrics.Tokens) (micros int64, ok bool) {
	if list == nil || !tokens.Reported && !tokens.Estimated {
		return 0, false
	}
	if p := list.Holding(model, at); p != nil {
		r := rateOf(p)
		return r.cost(tokens)
	}
	r := holding(t.rates(list.Catalogue, model), at)
	if r == nil {
		return 0, false
	}
	return r.cost(tokens)
}

func rateOf(p *metrics.Price) (r rate) {
	for kind, v := range p.Amounts() {
		if v != nil {
			r.prices[kind] = amount{set: true, base: int64(math.Round(*v * picoPerToken))}
		}
	}
	return r
}

// rates finds a model's prices in a catalogue, in rising precedence.
func (t *Table) rates(catalogue, model string) []rate {
	key := modelKey{catalogue, model}
	if v, ok := t.found.Load(key); ok {
		return v.([]rate)
	}
	rates := t.lookup(catalogue, strings.ToLower(strings.TrimSpace(model)))
	// Names of models may come from callers: remember a bounded number. Racing adds may pass the bound by a few.
	if t.cached.Load() < cacheSize && len(model) <= 256 {
		key = modelKey{strings.Clone(catalogue), strings.Clone(model)}
		if _, loaded := t.found.LoadOrStore(key, rates); !loaded {
			t.cached.Add(1)
		}
	}
	return rates
}

func (t *Table) lookup(catalogue, model string) []rate {
	p := t.catalogues[catalogue]
	if p == nil {
		return nil
	}
	public := p.find(model)
	if public == nil {
		if dated := hyphenDates(model); dated != model {
			public = p.find(dated)
		}
	}
	if public == nil {
		return nil
	}
	return public.rates
}
