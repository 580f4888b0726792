package pricing

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"
)

// tableJSON is the shape of prices.json.
type tableJSON struct {
	Providers []providerJSON `json:"providers"`
}

type providerJSON struct {
	ID       string      `json:"id"`
	Names    []string    `json:"names"`
	Fallback []string    `json:"fallback"`
	Models   []modelJSON `json:"models"`
}

type modelJSON struct {
	ID     string     `json:"id"`
	Match  matchJSON  `json:"match"`
	Prices []rateJSON `json:"prices"`
}

type matchJSON struct {
	Or         []matchJSON `json:"or"`
	And        []matchJSON `json:"and"`
	Not        *matchJSON  `json:"not"`
	Equals     *string     `json:"equals"`
	StartsWith *string     `json:"starts_with"`
	EndsWith   *string     `json:"ends_with"`
	Contains   *string     `json:"contains"`
	Regex      *string     `json:"regex"`
}

type rateJSON struct {
	From        string      `json:"from"`
	Daily       []string    `json:"daily"`
	Input       *amountJSON `json:"input"`
	CachedInput *amountJSON `json:"cached_input"`
	CacheWrite  *amountJSON `json:"cache_write"`
	AudioInput  *amountJSON `json:"audio_input"`
	Output      *amountJSON `json:"output"`
	Reasoning   *amountJSON `json:"reasoning"`
	AudioOutput *amountJSON `json:"audio_output"`
}

// amountJSON is a number or {"base": number, "tiers": [{"above": tokens, "price": number}]}.
type amountJSON amount

// UnmarshalJSON implements json.Unmarshaler; decimals are read exactly.
func (a *amountJSON) UnmarshalJSON(b []byte) error {
	a.set = true
	if len(b) > 0 && b[0] != '{' {
		var err error
		a.base, err = parsePrice(json.Number(b))
		return err
	}
	var v struct {
		Base  json.Number
		Tiers []struct {
			Above int64
			Price json.Number
		}
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	var err error
	if a.base, err = parsePrice(v.Base); err != nil {
		return err
	}
	for _, t := range v.Tiers {
		p, err := parsePrice(t.Price)
		if err != nil {
			return err
		}
		a.tiers = append(a.tiers, tier{t.Above, p})
	}
	slices.SortFunc(a.tiers, func(x, y tier) int { return int(x.above - y.above) })
	return nil
}

// parsePrice turns US dollars per million tokens into pico-dollars per token.
func parsePrice(n json.Number) (int64, error) {
	r, ok := new(big.Rat).SetString(n.String())
	if !ok {
		return 0, fmt.Errorf("price %q is not a number", n)
	}
	r.Mul(r, big.NewRat(picoPerToken, 1))
	if !r.IsInt() {
		return 0, fmt.Errorf("price %s has more than six decimals", n)
	}
	if r.Sign() < 0 || r.Cmp(big.NewRat(maxUSDPerMillion*picoPerToken, 1)) > 0 {
		return 0, fmt.Errorf("price %s is out of range", n)
	}
	return r.Num().Int64(), nil
}

type providerPrices struct {
	models   []modelPrices
	fallback []*providerPrices
}

type modelPrices struct {
	id    string
	match func(model string) bool
	rates []rate // rising precedence; empty: known, and without a price per token
}

// find is the first model whose pattern matches; a provider that resells others' models falls back to theirs.
func (p *providerPrices) find(model string) *modelPrices {
	for i := range p.models {
		if p.models[i].match(model) {
			return &p.models[i]
		}
	}
	for _, f := range p.fallback {
		if m := f.find(model); m != nil {
			return m
		}
	}
	return nil
}

func parseTable(data []byte) (map[string]*providerPrices, error) {
	var t tableJSON
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, err
	}
	out := map[string]*providerPrices{}
	for _, p := range t.Providers {
		pp := &providerPrices{}
		for _, m := range p.Models {
			mp, err := m.parse()
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", p.ID, m.ID, err)
			}
			pp.models = append(pp.models, mp)
		}
		for _, name := range append([]string{p.ID}, p.Names...) {
			out[name] = pp
		}
	}
	for _, p := range t.Providers {
		for _, f := range p.Fallback {
			// A cycle would make find run for ever: those that are fallen back to must not fall back themselves.
			if out[f] == nil || slices.ContainsFunc(t.Providers, func(q providerJSON) bool { return q.ID == f && len(q.Fallback) > 0 }) {
				return nil, fmt.Errorf("%s: fallback %q is unknown or falls back itself", p.ID, f)
			}
			out[p.ID].fallback = append(out[p.ID].fallback, out[f])
		}
	}
	return out, nil
}

func (m modelJSON) parse() (modelPrices, error) {
	match, err := m.Match.compile()
	if err != nil {
		return modelPrices{}, err
	}
	mp := modelPrices{id: strings.ToLower(m.ID), match: match}
	for _, r := range m.Prices {
		parsed, err := r.parse()
		if err != nil {
			return modelPrices{}, err
		}
		mp.rates = append(mp.rates, parsed)
	}
	return mp, nil
}

func (r rateJSON) parse() (rate, error) {
	var out rate
	var err error
	if r.From != "" {
		if out.from, err = time.Parse(time.DateOnly, r.From); err != nil {
			return rate{}, err
		}
	}
	if r.Daily != nil {
		if len(r.Daily) != 2 {
			return rate{}, errors.New("daily needs a start and an end")
		}
		if out.start, err = secondOfDay(r.Daily[0]); err != nil {
			return rate{}, err
		}
		if out.end, err = secondOfDay(r.Daily[1]); err != nil {
			return rate{}, err
		}
	}
	for kind, a := range [kinds]*amountJSON{r.Input, r.CachedInput, r.CacheWrite, r.AudioInput, r.Output, r.Reasoning, r.AudioOutput} {
		if a != nil {
			out.prices[kind] = amount(*a)
		}
	}
	return out, nil
}

func secondOfDay(s string) (int, error) {
	t, err := time.Parse("15:04:05Z07:00", s)
	if err != nil {
		return 0, err
	}
	t = t.UTC()
	return t.Hour()*3600 + t.Minute()*60 + t.Second(), nil
}

// compile builds the matcher for lower-case model names.
func (m matchJSON) compile() (func(string) bool, error) {
	switch {
	case m.Or != nil, m.And != nil:
		return compileAll(m)
	case m.Not != nil:
		f, err := m.Not.compile()
		return func(s string) bool { return !f(s) }, err
	case m.Equals != nil:
		want := strings.ToLower(*m.Equals)
		return func(s string) bool { return s == want }, nil
	case m.StartsWith != nil:
		want := strings.ToLower(*m.StartsWith)
		return func(s string) bool { return strings.HasPrefix(s, want) }, nil
	case m.EndsWith != nil:
		want := strings.ToLower(*m.EndsWith)
		return func(s string) bool { return strings.HasSuffix(s, want) }, nil
	case m.Contains != nil:
		want := strings.ToLower(*m.Contains)
		return func(s string) bool { return strings.Contains(s, want) }, nil
	case m.Regex != nil:
		re, err := regexp.Compile(*m.Regex)
		if err != nil {
			return nil, err
		}
		return re.MatchString, nil
	}
	return nil, errors.New("match has no rule")
}

func compileAll(m matchJSON) (func(string) bool, error) {
	any := m.Or != nil
	var all []func(string) bool
	for _, part := range append(slices.Clone(m.Or), m.And...) {
		f, err := part.compile()
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return func(s string) bool {
		for _, f := range all {
			if f(s) == any {
				return any
			}
		}
		return !any
	}, nil
}

var packedDate = regexp.MustCompile(`-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(-|:|$)`)

// hyphenDates writes gpt-4o-20240806 as gpt-4o-2024-08-06.
func hyphenDates(model string) string {
	return packedDate.ReplaceAllStringFunc(model, func(m string) string {
		if _, err := time.Parse("20060102", m[1:9]); err != nil {
			return m
		}
		return m[:5] + "-" + m[5:7] + "-" + m[7:]
	})
}
