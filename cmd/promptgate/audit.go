package main

import (
	"context"
	"errors"
	"fmt"
)

type auditCmd struct {
	Verify auditVerifyCmd `cmd:"" help:"Walk the journal's hash chain and say whether it is as it was written."`
}

type auditVerifyCmd struct{ settings }

// Run reads the database itself: a gateway need not run, and must not be trusted to judge itself.
func (c auditVerifyCmd) Run(ctx context.Context, io *streams) error {
	cfg, err := c.load(nil)
	if err != nil {
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
		return fmt.Errorf("the journal is not as it was written: %d problem(s)", report.Found)
	}
	_, err = fmt.Fprintln(io.out, "the journal is as it was written")
	return errors.Join(err)
}
