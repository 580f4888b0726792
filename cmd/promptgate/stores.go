package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/admin"
	providerstore "github.com/promptgate/promptgate/gateway/provider/sqlstore"
	"github.com/promptgate/promptgate/gateway/scim"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/keys"
	limitstore "github.com/promptgate/promptgate/policy/limits/sqlstore"
	"github.com/promptgate/promptgate/policy/rbac"
	policystore "github.com/promptgate/promptgate/policy/sqlstore"
	"github.com/promptgate/promptgate/policy/uses"
	"github.com/promptgate/promptgate/registry"
	registrystore "github.com/promptgate/promptgate/registry/sqlstore"
)

// stores is everything that lives in the database, opened and migrated.
type stores struct {
	db        *sqldb.DB
	sealer    *seal.Sealer
	hasher    *keys.Hasher
	scim      *scim.Tokens
	feed      *feed
	reads     *metrics.Reads
	shared    *shared       // nil without Redis
	seen      *journal.Seen // what was seen here before; nil when nothing was
	lastKnown *lastKnown    // set when the database is down and what was served last stands in for it
	registry  *registrystore.Store
	service   *registry.Service
	checker   *rbac.Checker
	keys      *policystore.Store
	uses      *uses.Log
	providers *providerstore.Store
	limits    *limitstore.Store
}

// decidingTables are the models of all rows that decide something: what the database says of them is believed only when the journal says the same.
func decidingTables() []any {
	return slices.Concat(registrystore.Tables(), policystore.Tables(), providerstore.Tables(), limitstore.Tables())
}

// startTimeout bounds how long a start waits for a database that does not answer before it serves what was served last.
const startTimeout = 5 * time.Second

// openStores opens, migrates and unseals. Subscribers register with feed before feed.Load. reg may be nil. standIn allows a start
// without the database from the last-known-good file.
func openStores(ctx context.Context, cfg configs.Config, log *slog.Logger, reg prometheus.Registerer, standIn bool) (*stores, error) {
	return openStoresAs(ctx, cfg, log, reg, opening{standIn: standIn})
}

// opening is how the database is opened.
type opening struct {
	standIn     bool // start without it, when it is down
	whateverAge bool // also when a newer one was seen here
}

func openStoresAs(ctx context.Context, cfg configs.Config, log *slog.Logger, reg prometheus.Registerer, how opening) (s *stores, err error) {
	s = &stores{feed: &feed{}, reads: metrics.NewReads()}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.db, err = sqldb.Open(ctx, sqldb.Options{URL: cfg.DatabaseURL(), MaxOpen: cfg.Database.MaxOpenConns}); err != nil {
		return s, err
	}
	if err = s.unseal(ctx, cfg, log, how.standIn); err != nil {
		return s, err
	}
	if s.shared, err = openShared(s, cfg, log, reg); err != nil {
		return s, err
	}
	if s.feed.Journal, err = openJournal(s, cfg, log, how); err != nil {
		return s, err
	}
	s.shared.subscribe(s.feed.Journal)
	s.feed.Subscribe(s.keysChanged)
	if s.hasher, err = keys.NewHasher(s.sealer.DeriveKey(keys.HashPurpose)); err != nil {
		return s, err
	}
	if s.scim, err = scim.NewTokens(s.sealer.DeriveKey(scim.HashPurpose)); err != nil {
		return s, err
	}
	s.keys = policystore.New(s.db, s.feed.Journal, time.Now)
	if s.uses, err = uses.New(uses.Options{Keeper: s.keys}); err != nil {
		return s, err
	}
	if s.checker, err = rbac.New(rbac.Options{MaxDecisions: cfg.Cache.Decisions, Uses: s.uses}); err != nil {
		return s, err
	}
	s.registry = registrystore.New(s.db, s.feed.Journal, s.sealer, registrystore.Options{Gate: admin.NewGate(s.checker, s.keys, time.Now)})
	s.limits = limitstore.New(s.db, s.feed.Journal, time.Now)
	s.providers = providerstore.New(s.db, s.feed.Journal, s.sealer, providerstore.Options{Configured: names(cfg.Providers)})
	s.service, err = registry.NewService(s.registry, registry.ServiceOptions{})
	return s, err
}

// openJournal makes the journal, which refuses a database that is older than what was seen here or noted in the configuration.
func openJournal(s *stores, cfg configs.Config, log *slog.Logger, how opening) (*journal.Journal, error) {
	o := journal.Options{Log: log, Notifier: s.shared.notifier(), Dir: cfg.Data}
	if !how.whateverAge {
		var err error
		if o.Seen, err = journal.ReadSeen(cfg.Data, s.sealer); err != nil {
			return nil, err
		}
		s.seen = o.Seen
	}
	if l := s.lastKnown; l != nil && o.Seen != nil && l.Revision < o.Seen.Since {
		return nil, fmt.Errorf("the database cannot be reached, and the %s file is older than the one that was written here last (revision %d, not %d)",
			lastKnownName, l.Revision, o.Seen.Since)
	}
	if text := cfg.Database.Anchor; text != "" {
		a, err := journal.ParseAnchor(text)
		if err != nil {
			return nil, fmt.Errorf("database.anchor: %w", err)
		}
		o.Anchors = append(o.Anchors, a)
	}
	return journal.New(s.db, s.sealer, o), nil
}

// unseal migrates and opens the data keys; when the database does not answer, those of the last-known-good file.
func (s *stores) unseal(ctx context.Context, cfg configs.Config, log *slog.Logger, standIn bool) error {
	o, err := sealOptions(ctx, cfg, log)
	if err != nil {
		return err
	}
	down := s.reach(ctx)
	if down == nil {
		if err := sqldb.Migrate(ctx, s.db, log); err != nil {
			return err
		}
		s.sealer, err = seal.OpenKeys(ctx, s.db, o)
		return err
	}
	if !standIn || ctx.Err() != nil {
		return down
	}
	s.lastKnown, s.sealer, err = readLastKnown(cfg.Data, func(exported []byte) (*seal.Sealer, error) {
		return seal.OpenExported(ctx, exported, s.db, o)
	})
	if err != nil {
		return explainMissing(down, err)
	}
	log.Warn("the database does not answer: serving what was served last, until it does",
		"revision", s.lastKnown.Revision, "confirmed", s.lastKnown.ConfirmedAt, "error", down)
	return nil
}

// reach asks the database for an answer within startTimeout.
func (s *stores) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return sqldb.Classify(s.db.PingContext(ctx))
}

// load starts the feed: from the database's present revision, or from the last-known-good file's, whose changes since will follow.
func (s *stores) load(ctx context.Context) error {
	if l := s.lastKnown; l != nil {
		s.feed.Resume(l.Revision)
		s.feed.snapshot.Store(l.ConfirmedAt.UnixNano())
		if s.shared != nil {
			s.shared.cache.Seed(l.Revision, nil)
		}
		return nil
	}
	if err := s.feed.Load(ctx); err != nil {
		return err
	}
	s.sealer.MarkShredded(s.feed.Shredded()...)
	return s.shared.seed(ctx, s.feed.Journal)
}

//nolint:contextcheck // everything is closed, whoever gave up
func (s *stores) close() {
	if s == nil {
		return
	}
	if s.feed.Journal != nil {
		_ = s.feed.Keep() // what Run could not keep it has logged
	}
	_ = s.shared.close(context.Background())
	if s.db != nil {
		_ = s.db.Close()
	}
}

// ensureProject finds a project by its name, or creates it.
func (s *stores) ensureProject(ctx context.Context, by journal.Origin, name string) (registry.Project, error) {
	p, err := s.service.Project(ctx, name)
	if !fault.Is(err, fault.NotFound) {
		return p, err
	}
	return s.service.CreateProject(ctx, by, registry.ProjectInput{Name: name})
}

// createKey issues a key as the system, which may grant anything.
func (s *stores) createKey(ctx context.Context, by journal.Origin, project string, in admin.KeyCreate) (secret, id string, err error) {
	issued, err := s.hasher.Issue(rand.Reader)
	if err != nil {
		return "", "", err
	}
	r := policy.KeyRecord{
		Project: project, Name: in.Name, Owner: in.Owner, Inherits: in.Inherits, Roles: in.Roles, Grants: in.Grants, Networks: in.Networks,
		Lookup: issued.Lookup, Hash: issued.Hash, LastFour: issued.LastFour,
	}
	if in.ExpiresAt != nil {
		r.Expires = *in.ExpiresAt
	}
	system := &policy.Principal{ID: by.Actor.ID, Kind: policy.KindSystem, Name: by.Actor.Name, Project: project}
	k, err := s.keys.CreateKey(ctx, by, system, r)
	return issued.Plaintext, k.ID, err
}

// issuer is what the management API makes keys with.
func (s *stores) issuer() (admin.Issued, error) {
	i, err := s.hasher.Issue(rand.Reader)
	return admin.Issued{Plaintext: i.Plaintext, Lookup: i.Lookup, Hash: i.Hash, LastFour: i.LastFour}, err
}

// logger writes to w as the configuration says.
func logger(cfg configs.Config, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelInfo // Validate has refused it before
	}
	o := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// writeFileWhole writes a file so that readers see all of it or nothing, readable by its owner only.
func writeFileWhole(name string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func names(list []configs.Provider) []string {
	out := make([]string, 0, len(list))
	for _, p := range list {
		out = append(out, p.Name)
	}
	return out
}
