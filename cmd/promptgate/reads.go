package main

import (
	"context"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// countedSource counts what calls read from the database.
type countedSource struct {
	below registry.Source
	reads *metrics.Reads
}

func (s countedSource) ProjectByID(ctx context.Context, id string) (registry.Project, error) {
	s.reads.Database(registry.TouchProject)
	return s.below.ProjectByID(ctx, id)
}

func (s countedSource) PromptByHandle(ctx context.Context, project, handle string) (registry.Prompt, error) {
	s.reads.Database(registry.TouchHandle)
	return s.below.PromptByHandle(ctx, project, handle)
}

func (s countedSource) LabelOf(ctx context.Context, project, promptID, label string) (registry.Label, error) {
	s.reads.Database(registry.TouchLabel)
	return s.below.LabelOf(ctx, project, promptID, label)
}

func (s countedSource) VersionOf(ctx context.Context, project, promptID string, number int) (registry.Version, error) {
	s.reads.Database(registry.TouchVersion)
	return s.below.VersionOf(ctx, project, promptID, number)
}

// countedKeys is the same for keys.
type countedKeys struct {
	below policy.KeySource
	reads *metrics.Reads
}

func (s countedKeys) KeyByLookup(ctx context.Context, lookup string) (policy.KeyRecord, error) {
	s.reads.Database(policy.TouchKey)
	return s.below.KeyByLookup(ctx, lookup)
}
