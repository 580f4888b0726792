package main

import (
	"context"
	"fmt"
)

type auditCmd struct {
	Verify auditVerifyCmd `cmd:"" help:"Check the journal's hash chain, and that versions and labels are what it says."`
}

type auditVerifyCmd struct{ settings }

// Run reads the database itself: a gateway need not run, and must not be trusted to judge itself.
func (c auditVerifyCmd) Run(ctx context.Context, io *streams) error {
	cfg, err := c.load(nil)
	if err != nil {
		return err
	}
	if err := installed(ctx, cfg, ""); err != nil {
		return err
	}
	s, err := openStores(ctx, cfg, logger(cfg, io.err), nil, false)
	if err != nil {
		return err
	}
	defer s.close()
	report, err := s.feed.Verify(ctx)
	if err != nil {
		return err
	}
	for _, p := range report.Problems {
		fmt.Fprintf(io.out, "revision %d: %s\n", p.Revision, p.Kind)
	}
	fmt.Fprintf(io.out, "%d events, %d sealed payloads, %d shredded; head is revision %d, hash %s\n",
		report.Events, report.Payloads, report.Shredded, report.Head.Revision, report.Head.Hash)
	if !report.OK() {
		return fmt.Errorf("the journal is not as it was written: %d problem(s); the prompts were not compared with it", report.Found)
	}
	fmt.Fprintln(io.out, "the journal is as it was written")
	rows, err := s.registry.Verify(ctx)
	if err != nil {
		return err
	}
	for _, p := range rows.Problems {
		fmt.Fprintln(io.out, p)
	}
	fmt.Fprintf(io.out, "%d versions, %d labels", rows.Versions, rows.Labels)
	if rows.Shredded > 0 {
		fmt.Fprintf(io.out, "; prompts of %d shredded events cannot be compared", rows.Shredded)
	}
	fmt.Fprintln(io.out)
	if !rows.OK() {
		return fmt.Errorf("the prompts are not what the journal says: %d difference(s); restore a backup", rows.Found)
	}
	_, err = fmt.Fprintln(io.out, "the prompts are what the journal says")
	return err
}
