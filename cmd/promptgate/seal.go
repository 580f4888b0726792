package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/reseal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy"
)

type sealCmd struct {
	Status    sealStatusCmd    `cmd:"" help:"Show the data keys, what each seals, and the work that goes on."`
	Rotate    sealRotateCmd    `cmd:"" help:"Replace the data keys, of the installation and of each project, while gateways serve."`
	Reencrypt sealReencryptCmd `cmd:"" help:"Seal everything by the present keys, then destroy old ones that nothing needs, while gateways serve."`
	Rewrap    sealRewrapCmd    `cmd:"" help:"Replace the master key, or the key of the key management service that wraps it."`
}

// sealing is what the commands work with: on the database itself, beside gateways that run.
type sealing struct {
	s      *stores
	runner *reseal.Runner
	ledger *sqldb.DB // of its own on SQLite, else the stores'
}

func (c settings) sealing(ctx context.Context, io *streams) (*sealing, error) {
	cfg, err := c.load(nil)
	if err != nil {
		return nil, err
	}
	if err := installed(ctx, cfg, ""); err != nil {
		return nil, err
	}
	return openSealing(ctx, cfg, io)
}

func openSealing(ctx context.Context, cfg configs.Config, io *streams) (*sealing, error) {
	s, err := openStores(ctx, cfg, logger(cfg, io.err), nil, false)
	if err != nil {
		return nil, err
	}
	out := &sealing{s: s, ledger: s.db}
	if !cfg.Postgres() {
		if out.ledger, err = sqldb.Open(ctx, sqldb.Options{URL: cfg.LedgerURL()}); err != nil {
			s.close()
			return nil, err
		}
	}
	err = sqldb.Migrate(ctx, out.ledger, logger(cfg, io.err), sqldb.Ledger)
	if err == nil {
		err = s.load(ctx)
	}
	if err != nil {
		out.close()
		return nil, err
	}
	out.runner = s.sealing(out.ledger, logger(cfg, io.err))
	return out, nil
}

func (o *sealing) close() {
	if o.ledger != o.s.db {
		_ = o.ledger.Close()
	}
	o.s.close()
}

func commandLine(why string) journal.Origin {
	return journal.Origin{Actor: journal.Actor{Kind: policy.KindSystem, ID: "cli", Name: "command line"}, Why: why}
}

type sealStatusCmd struct {
	settings
	JSON bool `name:"json" help:"As the management API tells it, in JSON."`
}

// Run counts what every key seals.
func (c sealStatusCmd) Run(ctx context.Context, io *streams) error {
	o, err := c.sealing(ctx, io)
	if err != nil {
		return err
	}
	defer o.close()
	use, err := o.runner.Use(ctx)
	if err != nil {
		return err
	}
	jobs, err := o.runner.Jobs(ctx, 5)
	if err != nil {
		return err
	}
	st := admin.SealStatusOf(use, jobs)
	if c.JSON {
		enc := json.NewEncoder(io.exact)
		enc.SetIndent("", "  ")
		return enc.Encode(st)
	}
	master, by, replacing, err := o.s.sealer.Replacing(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(io.out, "master key %s, from %s\n", master, by)
	if replacing {
		fmt.Fprintln(io.out, "it is being replaced: give every gateway the new one, then `promptgate seal rewrap --finish`")
	}
	fmt.Fprintf(io.out, "%d sealed values, %d of them by older keys\n\n", st.Values, st.Stale)
	w := newTable(io.out, "PROJECT", "KEY", "STATE", "SINCE", "VALUES")
	for _, k := range st.Keys {
		of, since := k.Project, k.MadeAt
		if of == "" {
			of = "(installation)"
		}
		if k.SealsSince != nil {
			since = *k.SealsSince
		}
		w.row(of, k.ID, k.State, stamp(since), k.Values)
	}
	for _, p := range st.Shredded {
		w.row(p, "", "shredded", "", "")
	}
	if err := w.flush(); err != nil {
		return err
	}
	for _, j := range st.Jobs {
		fmt.Fprintf(io.out, "\n%s %s: %s", j.Kind, j.ID, j.State)
		if j.State == reseal.Running {
			fmt.Fprintf(io.out, ", %s, %d of %d", j.Phase, j.Done, j.Total)
		}
		fmt.Fprintf(io.out, ", begun %s", stamp(j.StartedAt))
		if j.Failure != "" {
			fmt.Fprintf(io.out, "; %s", j.Failure)
		}
	}
	if len(st.Jobs) > 0 {
		fmt.Fprintln(io.out)
	}
	return nil
}

type sealRotateCmd struct{ settings }

// Run rotates, or goes on with a rotation that was interrupted.
func (c sealRotateCmd) Run(ctx context.Context, io *streams) error {
	o, err := c.sealing(ctx, io)
	if err != nil {
		return err
	}
	defer o.close()
	if err := o.run(ctx, io, reseal.Rotate, 0); err != nil {
		return err
	}
	_, err = fmt.Fprintln(io.out, "new keys seal from now on; what older ones sealed is opened as before, until `promptgate seal reencrypt`")
	return err
}

type sealReencryptCmd struct {
	settings
	DropAfter time.Duration `help:"How long a key must not have sealed before it is destroyed: longer than any replica may be down with comments in its spool." default:"24h"`
}

// Run seals again, or goes on with what was interrupted.
func (c sealReencryptCmd) Run(ctx context.Context, io *streams) error {
	if c.DropAfter <= 0 {
		return errUsage{errors.New("--drop-after must be more than 0")}
	}
	o, err := c.sealing(ctx, io)
	if err != nil {
		return err
	}
	defer o.close()
	return o.run(ctx, io, reseal.Reencrypt, c.DropAfter)
}

// run starts a job, or takes up the one of this kind that runs, and follows it to its end.
func (o *sealing) run(ctx context.Context, io *streams, kind reseal.Kind, dropAfter time.Duration) error {
	job, err := o.runner.Start(ctx, commandLine("promptgate seal "+string(kind)), kind, dropAfter)
	if fault.Is(err, fault.Conflict) {
		jobs, listErr := o.runner.Jobs(ctx, 1)
		if listErr != nil || len(jobs) == 0 || jobs[0].State != reseal.Running || jobs[0].Kind != kind {
			return errors.Join(err, listErr)
		}
		job, err = &jobs[0], nil
		fmt.Fprintf(io.err, "going on with %s\n", job.ID)
	}
	if err != nil {
		return err
	}
	said := ""
	ended, err := o.runner.Follow(ctx, job.ID, func(j *reseal.Job) {
		now := j.Phase
		if j.Total > 0 {
			now = fmt.Sprintf("%s: %d of %d", j.Phase, j.Done, j.Total)
		}
		if j.Phase != "" && now != said {
			said = now
			fmt.Fprintln(io.err, now)
		}
	})
	if err != nil {
		return fmt.Errorf("%s goes on where a gateway runs, or with this command again: %w", job.ID, err)
	}
	if ended.State == reseal.Failed {
		return errors.New(ended.Failure)
	}
	_, err = fmt.Fprintf(io.out, "%s done\n", ended.Kind)
	return err
}

type sealRewrapCmd struct {
	settings
	To     string `help:"The configuration file whose encryption section says what shall hold the master key; without it, a new master key as the present one says (of a key management service)." type:"existingfile" placeholder:"FILE"`
	Finish bool   `help:"Forget the old master key: once every gateway was restarted with the new one."`
}

// Help implements kong's detailed help.
func (sealRewrapCmd) Help() string {
	return "The data keys are sealed by the new master key, and until --finish by the old one as well: gateways with either start and serve. " +
		"Restart each with the new configuration, then run this with it and --finish. `promptgate help encryption` has the steps."
}

// Run replaces the master key.
func (c sealRewrapCmd) Run(ctx context.Context, io *streams) error {
	if c.Finish && c.To != "" {
		return errUsage{errors.New("--finish goes with the new configuration (--config), without --to")}
	}
	o, err := c.sealing(ctx, io)
	if err != nil {
		return err
	}
	defer o.close()
	sealer := o.s.sealer
	if c.Finish {
		_, err := o.s.feed.Change(ctx, &journal.Event{Origin: commandLine("promptgate seal rewrap --finish"), Action: "seal.rewrap_finish", Object: "master-key"},
			func(ctx context.Context, tx bun.Tx) error { return sealer.FinishRewrap(ctx, tx) })
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(io.out, "the old master key opens nothing of this database any more; backups from before still want it, so take a new one")
		return err
	}
	cfg, err := c.target()
	if err != nil {
		return err
	}
	to, err := sealOptions(ctx, cfg, logger(cfg, io.err))
	if err != nil {
		return err
	}
	to.AllowCreate = false
	next, err := sealer.PrepareRewrap(ctx, to)
	if err != nil {
		return err
	}
	_, err = o.s.feed.Change(ctx, &journal.Event{Origin: commandLine("promptgate seal rewrap"), Action: "seal.rewrap", Object: "master-key"},
		func(ctx context.Context, tx bun.Tx) error { return sealer.Rewrap(ctx, tx, next) })
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(io.out, "the data keys are sealed by both master keys now: restart every gateway with the new configuration, then run `promptgate seal rewrap --finish` with it")
	return err
}

// target is the configuration that says how the master key shall be had.
func (c sealRewrapCmd) target() (configs.Config, error) {
	cfg, err := c.load(nil)
	if err != nil || c.To == "" {
		if err == nil && cfg.Encryption.KMS == "" {
			err = errUsage{errors.New("the master key is configured itself: name the configuration with the new one by --to")}
		}
		return cfg, err
	}
	next := c.settings
	next.Config = c.To
	return next.load(nil)
}

type projectCmd struct {
	SignIn projectSignInCmd `cmd:"" name:"sign-in" help:"Say or choose how people must have signed in to use the project."`
	Shred  projectShredCmd  `cmd:"" help:"Destroy a project's keys: its texts, credentials and comments are gone for good."`
}

type projectShredCmd struct {
	settings
	Project string `arg:"" help:"The project's name."`
	Confirm string `help:"The project's name again, instead of typing it." placeholder:"NAME"`
	Why     string `help:"For the journal."`
}

// Help implements kong's detailed help.
func (projectShredCmd) Help() string {
	return "Names, labels, figures and the journal's chain stay. Nothing brings the rest back, but a backup from before with the master key that it was made " +
		"under: `promptgate help encryption` says how those are made unreadable too. The gateway's management API does the same: POST /api/v1/project/shred."
}

// Run shreds after the name was typed.
func (c projectShredCmd) Run(ctx context.Context, io *streams) error {
	o, err := c.sealing(ctx, io)
	if err != nil {
		return err
	}
	defer o.close()
	p, err := o.s.service.Project(ctx, c.Project)
	if err != nil {
		return err
	}
	typed := c.Confirm
	if typed == "" {
		fmt.Fprintf(io.err, "Every text, credential and comment of %q will be gone for good, here and on every replica. Type the project's name to go on: ", p.Name)
		line, err := bufio.NewReader(io.in).ReadString('\n')
		if err != nil && line == "" {
			return errUsage{errors.New("nothing was typed, and nothing was done")}
		}
		typed = strings.TrimSpace(line)
	}
	if typed != p.Name {
		return errUsage{fmt.Errorf("%q is not %q: nothing was done", typed, p.Name)}
	}
	why := c.Why
	if why == "" {
		why = "promptgate project shred"
	}
	if _, err := o.runner.Shred(ctx, commandLine(why), p.ID); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s is shredded. Backups from before hold its keys, sealed: to end those too, replace the master key (`promptgate seal rewrap`), "+
		"take a new backup and destroy the old master key.\n", p.Name)
	return err
}
