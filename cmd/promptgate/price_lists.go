package main

import (
	"net/url"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/metrics"
)

// priceList is what was configured for a provider.
func priceList(c configs.Provider) (metrics.PriceList, error) {
	l := metrics.PriceList{Catalogue: c.PriceList.Catalogue}
	for _, p := range c.PriceList.Prices {
		from, err := p.From.Time()
		if err != nil {
			return l, err
		}
		until, err := p.Until.Time()
		if err != nil {
			return l, err
		}
		l.Own = append(l.Own, metrics.Price{
			Model: p.Model, From: from, Until: until, Input: p.Input, CachedInput: p.CachedInput, CacheWrite: p.CacheWrite,
			AudioInput: p.AudioInput, Output: p.Output, Reasoning: p.Reasoning, AudioOutput: p.AudioOutput,
		})
	}
	return l, l.Check()
}

// definitions are the configured providers as the management API shows them: without credentials, which may stand in an address, too.
func definitions(list []configs.Provider) ([]provider.Definition, error) {
	out := make([]provider.Definition, 0, len(list))
	for _, c := range list {
		prices, err := priceList(c)
		if err != nil {
			return nil, err
		}
		base := c.BaseURL
		if u, err := url.Parse(base); err == nil {
			u.RawQuery, u.User = "", nil
			base = u.String()
		}
		out = append(out, provider.Definition{
			Name: c.Name, Kind: c.Kind, BaseURL: base, Models: c.Models, Enabled: true, HasCredential: c.APIKey != "", Prices: prices,
		})
	}
	return out, nil
}
