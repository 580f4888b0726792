package journal

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/sqldb"
)

// Anchor is a revision and its hash as somebody noted them outside the database. Only an anchor shows that the newest events
// were cut off together with the head that named them.
type Anchor struct {
	Revision int64
	Hash     string // hexadecimal
}

// String is how people note it.
func (a Anchor) String() string { return strconv.FormatInt(a.Revision, 10) + ":" + a.Hash }

// ParseAnchor reads what String wrote.
func ParseAnchor(text string) (Anchor, error) {
	number, hash, _ := strings.Cut(text, ":")
	revision, err := strconv.ParseInt(number, 10, 64)
	raw, hexErr := hex.DecodeString(hash)
	if err != nil || hexErr != nil || revision < 1 || len(raw) != sha256.Size {
		return Anchor{}, fmt.Errorf("%q is no anchor: write REVISION:HASH, as `promptgate audit verify` prints it", text)
	}
	return Anchor{revision, strings.ToLower(hash)}, nil
}

// Report is what Verify found.
type Report struct {
	Head     Anchor    // the newest revision; worth noting elsewhere
	Events   int64     // events read
	Payloads int64     // sealed payloads that opened and match their commitments
	Shredded int64     // payloads that were shredded, with a record of it
	Problems []Problem // the first maxProblems of them
	Found    int64     // how many problems there are
}

// OK reports whether the journal is as it was written.
func (r *Report) OK() bool { return r.Found == 0 }

// Problem is one place where the journal is not as it was written.
type Problem struct {
	Revision int64
	Kind     ProblemKind
}

// ProblemKind says what is wrong.
type ProblemKind string

// The kinds of problems.
const (
	Edited   ProblemKind = "edited"   // a column of the event was changed
	Unlinked ProblemKind = "unlinked" // it does not follow the event before it: something was cut out, put in or moved
	Gap      ProblemKind = "gap"      // revisions before it are missing
	Tail     ProblemKind = "tail"     // the head names another end of the chain: events were cut off, or the head was changed
	Payload  ProblemKind = "payload"  // the payload was altered, is missing, or is there without an event
	Shred    ProblemKind = "shred"    // the payload was emptied and no event says so
	Anchored ProblemKind = "anchor"   // an event noted elsewhere is gone or another one
)

const maxProblems = 100

// Verify holds the chain against the journal's own anchors as well, and reads the whole of it, in one snapshot of the database, and reports every place that was changed since it was
// written. The error says that it could not be read to the end.
func (j *Journal) Verify(ctx context.Context, anchors ...Anchor) (Report, error) {
	v := &verifier{j: j, anchors: maps.Clone(j.rows.notes)}
	for _, a := range anchors {
		v.anchors[a.Revision] = a.Hash
	}
	if err := j.snapshot(ctx, func(tx bun.Tx) error { return v.run(ctx, tx) }); err != nil {
		return Report{}, err
	}
	return v.report, nil
}

// snapshot runs fn on one state of the database.
func (j *Journal) snapshot(ctx context.Context, fn func(tx bun.Tx) error) error {
	opts := &sql.TxOptions{ReadOnly: true}
	if j.db.Dialect == sqldb.Postgres {
		opts.Isolation = sql.LevelRepeatableRead
	}
	tx, err := j.db.BeginTx(ctx, opts)
	if err == nil {
		defer func() { _ = tx.Rollback() }() // it only read
		err = fn(tx)
	}
	if err != nil {
		return fmt.Errorf("journal: verify: %w", sqldb.Classify(err))
	}
	return nil
}

type verifier struct {
	j       *Journal
	report  Report
	anchors map[int64]string
	shreds  []shred
	last    int64
	hash    []byte
}

func (v *verifier) run(ctx context.Context, tx bun.Tx) error {
	head, err := readHead(ctx, tx)
	if err != nil {
		return err
	}
	if v.shreds, err = readShreds(ctx, tx); err != nil {
		return err
	}
	for {
		var rows []eventRow
		err := tx.NewSelect().Model(&rows).Where("revision > ?", v.last).Order("revision").Limit(page).Scan(ctx)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		payloads, err := v.j.payloads(ctx, tx, rows)
		if err != nil {
			return err
		}
		for i := range rows {
			v.event(&rows[i])
			v.payload(&rows[i], payloads[rows[i].Revision])
		}
	}
	v.report.Head = Anchor{Revision: head.Revision, Hash: hex.EncodeToString(head.Hash)}
	if head.Revision != v.last || !bytes.Equal(head.Hash, v.hash) {
		v.problem(head.Revision, Tail)
	}
	for revision := range v.anchors { // those that were met are gone from it
		v.problem(revision, Anchored)
	}
	return v.strays(ctx, tx)
}

func (v *verifier) problem(revision int64, kind ProblemKind) {
	v.report.Found++
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, Problem{revision, kind})
	}
}

func (v *verifier) event(r *eventRow) {
	v.report.Events++
	if r.Revision != v.last+1 {
		v.problem(r.Revision, Gap)
	}
	if !bytes.Equal(r.PrevHash, v.hash) {
		v.problem(r.Revision, Unlinked)
	}
	if !hmac.Equal(r.Hash, v.j.chain.hash(r)) {
		v.problem(r.Revision, Edited)
	}
	if noted, ok := v.anchors[r.Revision]; ok {
		delete(v.anchors, r.Revision)
		if noted != hex.EncodeToString(r.Hash) {
			v.problem(r.Revision, Anchored)
		}
	}
	v.last, v.hash = r.Revision, r.Hash
}

func (v *verifier) payload(r *eventRow, p *payloadRow) {
	expected := len(r.BeforeCommit) > 0 || len(r.AfterCommit) > 0
	switch {
	case p == nil && !expected:
	case p == nil || !expected:
		v.problem(r.Revision, Payload)
	case p.Shredded:
		if len(p.BeforeSealed) > 0 || len(p.AfterSealed) > 0 || !covered(r, v.shreds) {
			v.problem(r.Revision, Shred)
			return
		}
		v.report.Shredded++
	default:
		if v.gone(r) {
			v.report.Shredded++ // by a replica that had not heard of it yet
			return
		}
		if !v.opens(r, p.BeforeSealed, r.BeforeCommit, sideBefore) || !v.opens(r, p.AfterSealed, r.AfterCommit, sideAfter) {
			v.problem(r.Revision, Payload)
			return
		}
		v.report.Payloads++
	}
}

// gone reports whether the event's project was shredded, whenever that was.
func (v *verifier) gone(r *eventRow) bool {
	return slices.ContainsFunc(v.shreds, func(s shred) bool { return s.Action == ActionShredProject && s.Project == r.Project })
}

func (v *verifier) opens(r *eventRow, sealed, commit []byte, side string) bool {
	if len(commit) == 0 {
		return len(sealed) == 0
	}
	_, err := v.j.unsalt(r, sealed, commit, side)
	return err == nil
}

// strays looks for payloads whose event is gone; on both dialects a foreign key forbids them, but not to a file's editor.
func (v *verifier) strays(ctx context.Context, tx bun.Tx) error {
	var stray []int64
	err := tx.NewSelect().Model((*payloadRow)(nil)).Column("revision").
		Where("NOT EXISTS (SELECT 1 FROM journal_events AS e WHERE e.revision = p.revision)").
		Limit(maxProblems).Scan(ctx, &stray)
	for _, revision := range stray {
		v.problem(revision, Payload)
	}
	return err
}
