package registry_test

import (
	"context"
	"sync/atomic"

	"github.com/promptgate/promptgate/registry"
)

// endlessSource knows a prompt of every name, each with version 1 under every label.
type endlessSource struct {
	Version registry.Version
	reads   atomic.Int64
}

func (s *endlessSource) ProjectByID(_ context.Context, id string) (registry.Project, error) {
	s.reads.Add(1)
	return registry.Project{ID: id, DefaultLabel: registry.DefaultLabel}, nil
}

func (s *endlessSource) PromptByHandle(_ context.Context, project, handle string) (registry.Prompt, error) {
	s.reads.Add(1)
	return registry.Prompt{ID: "pmpt_" + handle, Project: project, Name: handle, LatestVersion: 1, Revision: 1}, nil
}

func (s *endlessSource) LabelOf(_ context.Context, project, prompt, label string) (registry.Label, error) {
	s.reads.Add(1)
	return registry.Label{Project: project, PromptID: prompt, Name: label, Version: 1, Revision: 1}, nil
}

func (s *endlessSource) VersionOf(_ context.Context, project, prompt string, n int) (registry.Version, error) {
	s.reads.Add(1)
	v := s.Version
	v.Project, v.PromptID, v.Number = project, prompt, n
	return v, nil
}
