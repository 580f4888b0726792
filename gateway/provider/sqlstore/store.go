// Package sqlstore keeps a project's providers and model aliases in SQL: one implementation on bun for SQLite and PostgreSQL.
// Every write is a journal.Change, every query names its project, and credentials are sealed.
package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/internal/authentic"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
)

// Options tune a Store; the zero value is fit for production.
type Options struct {
	Configured   []string         // names of the providers that every project has
	AllowPrivate bool             // base URLs may be http:// and private: for development
	Clock        func() time.Time // nil means time.Now
	NewID        func() string    // nil means "prov_" and 26 random characters
}

// Store implements provider.Store. It is safe for concurrent use.
type Store struct {
	db      *sqldb.DB
	journal *journal.Journal
	sealer  *seal.Sealer
	o       Options
}

var _ provider.Store = (*Store)(nil)

// New returns a Store on a migrated database.
func New(db *sqldb.DB, j *journal.Journal, s *seal.Sealer, o Options) *Store {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.NewID == nil {
		o.NewID = func() string { return "prov_" + strings.ToLower(rand.Text()) }
	}
	return &Store{db: db, journal: j, sealer: s, o: o}
}

type providerRow struct {
	bun.BaseModel `bun:"table:registry_providers"`

	Project       string `bun:",pk"`
	ID            string `bun:",pk"`
	Name          string
	Kind          string
	BaseURL       string `bun:"base_url"`
	Organization  string
	OpenAIProject string `bun:"openai_project"`
	Models        string
	Enabled       bool
	Prices        string
	Credential    []byte
	CreatedAt     int64
	UpdatedAt     int64
	Revision      int64
}

type modelRow struct {
	bun.BaseModel `bun:"table:registry_models"`

	Project   string `bun:",pk"`
	Name      string `bun:",pk"`
	Targets   string
	UpdatedAt int64
	Revision  int64
}

// Group implements authentic.Grouped: a project's providers are read together.
func (*providerRow) Group() int { return 1 }

// Group implements authentic.Grouped: a project's aliases are read together.
func (*modelRow) Group() int { return 1 }

// Tables are the models of the rows that decide something: every column of them is checked when it is read (journal.Read).
func Tables() []any { return []any{(*providerRow)(nil), (*modelRow)(nil)} }

// place is what a credential is sealed for.
func (r *providerRow) place() seal.Bind {
	return seal.Bind{Table: "registry_providers", Row: r.ID, Column: "credential", Project: r.Project}
}

func (r *providerRow) definition() (provider.Definition, error) {
	d := provider.Definition{
		ID: r.ID, Project: r.Project, Name: r.Name, Kind: r.Kind, BaseURL: r.BaseURL, Organization: r.Organization,
		OpenAIProject: r.OpenAIProject, Enabled: r.Enabled, HasCredential: len(r.Credential) > 0,
		Revision: r.Revision, CreatedAt: micros(r.CreatedAt), UpdatedAt: micros(r.UpdatedAt),
	}
	if err := json.Unmarshal([]byte(r.Models), &d.Models); err != nil {
		return d, fmt.Errorf("provider %s: models: %w", r.ID, err)
	}
	if err := json.Unmarshal([]byte(r.Prices), &d.Prices); err != nil {
		return d, fmt.Errorf("provider %s: prices: %w", r.ID, err)
	}
	return d, nil
}

// fill takes what an editor may set.
func (s *Store) fill(r *providerRow, d provider.Definition) error {
	models, err := json.Marshal(append([]string{}, d.Models...))
	if err != nil {
		return fmt.Errorf("provider %s: models: %w", r.ID, err)
	}
	prices, err := json.Marshal(d.Prices)
	if err != nil {
		return fmt.Errorf("provider %s: prices: %w", r.ID, err)
	}
	r.Prices = string(prices)
	r.Name, r.BaseURL, r.Organization, r.OpenAIProject = d.Name, d.BaseURL, d.Organization, d.OpenAIProject
	r.Models, r.Enabled, r.UpdatedAt = string(models), d.Enabled, s.now()
	if d.Credential.IsZero() {
		return nil
	}
	r.Credential, err = s.sealer.Seal([]byte(d.Credential.Reveal()), r.place())
	if errors.Is(err, seal.ErrShredded) {
		return errShredded()
	}
	return err
}

func (r *modelRow) alias() (provider.Alias, error) {
	a := provider.Alias{Project: r.Project, Name: r.Name, Revision: r.Revision, UpdatedAt: micros(r.UpdatedAt)}
	if err := json.Unmarshal([]byte(r.Targets), &a.Targets); err != nil {
		return a, fmt.Errorf("model %q: targets: %w", r.Name, err)
	}
	return a, nil
}

// rows are all of a project's providers, by name.
func (s *Store) rows(ctx context.Context, project string) ([]providerRow, error) {
	rows, err := journal.Select[providerRow](ctx, s.journal, &providerRow{Project: project}, func(q *bun.SelectQuery) { q.Where("project = ?", project).Order("name") })
	if err != nil {
		return nil, readFault(err, providerGone())
	}
	return rows, nil
}

// one reads the row of a model's primary key by q, or finds that it is not there, and believes neither unless the journal says so.
func (s *Store) one(ctx context.Context, row any, q *bun.SelectQuery) error {
	return s.journal.Read(ctx, func(ctx context.Context, c *authentic.Claims) error {
		return c.One(row, q.Scan(ctx))
	})
}

func (s *Store) now() int64 { return s.o.Clock().UnixMicro() }

func micros(us int64) time.Time { return time.UnixMicro(us).UTC() }

// lock makes a select in a transaction hold its rows until the end. SQLite's transactions have the whole file already.
func (s *Store) lock(q *bun.SelectQuery) *bun.SelectQuery {
	if s.db.Dialect == sqldb.Postgres {
		return q.For("UPDATE")
	}
	return q
}

// readFault says what a failed read means: a row that is not there, or a store that cannot answer; never one for the other.
func readFault(err error, absent *fault.Error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return absent
	}
	err = sqldb.Classify(err)
	var f *fault.Error
	if errors.As(err, &f) {
		return err
	}
	return fault.Wrap(err, fault.RegistryUnavailable, "The project's providers cannot be read now: try again shortly.")
}

// storable reports whether a database could hold this key at all: PostgreSQL answers NUL and invalid UTF-8 with an error that
// would look like a fault of ours.
func storable(key string) bool { return utf8.ValidString(key) && strings.IndexByte(key, 0) < 0 }

func providerGone() *fault.Error { return fault.New(fault.NotFound, "There is no such provider.") }

func errShredded() *fault.Error {
	return fault.New(fault.ProjectShredded, "This project was shredded: the credentials of its providers are gone for good. Create another project.")
}

func aliasGone() *fault.Error { return fault.New(fault.NotFound, "There is no such model alias.") }

func sameRevision(what string, stored, given int64) error {
	if stored == given {
		return nil
	}
	return fault.New(fault.PreconditionFailed, "The %s was changed meanwhile: read it again, then repeat your change.", what)
}

// taken turns a unique key's refusal into a Conflict that names what is taken.
func taken(err error, what, name string) error {
	if sqldb.IsUnique(err) {
		return fault.Wrap(err, fault.Conflict, "There is a %s called %q already: choose another name.", what, name)
	}
	return err
}

func touch(project, key string) []journal.Touch {
	return []journal.Touch{{Kind: provider.TouchProvider, Project: project, Key: key}}
}

// Load implements provider.Source.
func (s *Store) Load(ctx context.Context, project string) ([]provider.Definition, []provider.Alias, error) {
	rows, err := s.rows(ctx, project)
	if err != nil {
		return nil, nil, err
	}
	defs := make([]provider.Definition, 0, len(rows))
	for i := range rows {
		if !rows[i].Enabled {
			continue
		}
		d, err := rows[i].definition()
		if err != nil {
			return nil, nil, readFault(err, nil)
		}
		if d.HasCredential {
			plain, err := s.sealer.Open(rows[i].Credential, rows[i].place())
			if errors.Is(err, seal.ErrShredded) {
				return nil, nil, errShredded()
			}
			if err != nil {
				return nil, nil, readFault(err, nil)
			}
			d.Credential = provider.NewSecret(string(plain))
		}
		defs = append(defs, d)
	}
	aliases, err := s.ListAliases(ctx, project)
	return defs, aliases, err
}
