package main

import (
	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/registry"
)

// resolver remembers what calls name. Of a project that was shredded it forgets all.
func (s *stores) resolver(cfg configs.Config) (*registry.Resolver, error) {
	r, err := registry.NewResolver(s.shared.source(countedSource{s.registry, s.reads}), s.feed, registry.ResolverOptions{
		Handles: cfg.Cache.Prompts, StaleAfter: cfg.Stale.After, MaxStale: cfg.Stale.Prompts, Shredded: s.sealer.Shredded,
	})
	if err != nil {
		return nil, err
	}
	s.feed.Subscribe(func(c journal.Change) {
		if c.Action == journal.ActionShredProject {
			r.Forget(c.Project)
		}
	})
	return r, nil
}
