package registry

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
)

// Snapshot is what a Resolver served, to start from when the database is down.
type Snapshot struct {
	Revision    int64     // of the feed when it was taken: every change up to it is in
	ConfirmedAt time.Time // when that revision was last known to be the newest
	Projects    []Project
	Handles     []ServedHandle
	Labels      []Label // LabelLatest included
	Versions    []Version
}

// ServedHandle is a handle that calls used, and what it stood for.
type ServedHandle struct {
	Handle string
	Prompt Prompt
}

// preloadedAt is when what was preloaded had last been confirmed.
type preloadedAt struct{ at atomic.Pointer[time.Time] }

func (p *preloadedAt) get() time.Time {
	if at := p.at.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// Served is a copy of what the Resolver remembers, for the last-known-good file; labels come with their versions, and versions
// with what they include.
func (r *Resolver) Served() Snapshot {
	// The revision is read first: what changes while the rest is copied is newer than it, never older.
	s := Snapshot{Revision: r.feed.Revision(), ConfirmedAt: r.confirmedAt()}
	for _, p := range r.projects.All() {
		s.Projects = append(s.Projects, *p)
	}
	for key, p := range r.handles.All() {
		s.Handles = append(s.Handles, ServedHandle{Handle: key.handle(), Prompt: p.Prompt})
	}
	versions := map[versionKey]Version{}
	for key, c := range r.compiled.All() {
		versions[key] = c.version
		for _, v := range c.included {
			versions[versionKey{v.Project, v.PromptID, v.Number}] = v
		}
	}
	for key, found := range r.labels.All() {
		of := key.prompt.Value()
		if _, ok := versions[versionKey{of.project, of.id, found.Version}]; ok {
			s.Labels = append(s.Labels, Label{
				Project: of.project, PromptID: of.id, Name: key.label, Version: found.Version, Revision: found.moved,
			})
		}
	}
	for _, v := range versions {
		s.Versions = append(s.Versions, v)
	}
	return s
}

// Preload gives the Resolver what an earlier process served, as if it had just loaded it. The feed must stand at the snapshot's
// revision (journal.Resume) and not have moved on: then it will deliver every change since, and until it confirms that there is
// none answers carry the snapshot's age. What does not compile is left out.
func (r *Resolver) Preload(ctx context.Context, s Snapshot) error {
	if at := r.feed.Revision(); at != s.Revision {
		return fault.New(fault.Internal, "registry: a snapshot of revision %d cannot be preloaded at revision %d", s.Revision, at)
	}
	src := newSnapshotSource(s)
	for _, p := range s.Projects {
		r.projects.Put(p.ID, &p)
	}
	prompts := map[string]*Identified{}
	for _, h := range s.Handles {
		p, ok := prompts[h.Prompt.ID]
		if !ok {
			p = identified(h.Prompt)
			prompts[p.ID] = p
		}
		r.handles.Put(keyOfHandle(p.Project, h.Handle), p)
	}
	compiled := map[versionKey]*compiledVersion{}
	for _, v := range s.Versions {
		if c, err := compileVersion(ctx, src, v); err == nil {
			key := versionKey{v.Project, v.PromptID, v.Number}
			compiled[key] = c
			r.compiled.Put(key, c)
		}
	}
	for _, l := range s.Labels {
		p := prompts[l.PromptID]
		c, ok := compiled[versionKey{l.Project, l.PromptID, l.Version}]
		if ok && p != nil && p.Project == l.Project {
			r.labels.Put(labelKey{p.key, l.Name}, c.resolved(p, l.Name, l.Revision))
		}
	}
	r.preloaded.at.Store(&s.ConfirmedAt)
	return ctx.Err()
}

// snapshotSource answers from a snapshot's versions.
type snapshotSource struct{ versions map[versionKey]Version }

func newSnapshotSource(s Snapshot) snapshotSource {
	src := snapshotSource{versions: make(map[versionKey]Version, len(s.Versions))}
	for _, v := range s.Versions {
		src.versions[versionKey{v.Project, v.PromptID, v.Number}] = v
	}
	return src
}

// VersionOf implements versionSource.
func (s snapshotSource) VersionOf(_ context.Context, project, promptID string, number int) (Version, error) {
	if v, ok := s.versions[versionKey{project, promptID, number}]; ok {
		return v, nil
	}
	return Version{}, fault.New(fault.VersionNotFound, "The snapshot has no version %d of this prompt.", number)
}
