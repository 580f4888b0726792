package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promptgate/promptgate/gateway/admin"
)

type accessReviewCmd struct {
	Create   reviewCreateCmd   `cmd:"" help:"Begin an access review: what is held now is taken down, line by line."`
	List     reviewListCmd     `cmd:"" help:"List access reviews; with --mine those that you review."`
	Show     reviewShowCmd     `cmd:"" help:"Show what is reviewed, what was never used first."`
	Decide   reviewDecideCmd   `cmd:"" help:"Keep, change or revoke what a line is about."`
	Close    reviewCloseCmd    `cmd:"" help:"End an access review before its deadline."`
	Evidence reviewEvidenceCmd `cmd:"" help:"Write the review with all its lines and decisions, as JSON or CSV."`
}

const reviewsAt = "/api/v1/access-reviews"

// reviewID is embedded in commands about one review.
type reviewID struct {
	ID string `arg:"" help:"The review's id, rvw_…; promptgate access review list shows it."`
}

func (r reviewID) path(more ...string) string {
	at := reviewsAt + "/" + url.PathEscape(r.ID)
	for _, part := range more {
		at += "/" + part
	}
	return at
}

type reviewCreateCmd struct {
	remote
	Name       string    `arg:"" help:"What people call it."`
	Reviewers  namesFlag `required:"" help:"Who decides: e-mail addresses, usr_… or grp_…; nobody decides about what is their own."`
	Deadline   lifetime  `help:"How long they have, e.g. 14d." default:"14d" placeholder:"TIME"`
	Roles      namesFlag `help:"Only these roles; all without."`
	Subjects   namesFlag `help:"Only what these hold: usr_…, grp_…, svc_… or key_…"`
	Prompts    namesFlag `help:"Only what speaks of prompts under these patterns."`
	Remind     []int     `help:"The webhook is told so many days before the deadline." default:"7,1" placeholder:"DAYS"`
	AtDeadline string    `help:"What becomes of what nobody decided about: keep or revoke." enum:"keep,revoke" default:"keep"`
	Why        string    `help:"Why; kept in the journal."`
}

// Run begins the review.
func (c reviewCreateCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var out admin.Review
	err = cl.call(ctx, http.MethodPost, reviewsAt, admin.ReviewCreate{
		Name: c.Name, Reviewers: c.Reviewers, DeadlineAt: time.Now().Add(time.Duration(c.Deadline)).UTC(), Roles: c.Roles, Subjects: c.Subjects, Prompts: c.Prompts,
		RemindDays: c.Remind, AtDeadline: c.AtDeadline,
	}, &out, "X-Promptgate-Why", c.Why)
	if err != nil {
		return err
	}
	fmt.Fprintf(io.err, "%d lines, until %s; promptgate access review show %s\n", out.Lines, stamp(out.DeadlineAt), cell(out.ID))
	_, err = fmt.Fprintln(io.out, cell(out.ID))
	return err
}

type reviewListCmd struct {
	remote
	Mine bool `help:"Those that are open and that you review."`
}

// Run prints a line for each review.
func (c reviewListCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	type page struct {
		Reviews []admin.Review `json:"reviews"`
		Next    string         `json:"next"`
	}
	w := newTable(io.out, "ID", "NAME", "STATE", "LINES", "UNDECIDED", "AT THE DEADLINE", "STARTED BY", "SINCE")
	show := func(p page) string {
		for _, r := range p.Reviews {
			state := "until " + stamp(r.DeadlineAt)
			if r.ClosedAt != nil {
				state = "closed " + stamp(*r.ClosedAt)
			}
			w.row(r.ID, r.Name, state, r.Lines, r.Undecided, r.AtDeadline, called(r.StartedByName, r.StartedBy), stamp(r.StartedAt))
		}
		return p.Next
	}
	if c.Mine {
		var p page
		if err := cl.call(ctx, http.MethodGet, "/api/v1/me/access-reviews", nil, &p); err != nil {
			return err
		}
		show(p)
		return w.flush()
	}
	if err := pages(ctx, cl, reviewsAt, nil, show); err != nil {
		return err
	}
	return w.flush()
}

type reviewShowCmd struct {
	remote
	reviewID
	Undecided bool `help:"Only what nobody has decided about."`
}

// Run prints a line for each thing that is held.
func (c reviewShowCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	q := url.Values{}
	if c.Undecided {
		q.Set("undecided", "true")
	}
	w := newTable(io.out, "LINE", "WHO", "HOLDS", "SINCE", "BY", "WHY", "STATE", "LAST USED", "DECISION", "DECIDED BY", "COMMENT", "ID")
	for l, err := range linesOf(ctx, cl, c.reviewID, q) {
		if err != nil {
			return err
		}
		a, used := l.Held, "never"
		if a.LastUsedAt != nil {
			used = stamp(*a.LastUsedAt)
		}
		w.row(l.N, called(a.SubjectName, a.Subject), spelledHeld(a), stamp(a.GrantedAt), called(a.GrantedByName, a.GrantedBy), a.Reason, strings.ReplaceAll(a.State, "_", " "),
			used, spelledDecision(l), called(l.DecidedByName, l.DecidedBy), l.Comment, a.Holding)
	}
	return w.flush()
}

// linesOf reads a review's lines.
func linesOf(ctx context.Context, cl *client, r reviewID, q url.Values) func(yield func(admin.ReviewLine, error) bool) {
	return func(yield func(admin.ReviewLine, error) bool) {
		stopped := false
		err := pages(ctx, cl, r.path("lines"), q, func(page struct {
			Lines []admin.ReviewLine `json:"lines"`
			Next  string             `json:"next"`
		}) string {
			for _, l := range page.Lines {
				if stopped = !yield(l, nil); stopped {
					return ""
				}
			}
			return page.Next
		})
		if err != nil && !stopped {
			yield(admin.ReviewLine{}, err)
		}
	}
}

func spelledDecision(l admin.ReviewLine) string {
	switch l.Outcome {
	case "", "done":
		return l.Decision
	}
	return strings.ReplaceAll(l.Outcome, "_", " ")
}

type reviewDecideCmd struct {
	remote
	reviewID
	Line     int       `arg:"" help:"The line's number."`
	Decision string    `arg:"" enum:"keep,change,revoke" help:"keep, change or revoke. A change makes a binding smaller."`
	Role     string    `help:"With change: a smaller role."`
	Prompts  namesFlag `help:"With change: narrower patterns."`
	Labels   namesFlag `help:"With change: fewer labels."`
	Models   namesFlag `help:"With change: fewer models."`
	Expires  lifetime  `help:"With change: how long it still lasts." placeholder:"TIME"`
	Comment  string    `help:"Why; kept in the evidence and the journal."`
	Again    bool      `help:"Also when somebody has decided to keep it."`
}

func (c reviewDecideCmd) change() *admin.ReviewChange {
	if c.Decision != "change" {
		return nil
	}
	out := &admin.ReviewChange{}
	if c.Role != "" {
		out.Role = &c.Role
	}
	for to, from := range map[**[]string]namesFlag{&out.Prompts: c.Prompts, &out.Labels: c.Labels, &out.Models: c.Models} {
		if from != nil {
			names := slices.Clone([]string(from))
			*to = &names
		}
	}
	if c.Expires > 0 {
		t := time.Now().Add(time.Duration(c.Expires)).UTC()
		out.ExpiresAt = &t
	}
	return out
}

// Run decides about the line as it is now: who decides about it at the same moment is not overruled.
func (c reviewDecideCmd) Run(ctx context.Context, io *streams) error {
	if c.Decision != "change" && (c.Role != "" || c.Prompts != nil || c.Labels != nil || c.Models != nil || c.Expires > 0) {
		return errUsage{fmt.Errorf("--role, --prompts, --labels, --models and --expires go with change; %s takes none of them", c.Decision)}
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	var line *admin.ReviewLine
	for l, err := range linesOf(ctx, cl, c.reviewID, nil) {
		if err != nil {
			return err
		}
		if l.N == c.Line {
			line = &l
			break
		}
	}
	if line == nil {
		return errUsage{fmt.Errorf("the review has no line %d; promptgate access review show %s lists them", c.Line, c.ID)}
	}
	if line.Decision == "keep" && !c.Again {
		return fmt.Errorf("%s has decided to keep it; --again decides otherwise", called(line.DecidedByName, line.DecidedBy))
	}
	var out admin.ReviewLine
	in := admin.LineDecide{Decision: c.Decision, Change: c.change(), Comment: c.Comment}
	if err := cl.call(ctx, http.MethodPatch, c.path("lines", strconv.Itoa(c.Line)), in, &out, "If-Match", `"`+strconv.FormatInt(line.Revision, 10)+`"`); err != nil {
		return err
	}
	a := out.Held
	_, err = fmt.Fprintf(io.out, "%d: %s: %s, %s\n", out.N, cell(out.Decision), cell(called(a.SubjectName, a.Subject)), cell(spelledHeld(a)))
	return err
}

type reviewCloseCmd struct {
	remote
	reviewID
	Force bool   `help:"Also when something is undecided: it stays as it is."`
	Why   string `help:"Why; kept in the journal."`
}

// Run ends the review.
func (c reviewCloseCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	path := c.path("close")
	if c.Force {
		path += "?force=true"
	}
	var out admin.Review
	if err := cl.call(ctx, http.MethodPost, path, nil, &out, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: closed, %d of %d undecided; evidence sha256 %s\n", cell(out.ID), out.Undecided, out.Lines, cell(out.Digest))
	return err
}

type reviewEvidenceCmd struct {
	remote
	reviewID
	CSV bool `name:"csv" help:"As CSV, for spreadsheets; the JSON document is what has the digest."`
}

// Run writes the evidence byte for byte.
func (c reviewEvidenceCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	name := "evidence"
	if c.CSV {
		name = "evidence.csv"
	}
	return cl.copyTo(ctx, c.path(name), io.exact)
}
