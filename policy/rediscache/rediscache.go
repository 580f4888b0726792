// Package rediscache lets replicas share the records of API keys: a policy.KeySource over another one, through Redis. A revoked key reaches
// a replica that has lost the database this way.
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
