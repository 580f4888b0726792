package seal

import (
	"context"
	"time"
)

// Reload reads the installation's data keys again, and all projects'.
func (s *Sealer) Reload(ctx context.Context) error {
	if err := s.reloadOwn(ctx); err != nil {
		return err
	}
	return s.loadProjects(ctx)
}

// reloadOwn reads the installation's. When another master key seals them now, it is looked for as at the start.
func (s *Sealer) reloadOwn(ctx context.Context) error {
	r, err := load(ctx, s.db.DB, false)
	if err != nil {
		return err
	}
	if r == nil {
		return errNoKeys
	}
	m := s.keys.Load().master
	if _, ok, err := r.under(m); err != nil {
		return err
	} else if !ok {
		if m, err = findMaster(ctx, s.o, r); err != nil {
			return err
		}
	}
	k, _, err := openKeyset(m, r)
	if err != nil {
		return err
	}
	for { // never back to an older keyset than one another goroutine has just read
		old := s.keys.Load()
		if old.newest >= k.newest || s.keys.CompareAndSwap(old, k) {
			return nil
		}
	}
}

const (
	reloadEvery   = 100 * time.Millisecond
	reloadTimeout = 2 * time.Second
)

// reloadSometimes keeps rubbish that looks sealed from costing queries each: it reads at most once in reloadEvery.
//
//nolint:contextcheck // all who open sealed text share one read, whoever of them leaves
func (s *Sealer) reloadSometimes(project string) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	now := s.clock()
	if now.Sub(s.reloadedAt) < reloadEvery {
		return nil
	}
	s.reloadedAt = now
	ctx, cancel := context.WithTimeout(context.Background(), reloadTimeout)
	defer cancel()
	if err := s.reloadOwn(ctx); err != nil || project == "" {
		return err
	}
	return s.loadProject(ctx, project)
}

// want has the keys of a project that is not known here read; one without keys is not asked about again for absentFor.
func (s *Sealer) want(project string) {
	s.mu.Lock()
	if len(s.absent) > maxAbsent {
		clear(s.absent)
	}
	s.absent[project] = s.clock()
	s.stale[project] = true
	s.mu.Unlock()
	s.rouse()
}

func (s *Sealer) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Changed says that the keys of a project changed, or with "" the installation's: Run reads them again. It does not block.
func (s *Sealer) Changed(project string) {
	s.mu.Lock()
	s.stale[project] = true
	delete(s.absent, project)
	if p := s.made[project]; p != nil {
		delete(s.made, project)
		if s.projects[project] == nil && !s.gone[project] {
			s.projects[project] = p // its transaction is committed: else nobody would say so
		}
	}
	s.mu.Unlock()
	s.rouse()
}

// Run reads what changed until ctx is done. One that fails is tried again, and logged when it begins to fail.
func (s *Sealer) Run(ctx context.Context) error {
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		err := s.refresh(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			s.o.Log.Error("data keys that changed cannot be read: what is sealed by them cannot be opened here until they can", "error", err)
		}
		failing = err != nil
		if !failing {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reloadAgain):
			s.Changed("")
		}
	}
}

// refresh reads what is stale. What could not be read stays so.
func (s *Sealer) refresh(ctx context.Context) error {
	s.mu.Lock()
	stale := s.stale
	s.stale = map[string]bool{}
	s.mu.Unlock()
	if len(stale) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	err := s.reloadOwn(ctx)
	for project := range stale {
		if err == nil && project != "" {
			err = s.loadProject(ctx, project)
		}
	}
	if err == nil && stale[""] {
		err = s.loadProjects(ctx)
	}
	if err != nil {
		s.mu.Lock()
		for project := range stale {
			s.stale[project] = true
		}
		s.mu.Unlock()
	}
	return err
}
