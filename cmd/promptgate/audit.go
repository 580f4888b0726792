package main

import (
	"context"
	"fmt"

	"github.com/promptgate/promptgate/internal/journal"
)

type auditCmd struct {
	List   auditListCmd   `cmd:"" help:"List changes, the newest first: who, what, when, from where, why."`
	Verify auditVerifyCmd `cmd:"" help:"Check the journal's hash chain, and that every row that decides something is what it says."`
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
	_, err = verifyAll(ctx, s, io)
	return err
}

// verifyAll checks the journal, then every row that decides something against it, and prints what it found. It returns the journal's head.
func verifyAll(ctx context.Context, s *stores, io *streams) (head journal.Anchor, err error) {
	report, err := s.feed.Verify(ctx)
	if err != nil {
		return head, err
	}
	for _, p := range report.Problems {
		fmt.Fprintf(io.out, "revision %d: %s\n", p.Revision, p.Kind)
	}
	fmt.Fprintf(io.out, "%d events, %d sealed payloads, %d shredded; head is revision %d, hash %s\n",
		report.Events, report.Payloads, report.Shredded, report.Head.Revision, report.Head.Hash)
	if !report.OK() {
		return head, fmt.Errorf("the journal is not as it was written: %d problem(s); the rows were not compared with it", report.Found)
	}
	fmt.Fprintf(io.out, "the journal is as it was written; anchor: %s\n", report.Head)
	rows, err := s.feed.VerifyRows(ctx, decidingTables())
	if err != nil {
		return head, err
	}
	for _, p := range rows.Problems {
		fmt.Fprintln(io.out, p)
	}
	prompts, err := s.registry.Verify(ctx)
	if err != nil && rows.Found == 0 {
		return head, err
	}
	for _, p := range prompts.Problems {
		fmt.Fprintln(io.out, p)
	}
	fmt.Fprintf(io.out, "%d rows, %d versions, %d labels", rows.Rows, prompts.Versions, prompts.Labels)
	if prompts.Shredded > 0 {
		fmt.Fprintf(io.out, "; prompts of %d shredded events cannot be compared in full", prompts.Shredded)
	}
	fmt.Fprintln(io.out)
	if rows.Found > 0 || !prompts.OK() {
		return head, fmt.Errorf("the database is not what the journal says: %d row(s), and of prompts %d difference(s); none of it is served; restore a backup",
			rows.Found, prompts.Found)
	}
	_, err = fmt.Fprintln(io.out, "the rows are what the journal says")
	return report.Head, err
}
