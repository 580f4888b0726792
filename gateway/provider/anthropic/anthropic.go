// Package anthropic sends requests to any upstream that speaks Anthropic's Messages API.
package anthropic

import (
	"net/http"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/upstream"
)

// Version is the API's, which every request names that names no other.
const Version = "2023-06-01"

// Options describe one upstream. Header, Secrets, Forward and APIs are set here.
type Options struct {
	upstream.Options
	Credential provider.Secret // sent as x-api-key; empty sends none
}

// Provider is one upstream. Its Close lets go of idle connections; calls in flight go on.
type Provider struct {
	*upstream.Client
	capabilities provider.Capabilities
}

var _ provider.Provider = (*Provider)(nil)

// New checks the options and makes a provider. It does not connect.
func New(o Options) (*Provider, error) {
	o.APIs = []string{provider.APIMessages}
	o.Forward = []string{"Anthropic-Version", "Anthropic-Beta"}
	o.Header, o.Secrets = http.Header{"Anthropic-Version": {Version}}, nil
	if !o.Credential.IsZero() {
		o.Secrets = map[string]provider.Secret{"X-Api-Key": o.Credential}
	}
	client, err := upstream.New(o.Options)
	if err != nil {
		return nil, err
	}
	return &Provider{Client: client, capabilities: provider.Capabilities{APIs: client.APIs()}}, nil
}

// Capabilities implements provider.Provider.
func (p *Provider) Capabilities() provider.Capabilities { return p.capabilities }
