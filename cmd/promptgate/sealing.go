package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/provider"
	providerstore "github.com/promptgate/promptgate/gateway/provider/sqlstore"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/reseal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/seal/kms"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/metrics/feedback"
	policystore "github.com/promptgate/promptgate/policy/sqlstore"
	"github.com/promptgate/promptgate/registry"
	registrystore "github.com/promptgate/promptgate/registry/sqlstore"
)

// sealOptions say where the master key is to be had. Nobody is asked yet.
func sealOptions(ctx context.Context, cfg configs.Config, log *slog.Logger) (seal.Options, error) {
	e := cfg.Encryption
	o := seal.Options{
		DataDir: cfg.Data, Key: e.MasterKey, KeyFile: e.MasterKeyFile, RecoveryKeyFile: e.RecoveryFile, AllowCreate: !cfg.Postgres(), Log: log,
	}
	var err error
	switch e.KMS {
	case "aws":
		o.KMS, err = kms.NewAWS(ctx, kms.AWSOptions{KeyID: e.AWS.KeyID, Region: e.AWS.Region, Endpoint: e.AWS.Endpoint, Timeout: e.KMSTimeout})
	case "vault":
		v := e.Vault
		o.KMS, err = kms.NewVault(kms.VaultOptions{
			Addr: v.Addr, Mount: v.Mount, Key: v.Key, Namespace: v.Namespace, Token: v.Token, TokenFile: v.TokenFile, CAFile: v.CAFile, Timeout: e.KMSTimeout,
		})
	}
	return o, err
}

// keysChanged has data keys that changed read again. It is a subscriber of the journal.
func (s *stores) keysChanged(c journal.Change) {
	if c.Action == journal.ActionShredProject {
		s.sealer.MarkShredded(c.Project)
	}
	for _, t := range c.Touches {
		if t.Kind == seal.TouchKeys {
			s.sealer.Changed(t.Project)
		}
	}
}

// sealing rotates and seals again what this installation holds. comments is the ledger's database.
func (s *stores) sealing(comments *sqldb.DB, log *slog.Logger) *reseal.Runner {
	return reseal.New(reseal.Options{
		DB: s.db, Journal: s.feed.Journal, Sealer: s.sealer, Projects: s.projectIDs, Log: log,
		Columns: append(sealColumns(s),
			feedback.Comments{DB: comments, Sealer: s.sealer}, feedback.Comments{DB: comments, Sealer: s.sealer, History: true}),
		Shredded: func(project string) []journal.Touch {
			return []journal.Touch{registry.ProjectTouch(project), {Kind: provider.TouchProvider, Project: project, Key: project}}
		},
	})
}

// sealColumns are what the main database holds sealed.
func sealColumns(s *stores) []reseal.Column {
	return []reseal.Column{
		registrystore.Texts{S: s.registry}, providerstore.Credentials{S: s.providers}, policystore.Passwords{S: s.keys, Sealer: s.sealer},
		policystore.IssuerSecrets{S: s.keys, Sealer: s.sealer}, journal.Payloads{J: s.feed.Journal},
	}
}

// projectIDs are all projects.
func (s *stores) projectIDs(ctx context.Context) (ids []string, err error) {
	for page := (registry.Page{Limit: 200}); ; {
		found, next, err := s.registry.ListProjects(ctx, page)
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			ids = append(ids, p.ID)
		}
		if next == "" {
			return ids, nil
		}
		page.After = next
	}
}

func registerSealing(reg prometheus.Registerer, s *seal.Sealer, r *reseal.Runner) error {
	job := func(of func(*reseal.Job) int64) func() float64 {
		return func() float64 {
			if j := r.Last(); j != nil && j.State == reseal.Running {
				return float64(of(j))
			}
			return 0
		}
	}
	for _, g := range []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "promptgate_seal_key_age_seconds", Help: "How long the oldest data key that seals has been sealing.",
		}, func() float64 { return time.Since(s.SealsSince()).Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "promptgate_seal_job_running", Help: "1 while data keys are rotated or data is sealed again.",
		}, job(func(*reseal.Job) int64 { return 1 })),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "promptgate_seal_job_remaining", Help: "What is left of the present step of that work: keys, or values.",
		}, job(func(j *reseal.Job) int64 { return j.Total - j.Done })),
	} {
		if err := reg.Register(g); err != nil {
			return err
		}
	}
	return nil
}
