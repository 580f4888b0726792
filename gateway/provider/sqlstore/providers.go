package sqlstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/metrics"
)

// record is a provider as the journal keeps it: without its credential, but saying that one was entered.
type record struct {
	Name          string            `json:"name"`
	Kind          string            `json:"kind"`
	BaseURL       string            `json:"base_url"`
	Organization  string            `json:"organization,omitempty"`
	OpenAIProject string            `json:"openai_project,omitempty"`
	Models        []string          `json:"models"`
	Enabled       bool              `json:"enabled"`
	Prices        metrics.PriceList `json:"price_list"`
	Credential    string            `json:"credential"` // "none", "stored" or "entered"
}

func recordOf(d provider.Definition, entered bool) record {
	r := record{d.Name, d.Kind, d.BaseURL, d.Organization, d.OpenAIProject, d.Models, d.Enabled, d.Prices, "none"}
	switch {
	case entered:
		r.Credential = "entered"
	case d.HasCredential:
		r.Credential = "stored"
	}
	return r
}

// ListProviders implements provider.Store: by name.
func (s *Store) ListProviders(ctx context.Context, project string) ([]provider.Definition, error) {
	rows, err := s.rows(ctx, project)
	if err != nil {
		return nil, err
	}
	out := make([]provider.Definition, 0, len(rows))
	for i := range rows {
		d, err := rows[i].definition()
		if err != nil {
			return nil, readFault(err, nil)
		}
		out = append(out, d)
	}
	return out, nil
}

// GetProvider implements provider.Store.
func (s *Store) GetProvider(ctx context.Context, project, id string) (provider.Definition, error) {
	row := providerRow{Project: project, ID: id}
	if !storable(id) {
		return provider.Definition{}, providerGone()
	}
	if err := s.one(ctx, &row, s.db.NewSelect().Model(&row).WherePK()); err != nil {
		return provider.Definition{}, readFault(err, providerGone())
	}
	d, err := row.definition()
	if err != nil {
		return provider.Definition{}, readFault(err, nil)
	}
	return d, nil
}

// CreateProvider implements provider.Store.
func (s *Store) CreateProvider(ctx context.Context, by journal.Origin, d provider.Definition) (provider.Definition, error) {
	if err := d.Check(s.o.AllowPrivate); err != nil {
		return provider.Definition{}, err
	}
	row := providerRow{Project: d.Project, ID: s.o.NewID(), Kind: d.Kind, Credential: []byte{}, CreatedAt: s.now()}
	if err := s.fill(&row, d); err != nil {
		return provider.Definition{}, err
	}
	ev := journal.Event{
		Project: d.Project, Origin: by, Action: "provider.create", Object: "provider:" + row.ID,
		After: recordOf(d, !d.Credential.IsZero()), Touches: touch(d.Project, row.ID),
	}
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		row.Revision = revision
		ev.Adds(&row)
		_, err := tx.NewInsert().Model(&row).Exec(ctx)
		return taken(err, "provider", d.Name)
	}
	if _, err := s.journal.Change(ctx, &ev, func(context.Context, bun.Tx) error { return nil }); err != nil {
		return provider.Definition{}, err
	}
	return row.definition()
}

// UpdateProvider implements provider.Store.
func (s *Store) UpdateProvider(ctx context.Context, by journal.Origin, d provider.Definition) (provider.Definition, error) {
	if err := d.Check(s.o.AllowPrivate); err != nil {
		return provider.Definition{}, err
	}
	var row providerRow
	ev := journal.Event{
		Project: d.Project, Origin: by, Action: "provider.update", Object: "provider:" + d.ID, Touches: touch(d.Project, d.ID),
	}
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		row.Revision = revision
		ev.Sets(&row)
		_, err := tx.NewUpdate().Model(&row).WherePK().Exec(ctx)
		return taken(err, "provider", d.Name)
	}
	_, err := s.journal.Change(ctx, &ev, func(ctx context.Context, tx bun.Tx) error {
		var err error
		if row, err = s.lockProvider(ctx, tx, d.Project, d.ID); err != nil {
			return err
		}
		before, err := row.definition()
		if err != nil {
			return err
		}
		if err := sameRevision("provider", before.Revision, d.Revision); err != nil {
			return err
		}
		if err := before.CheckUpdate(d); err != nil {
			return err
		}
		if before.Name != d.Name {
			if err := s.unnamed(ctx, d.Project, before.Name); err != nil {
				return err
			}
		}
		if err := s.fill(&row, d); err != nil {
			return err
		}
		d.HasCredential = before.HasCredential
		ev.Before, ev.After = recordOf(before, false), recordOf(d, !d.Credential.IsZero())
		return nil
	})
	if err != nil {
		return provider.Definition{}, err
	}
	return row.definition()
}

// DeleteProvider implements provider.Store.
func (s *Store) DeleteProvider(ctx context.Context, by journal.Origin, project, id string, revision int64) (int64, error) {
	ev := journal.Event{
		Project: project, Origin: by, Action: "provider.delete", Object: "provider:" + id, Touches: touch(project, id),
	}
	return s.journal.Change(ctx, &ev, func(ctx context.Context, tx bun.Tx) error {
		row, err := s.lockProvider(ctx, tx, project, id)
		if err != nil {
			return err
		}
		before, err := row.definition()
		if err != nil {
			return err
		}
		if revision != 0 {
			if err := sameRevision("provider", row.Revision, revision); err != nil {
				return err
			}
		}
		if err := s.unnamed(ctx, project, row.Name); err != nil {
			return err
		}
		ev.Before = recordOf(before, false)
		ev.Drops(&row)
		_, err = tx.NewDelete().Model(&row).WherePK().Exec(ctx)
		return err
	})
}

func (s *Store) lockProvider(ctx context.Context, tx bun.Tx, project, id string) (providerRow, error) {
	row := providerRow{Project: project, ID: id}
	if !storable(id) {
		return row, providerGone()
	}
	err := s.one(ctx, &row, s.lock(tx.NewSelect().Model(&row).WherePK()))
	if errors.Is(err, sql.ErrNoRows) {
		return row, providerGone()
	}
	return row, err
}

// unnamed refuses to take a name away that an alias uses. An alias made at the same moment may still end up with a name that is
// gone; routing leaves such a target out.
func (s *Store) unnamed(ctx context.Context, project, name string) error {
	aliases, err := s.aliases(ctx, project)
	if err != nil {
		return err
	}
	for _, a := range aliases {
		for _, t := range a.Targets {
			if t.Provider == name {
				return fault.New(fault.Conflict, "The model alias %q uses the provider %q: change the alias first.", a.Name, name)
			}
		}
	}
	return nil
}
