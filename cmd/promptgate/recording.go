package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/metrics/ledger"
	"github.com/promptgate/promptgate/metrics/pricing"
)

// recording is all that keeps what happened: the spool and the ledger behind it, the price table, the metrics.
type recording struct {
	*ledger.Ledger
	db         *sqldb.DB
	ownsDB     bool   // SQLite: the ledger is a file of its own
	aside      string // where a damaged ledger was put at this start; "" when it was sound
	damaged    atomic.Bool
	pricer     *pricing.Table
	collectors *metrics.Collectors
}

func openRecording(ctx context.Context, cfg configs.Config, log *slog.Logger, s *stores, reg *prometheus.Registry) (*recording, error) {
	r := &recording{db: s.db}
	if !cfg.Postgres() {
		var err error
		if r.db, r.aside, err = openLedgerFile(ctx, cfg, log); err != nil {
			return nil, err
		}
		r.ownsDB = true
	}
	fail := func(err error) (*recording, error) {
		if r.ownsDB {
			_ = r.db.Close()
		}
		return nil, err
	}
	if s.lastKnown == nil { // else when the database answers, see migrateLate
		if err := sqldb.Migrate(ctx, r.db, log, sqldb.Ledger); err != nil {
			return fail(err)
		}
	}
	var err error
	if r.pricer, err = pricing.New(); err != nil {
		return fail(err)
	}
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if r.collectors, err = metrics.NewCollectors(reg, metrics.CollectorOptions{Catalogued: r.pricer.Lists}); err != nil {
		return fail(err)
	}
	r.Ledger, err = ledger.Open(ledger.Options{
		DB: r.db, Dir: filepath.Join(cfg.Data, "spool"), Sealer: s.sealer, Log: log, MaxBytes: cfg.Spool.MaxBytes,
		OnFeedback: r.collectors.ObserveFeedback, OnDamage: r.onDamage(cfg, log),
	})
	if err != nil {
		return fail(err)
	}
	if err := metrics.RegisterSpool(reg, r.SpoolStats); err != nil {
		return fail(errors.Join(err, r.Close(ctx)))
	}
	return r, nil
}

// FindCall implements gateway.Calls.
func (r *recording) FindCall(ctx context.Context, project, callID, completionID string) (metrics.Call, error) {
	if callID == "" {
		id, err := r.FindByCompletionID(ctx, project, completionID)
		if err != nil {
			return metrics.Call{}, err
		}
		callID = id
	}
	c, err := r.Call(ctx, project, callID)
	if err != nil {
		return metrics.Call{}, err
	}
	return *c, nil
}

// recordable fails while calls cannot be recorded.
func (r *recording) recordable(context.Context) error {
	if err := r.Reserve(); err != nil {
		return err
	}
	r.Release()
	return nil
}

// onDamage has the next start set the ledger aside, unless it is a table of PostgreSQL.
func (r *recording) onDamage(cfg configs.Config, log *slog.Logger) func(error) {
	if !r.ownsDB {
		return nil
	}
	return func(err error) {
		r.damaged.Store(true)
		log.Error("the ledger is damaged: calls wait in the spool; a restart sets it aside, begins a new one and commits them", "error", err)
		if err := os.WriteFile(damageMarker(cfg), nil, 0o600); err != nil {
			log.Error("the next start cannot be told that the ledger is damaged: move ledger.db aside by hand", "error", err)
		}
	}
}

// whole fails when the ledger is damaged, or was when this start set it aside.
func (r *recording) whole(context.Context) error {
	if r.damaged.Load() {
		return errors.New("the ledger is damaged and calls wait in the spool: restart, and it is set aside and a new one begun")
	}
	if r.aside != "" {
		return errors.New("the ledger was damaged at the start: a new one was begun, and the old one is kept as " + r.aside)
	}
	return nil
}

// healthy fails while the spool cannot take all that comes.
func (r *recording) healthy(context.Context) error {
	if s := r.SpoolStats(); s.Bytes > s.MaxBytes/2 {
		return errors.New("more than half of the spool waits for the database")
	}
	return nil
}

func (r *recording) close(ctx context.Context) error {
	err := r.Close(ctx)
	if r.ownsDB {
		err = errors.Join(err, r.db.Close())
	}
	return err
}
