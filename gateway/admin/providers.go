package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
)

// Providers is the store of a project's upstreams and model aliases.
type Providers = provider.Store

// Provider is a project's upstream, without its credential.
type Provider struct {
	ID            string    `json:"id" example:"prov_0k3v" doc:"Empty for one of the operator's, which the configuration sets"`
	Configured    bool      `json:"configured" doc:"Set in the gateway's configuration: read only, and every project may use it"`
	Name          string    `json:"name" example:"openai"`
	Kind          string    `json:"kind" enum:"openai,anthropic,echo"`
	BaseURL       string    `json:"base_url" example:"https://api.openai.com/v1"`
	Organization  string    `json:"organization"`
	OpenAIProject string    `json:"openai_project"`
	Models        []string  `json:"models" doc:"Names, or patterns with one *; none means every model"`
	Enabled       bool      `json:"enabled"`
	HasCredential bool      `json:"has_credential"`
	PriceList     PriceList `json:"price_list"`
	Catalogue     string    `json:"catalogue" example:"openai" doc:"Whose built-in prices hold: the list's, else the vendor's of the address, else that of the kind; none: only the list's own. A model without a price is recorded with its cost unknown (null)"`
	CreatedAt     time.Time `json:"created_at,omitzero"`
	UpdatedAt     time.Time `json:"updated_at,omitzero"`
	Revision      int64     `json:"revision"`
}

func providerOf(d provider.Definition) Provider {
	return Provider{
		ID: d.ID, Name: d.Name, Kind: d.Kind, BaseURL: d.BaseURL, Organization: d.Organization, OpenAIProject: d.OpenAIProject,
		Configured: d.ID == "", PriceList: PriceList{Catalogue: d.Prices.Catalogue, Prices: list(d.Prices.Own)}, Catalogue: d.PriceList().Catalogue,
		Models: list(d.Models), Enabled: d.Enabled, HasCredential: d.HasCredential, CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt,
		Revision: d.Revision,
	}
}

// PriceList says what a provider's tokens cost.
type PriceList struct {
	Catalogue string          `json:"catalogue,omitempty" doc:"Built-in public prices: anthropic, aws, azure, cerebras, cohere, deepseek, fireworks, google, groq, mistral, moonshotai, openai, together, x-ai, or none; empty: by the address, else by the kind"`
	Prices    []metrics.Price `json:"prices,omitempty" maxItems:"200" doc:"Your own, in US dollars per million tokens: before the catalogue's. The exact model goes first, then the longest pattern, then the latest that holds"`
}

func (l PriceList) stored() metrics.PriceList {
	return metrics.PriceList{Catalogue: l.Catalogue, Own: l.Prices}
}

// ProviderCreate adds an upstream.
type ProviderCreate struct {
	Name          string     `json:"name" minLength:"1" maxLength:"64"`
	Kind          string     `json:"kind" enum:"openai,anthropic,echo"`
	BaseURL       string     `json:"base_url,omitempty" maxLength:"2000"`
	Credential    string     `json:"credential,omitempty" maxLength:"8192" writeOnly:"true" doc:"The provider's API key; sealed, never shown"`
	Organization  string     `json:"organization,omitempty" maxLength:"200"`
	OpenAIProject string     `json:"openai_project,omitempty" maxLength:"200"`
	Models        []string   `json:"models,omitempty" maxItems:"200"`
	Enabled       *bool      `json:"enabled,omitempty" doc:"true unless said"`
	PriceList     *PriceList `json:"price_list,omitempty"`
}

// ProviderPatch changes an upstream; absent fields stay.
type ProviderPatch struct {
	Name          *string    `json:"name,omitempty" maxLength:"64"`
	BaseURL       *string    `json:"base_url,omitempty" maxLength:"2000" doc:"A changed address needs the credential entered again"`
	Credential    *string    `json:"credential,omitempty" maxLength:"8192" writeOnly:"true"`
	Organization  *string    `json:"organization,omitempty" maxLength:"200"`
	OpenAIProject *string    `json:"openai_project,omitempty" maxLength:"200"`
	Models        *[]string  `json:"models,omitempty" maxItems:"200"`
	Enabled       *bool      `json:"enabled,omitempty"`
	PriceList     *PriceList `json:"price_list,omitempty" doc:"The whole list"`
}

// ProviderInput names a provider by its id.
type ProviderInput struct {
	Credentials
	ID string `path:"provider" example:"prov_0k3v"`
}

type createProviderInput struct {
	Credentials
	Body ProviderCreate
}

type patchProviderInput struct {
	ProviderInput
	Precondition
	Body ProviderPatch
}

type providerAnswer struct {
	Changed
	ETag string `header:"ETag"`
	Body Provider
}

type createdProvider struct {
	Changed
	Created
	ETag string `header:"ETag"`
	Body Provider
}

type providerList struct {
	Body struct {
		Providers []Provider `json:"providers"`
	}
}

type deleteProviderInput struct {
	ProviderInput
	Removal
}

func answerProvider(d provider.Definition) *providerAnswer {
	return &providerAnswer{Changed: changed(d.Revision), ETag: etag(d.Revision), Body: providerOf(d)}
}

// providers are the upstreams of a project.
type providers struct {
	store      Providers
	configured []provider.Definition
}

func (n providers) routes(a *API) {
	manage := func(id, method, path, summary string, status int) op {
		return op{id: id, method: method, path: path, action: policy.ActionManageProject, kind: policy.ObjectSystem, tag: "providers", summary: summary, status: status}
	}
	handle(a, manage("list-providers", http.MethodGet, "/providers", "List the project's providers", 0), n.listProviders)
	handle(a, manage("create-provider", http.MethodPost, "/providers", "Add a provider", http.StatusCreated), n.createProvider)
	handle(a, manage("get-provider", http.MethodGet, "/providers/{provider}", "Get a provider", 0), n.getProvider)
	handle(a, manage("update-provider", http.MethodPatch, "/providers/{provider}", "Change a provider", 0), n.patchProvider)
	handle(a, manage("delete-provider", http.MethodDelete, "/providers/{provider}", "Remove a provider", http.StatusNoContent), n.deleteProvider)
}

func (n providers) listProviders(ctx context.Context, c *caller, _ *Credentials) (*providerList, error) {
	found, err := n.store.ListProviders(ctx, c.Project)
	if err != nil {
		return nil, err
	}
	out := &providerList{}
	out.Body.Providers = []Provider{}
	for _, d := range found {
		out.Body.Providers = append(out.Body.Providers, providerOf(d))
	}
	for _, d := range n.configured {
		out.Body.Providers = append(out.Body.Providers, providerOf(d))
	}
	return out, nil
}

func (n providers) createProvider(ctx context.Context, c *caller, in *createProviderInput) (*createdProvider, error) {
	b := in.Body
	if b.PriceList == nil {
		b.PriceList = &PriceList{}
	}
	d, err := n.store.CreateProvider(ctx, c.Origin, provider.Definition{
		Project: c.Project, Name: b.Name, Kind: b.Kind, BaseURL: b.BaseURL, Credential: provider.NewSecret(b.Credential),
		Organization: b.Organization, OpenAIProject: b.OpenAIProject, Models: b.Models, Enabled: b.Enabled == nil || *b.Enabled,
		Prices: b.PriceList.stored(),
	})
	if err != nil {
		return nil, err
	}
	return &createdProvider{Changed: changed(d.Revision), Created: created("providers", d.ID), ETag: etag(d.Revision), Body: providerOf(d)}, nil
}

func (n providers) getProvider(ctx context.Context, c *caller, in *ProviderInput) (*providerAnswer, error) {
	d, err := n.store.GetProvider(ctx, c.Project, in.ID)
	if err != nil {
		return nil, err
	}
	return answerProvider(d), nil
}

func (n providers) patchProvider(ctx context.Context, c *caller, in *patchProviderInput) (*providerAnswer, error) {
	return edit(in.Precondition, func(rev int64) (*providerAnswer, error) {
		d, err := n.store.GetProvider(ctx, c.Project, in.ID)
		if err != nil {
			return nil, err
		}
		if rev > 0 {
			d.Revision = rev
		}
		b := in.Body
		set(&d.Name, b.Name)
		set(&d.BaseURL, b.BaseURL)
		set(&d.Organization, b.Organization)
		set(&d.OpenAIProject, b.OpenAIProject)
		set(&d.Models, b.Models)
		set(&d.Enabled, b.Enabled)
		if b.PriceList != nil {
			d.Prices = b.PriceList.stored()
		}
		if b.Credential != nil {
			d.Credential = provider.NewSecret(*b.Credential)
		}
		if d, err = n.store.UpdateProvider(ctx, c.Origin, d); err != nil {
			return nil, err
		}
		return answerProvider(d), nil
	})
}

func (n providers) deleteProvider(ctx context.Context, c *caller, in *deleteProviderInput) (*removedAnswer, error) {
	rev, err := in.revision()
	if err != nil {
		return nil, err
	}
	rev, err = n.store.DeleteProvider(ctx, c.Origin, c.Project, in.ID, rev)
	return &removedAnswer{Changed: changed(rev)}, err
}
