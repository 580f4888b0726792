// Package rediscache lets replicas share the records of API keys and what people may do: a policy.KeySource and a policy.People over others, through
// Redis. A revoked key and a deactivated account reach a replica that has lost the database this way.
package rediscache

import (
	"context"

	"github.com/promptgate/promptgate/internal/sharedcache"
	"github.com/promptgate/promptgate/policy"
)

// Source reads through Redis; what Redis does not answer in time is read from the source below. Unknown keys are not shared.
type Source struct {
	cache *sharedcache.Cache
	below policy.KeySource
}

var _ policy.KeySource = (*Source)(nil)

// New decorates a source. The cache's Apply must be subscribed to the journal before any reader's.
func New(cache *sharedcache.Cache, below policy.KeySource) *Source { return &Source{cache, below} }

// KeyByLookup implements policy.KeySource.
func (s *Source) KeyByLookup(ctx context.Context, lookup string) (policy.KeyRecord, error) {
	return sharedcache.Read(ctx, s.cache, sharedcache.Key{Kind: policy.TouchKey, ID: lookup}, false,
		func(ctx context.Context) (policy.KeyRecord, error) { return s.below.KeyByLookup(ctx, lookup) })
}

// People reads through Redis as Source does.
type People struct {
	cache *sharedcache.Cache
	below policy.People
}

var _ policy.People = (*People)(nil)

// NewPeople decorates a source of people, as New does.
func NewPeople(cache *sharedcache.Cache, below policy.People) *People { return &People{cache, below} }

// Account implements policy.People.
func (p *People) Account(ctx context.Context, id string) (*policy.Account, error) {
	return sharedcache.Read(ctx, p.cache, sharedcache.Key{Kind: policy.TouchUser, ID: id}, false,
		func(ctx context.Context) (*policy.Account, error) { return p.below.Account(ctx, id) })
}

// Bindings implements policy.People.
func (p *People) Bindings(ctx context.Context, project, subject string) (*[]policy.Binding, error) {
	return sharedcache.Read(ctx, p.cache, sharedcache.Key{Kind: policy.TouchBindings, Project: project, ID: subject}, false,
		func(ctx context.Context) (*[]policy.Binding, error) { return p.below.Bindings(ctx, project, subject) })
}

// Role implements policy.People.
func (p *People) Role(ctx context.Context, project, name string) (*policy.Role, error) {
	return sharedcache.Read(ctx, p.cache, sharedcache.Key{Kind: policy.TouchRole, Project: project, ID: name}, false,
		func(ctx context.Context) (*policy.Role, error) { return p.below.Role(ctx, project, name) })
}

// Service implements policy.People.
func (p *People) Service(ctx context.Context, project, id string) (*policy.ServiceAccount, error) {
	return sharedcache.Read(ctx, p.cache, sharedcache.Key{Kind: policy.TouchService, Project: project, ID: id}, false,
		func(ctx context.Context) (*policy.ServiceAccount, error) { return p.below.Service(ctx, project, id) })
}
