// Package openai sends requests to any upstream that speaks OpenAI's API.
package openai

import (
	"net/http"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/upstream"
)

// Options describe one upstream. Header, Secrets, Forward and LastEvent are set here; without APIs it speaks all of OpenAI's.
type Options struct {
	upstream.Options
	Credential    provider.Secret // sent as a bearer token; empty sends none
	Organization  string          // OpenAI-Organization; "" sends none
	Project       string          // OpenAI-Project; "" sends none
	NoStreamUsage bool            // the upstream does not understand stream_options.include_usage
}

// Provider is one upstream. Its Close lets go of idle connections; calls in flight go on.
type Provider struct {
	*upstream.Client
	capabilities provider.Capabilities
}

var _ provider.Provider = (*Provider)(nil)

// New checks the options and makes a provider. It does not connect.
func New(o Options) (*Provider, error) {
	if len(o.APIs) == 0 {
		o.APIs = provider.OpenAIAPIs()
	}
	o.LastEvent = "[DONE]"
	// OpenAI-Organization and OpenAI-Project belong to the credential, so that those of callers do not pass.
	o.Forward = []string{"Openai-Beta", "Idempotency-Key", "User-Agent", "Content-Type"}
	o.Header, o.Secrets = http.Header{}, nil
	if !o.Credential.IsZero() {
		o.Secrets = map[string]provider.Secret{"Authorization": provider.NewSecret("Bearer " + o.Credential.Reveal())}
	}
	if o.Organization != "" {
		o.Header.Set("OpenAI-Organization", o.Organization)
	}
	if o.Project != "" {
		o.Header.Set("OpenAI-Project", o.Project)
	}
	client, err := upstream.New(o.Options)
	if err != nil {
		return nil, err
	}
	return &Provider{Client: client, capabilities: provider.Capabilities{APIs: client.APIs(), StreamUsage: !o.NoStreamUsage}}, nil
}

// Capabilities implements provider.Provider.
func (p *Provider) Capabilities() provider.Capabilities { return p.capabilities }
