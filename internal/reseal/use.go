package reseal

import (
	"context"
	"fmt"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
)

// Use is which keys there are and what each seals, as it was counted.
type Use struct {
	Held    []seal.Held // the installation's first
	Columns []ColumnUse
}

// ColumnUse is what of one column is sealed by which keys.
type ColumnUse struct {
	Name   string
	Counts []seal.Count
}

// Use counts. It reads every sealed row's first bytes.
func (r *Runner) Use(ctx context.Context) (*Use, error) {
	u := &Use{}
	var err error
	if u.Held, err = r.o.Sealer.Holdings(ctx); err != nil {
		return nil, err
	}
	for _, c := range r.o.Columns {
		counts, err := c.Count(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name(), err)
		}
		u.Columns = append(u.Columns, ColumnUse{c.Name(), counts})
	}
	return u, nil
}

func (u *Use) held(project string) *seal.Held {
	for i := range u.Held {
		if u.Held[i].Project == project {
			return &u.Held[i]
		}
	}
	return &u.Held[0] // without keys of its own: the installation's
}

// primary is the key that seals what belongs to a project.
func (u *Use) primary(project string) uint32 { return u.held(project).Primary }

func (u *Use) stale(c seal.Count) bool {
	h := u.held(c.Project)
	return h.Shredded.IsZero() && c.Key != h.Primary
}

// Stale is how many values are not sealed by the key that seals now. What belongs to shredded projects does not count.
func (u *Use) Stale() (n int64) {
	for _, c := range u.Columns {
		for _, count := range c.Counts {
			if u.stale(count) {
				n += count.Values
			}
		}
	}
	return n
}

// Values is how many sealed values there are.
func (u *Use) Values() (n int64) {
	for _, c := range u.Columns {
		for _, count := range c.Counts {
			n += count.Values
		}
	}
	return n
}

// staleIn are the projects with stale values in a column.
func (u *Use) staleIn(column int) (projects []string) {
	seen := map[string]bool{}
	for _, c := range u.Columns[column].Counts {
		if u.stale(c) && !seen[c.Project] {
			seen[c.Project] = true
			projects = append(projects, c.Project)
		}
	}
	return projects
}

// SealedBy is how many values a key of a project, or of the installation, seals, in projects without keys of their own as well.
func (u *Use) SealedBy(project string, key uint32) (n int64) {
	for _, c := range u.Columns {
		for _, count := range c.Counts {
			if count.Key == key && (project == "" || count.Project == project) {
				n += count.Values
			}
		}
	}
	return n
}

// Foreign is how many values of a project the installation's keys seal, which shredding would not reach. It empties the journal's payloads.
func (u *Use) Foreign(project string) (n int64) {
	h := u.held(project)
	own := map[uint32]bool{}
	for _, f := range h.Keys {
		own[f.ID] = h.Project == project
	}
	for _, c := range u.Columns {
		if c.Name == (journal.Payloads{}).Name() {
			continue
		}
		for _, count := range c.Counts {
			if count.Project == project && !own[count.Key] {
				n += count.Values
			}
		}
	}
	return n
}

// needs reports whether anything is sealed by a key.
func (u *Use) needs(project string, key uint32) bool {
	if u.SealedBy(project, key) > 0 {
		return true
	}
	if project != "" {
		return false
	}
	for _, h := range u.Held {
		if h.SealedBy == key {
			return true
		}
	}
	return false
}
