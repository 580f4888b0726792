package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/anthropic"
	"github.com/promptgate/promptgate/gateway/provider/echo"
	"github.com/promptgate/promptgate/gateway/provider/openai"
)

// makers are how the providers of a kind are made.
type makers struct {
	configured func(configs.Provider) (provider.Provider, error)
	// stored makes a project's own one. Its address may never be private: a project's admin is not the operator.
	stored func(provider.Definition) (provider.Provider, error)
}

// kinds has a row for each of provider.Kinds.
func kinds() map[string]makers {
	return map[string]makers{
		provider.ProviderOpenAI: {
			func(c configs.Provider) (provider.Provider, error) {
				o := openai.Options{Credential: provider.NewSecret(c.APIKey)}
				o.Name, o.BaseURL, o.AllowPrivate, o.HeadTimeout = c.Name, c.BaseURL, c.AllowPrivate, c.Timeout
				for _, api := range c.APIs {
					if all := provider.OpenAIAPIs(); !slices.Contains(all, api) {
						return nil, fmt.Errorf("apis: there is no %q; write some of %s", api, strings.Join(all, ", "))
					}
				}
				o.APIs = c.APIs
				return openai.New(o)
			},
			func(d provider.Definition) (provider.Provider, error) {
				o := openai.Options{Credential: d.Credential, Organization: d.Organization, Project: d.OpenAIProject}
				o.Name, o.BaseURL = d.Name, d.BaseURL
				return openai.New(o)
			},
		},
		provider.ProviderAnthropic: {
			func(c configs.Provider) (provider.Provider, error) {
				o := anthropic.Options{Credential: provider.NewSecret(c.APIKey)}
				o.Name, o.BaseURL, o.AllowPrivate, o.HeadTimeout = c.Name, c.BaseURL, c.AllowPrivate, c.Timeout
				return anthropic.New(o)
			},
			func(d provider.Definition) (provider.Provider, error) {
				o := anthropic.Options{Credential: d.Credential}
				o.Name, o.BaseURL = d.Name, d.BaseURL
				return anthropic.New(o)
			},
		},
		provider.ProviderEcho: {
			func(c configs.Provider) (provider.Provider, error) {
				return echo.New(echo.Options{Name: c.Name, Latency: c.Latency, ChunkDelay: c.ChunkDelay}), nil
			},
			func(d provider.Definition) (provider.Provider, error) {
				return echo.New(echo.Options{Name: d.Name}), nil
			},
		},
	}
}

func configured(c configs.Provider) (provider.Provider, error) {
	k, ok := kinds()[c.Kind]
	if !ok {
		return nil, fmt.Errorf("there is no kind %q of providers", c.Kind)
	}
	return k.configured(c)
}

func stored(d provider.Definition) (provider.Provider, error) {
	k, ok := kinds()[d.Kind]
	if !ok {
		return nil, fmt.Errorf("there is no kind %q of providers", d.Kind)
	}
	return k.stored(d)
}
