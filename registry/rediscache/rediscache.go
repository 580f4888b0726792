// Package rediscache lets replicas share what resolving reads: a registry.Source over another one, through Redis.
package rediscache

import (
	"context"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sharedcache"
	"github.com/promptgate/promptgate/registry"
)

// Source reads through Redis; what Redis does not answer in time is read from the source below. Absences are not shared: they are
// rare, and anybody with a key could fill Redis with them.
type Source struct {
	cache *sharedcache.Cache
	below registry.Source
}

var _ registry.Source = (*Source)(nil)

// New decorates a source. The cache's Apply must be subscribed to the journal before any reader's.
func New(cache *sharedcache.Cache, below registry.Source) *Source { return &Source{cache, below} }

// ProjectByID implements registry.Source.
func (s *Source) ProjectByID(ctx context.Context, id string) (registry.Project, error) {
	t := registry.ProjectTouch(id)
	return sharedcache.Read(ctx, s.cache, key(t), false,
		func(ctx context.Context) (registry.Project, error) { return s.below.ProjectByID(ctx, id) })
}

// PromptByHandle implements registry.Source.
func (s *Source) PromptByHandle(ctx context.Context, project, handle string) (registry.Prompt, error) {
	t := registry.HandleTouch(project, handle)
	return sharedcache.Read(ctx, s.cache, key(t), false,
		func(ctx context.Context) (registry.Prompt, error) {
			return s.below.PromptByHandle(ctx, project, handle)
		})
}

// LabelOf implements registry.Source.
func (s *Source) LabelOf(ctx context.Context, project, promptID, label string) (registry.Label, error) {
	t := registry.LabelTouch(project, promptID, label)
	return sharedcache.Read(ctx, s.cache, key(t), false,
		func(ctx context.Context) (registry.Label, error) {
			return s.below.LabelOf(ctx, project, promptID, label)
		})
}

// VersionOf implements registry.Source. A version never changes, so it may stay long.
func (s *Source) VersionOf(ctx context.Context, project, promptID string, number int) (registry.Version, error) {
	t := registry.VersionTouch(project, promptID, number)
	return sharedcache.Read(ctx, s.cache, key(t), true,
		func(ctx context.Context) (registry.Version, error) {
			return s.below.VersionOf(ctx, project, promptID, number)
		})
}

// key is the entry that a touch makes stale.
func key(t journal.Touch) sharedcache.Key {
	return sharedcache.Key{Kind: t.Kind, Project: t.Project, ID: t.Key}
}
