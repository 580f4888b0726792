package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/admin"
	providerstore "github.com/promptgate/promptgate/gateway/provider/sqlstore"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/keys"
	policystore "github.com/promptgate/promptgate/policy/sqlstore"
	"github.com/promptgate/promptgate/registry"
	registrystore "github.com/promptgate/promptgate/registry/sqlstore"
)

// stores is everything that lives in the database, opened and migrated.
type stores struct {
	db        *sqldb.DB
	sealer    *seal.Sealer
	hasher    *keys.Hasher
	journal   *journal.Journal
	registry  *registrystore.Store
	service   *registry.Service
	keys      *policystore.Store
	providers *providerstore.Store
}

// openStores opens, migrates and unseals. Subscribers of the journal register before journal.Load.
func openStores(ctx context.Context, cfg configs.Config, log *slog.Logger, notify ...journal.Notifier) (s *stores, err error) {
	s = &stores{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.db, err = sqldb.Open(ctx, sqldb.Options{URL: cfg.DatabaseURL(), MaxOpen: cfg.Database.MaxOpenConns}); err != nil {
		return s, err
	}
	if err = sqldb.Migrate(ctx, s.db, log); err != nil {
		return s, err
	}
	s.sealer, err = seal.OpenKeys(ctx, s.db, seal.Options{
		DataDir: cfg.Data, Key: cfg.Encryption.MasterKey, KeyFile: cfg.Encryption.MasterKeyFile, AllowCreate: !cfg.Postgres(), Log: log,
	})
	if err != nil {
		return s, err
	}
	o := journal.Options{Log: log}
	if len(notify) > 0 {
		o.Notifier = notify[0]
	}
	s.journal = journal.New(s.db, s.sealer, o)
	if s.hasher, err = keys.NewHasher(s.sealer.DeriveKey(keys.HashPurpose)); err != nil {
		return s, err
	}
	s.registry = registrystore.New(s.db, s.journal, s.sealer, registrystore.Options{})
	s.keys = policystore.New(s.db, s.journal, time.Now)
	s.providers = providerstore.New(s.db, s.journal, s.sealer, providerstore.Options{})
	s.service, err = registry.NewService(s.registry, nil, registry.ServiceOptions{})
	return s, err
}

func (s *stores) close() {
	if s != nil && s.db != nil {
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
		Project: project, Name: in.Name, Roles: in.Roles, Grants: in.Grants, Networks: in.Networks,
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
