package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promptgate/promptgate/gateway/admin"
)

type promptCmd struct {
	Push     pushCmd     `cmd:"" help:"Save prompt files as new versions; creates prompts that are not there."`
	Pull     pullCmd     `cmd:"" help:"Write prompts to files."`
	List     listCmd     `cmd:"" help:"List prompts and where their labels point."`
	Diff     diffCmd     `cmd:"" help:"Compare two versions."`
	Rename   renameCmd   `cmd:"" help:"Give a prompt another name, perhaps in another folder; its id stays, and its old name still answers."`
	Label    labelCmd    `cmd:"" help:"Point a label at a version, or remove it."`
	History  historyCmd  `cmd:"" help:"List a prompt's versions and the moves of its labels."`
	Rollback rollbackCmd `cmd:"" help:"Move a label back to where it pointed before."`
}

type listCmd struct {
	remote
	Folder   string `arg:"" optional:"" help:"Only prompts below this folder."`
	Tag      string `help:"Only prompts with this tag."`
	Query    string `short:"q" help:"Only prompts with this in their name or description."`
	Archived bool   `help:"Archived ones too."`
}

// Run prints a line for each prompt.
func (c listCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	q := url.Values{"limit": {"200"}}
	for name, v := range map[string]string{"folder": c.Folder, "tag": c.Tag, "q": c.Query} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if c.Archived {
		q.Set("archived", "true")
	}
	prompts, err := cl.prompts(ctx, q)
	if err != nil {
		return err
	}
	heads := []any{"NAME", "LATEST", "LABELS", "DESCRIPTION"}
	if c.Archived {
		heads = slices.Insert(heads, 1, any("STATE"))
	}
	w := newTable(io.out, heads...)
	for _, p := range prompts {
		labels, err := cl.labels(ctx, p.Name)
		if err != nil {
			return err
		}
		text := ""
		for i, l := range labels {
			if i > 0 {
				text += ", "
			}
			text += fmt.Sprintf("%s=%d", l.Name, l.Version)
		}
		line := []any{p.Name, p.LatestVersion, text, p.Description}
		if c.Archived {
			state := "in use"
			if p.Archived {
				state = "archived"
			}
			line = slices.Insert(line, 1, any(state))
		}
		w.row(line...)
	}
	return w.flush()
}

// prompts reads all pages.
func (c *client) prompts(ctx context.Context, q url.Values) ([]admin.Prompt, error) {
	var all []admin.Prompt
	type list struct {
		Prompts []admin.Prompt `json:"prompts"`
		Next    string         `json:"next"`
	}
	err := pages(ctx, c, "/api/v1/prompts", q, func(page list) string {
		all = append(all, page.Prompts...)
		return page.Next
	})
	return all, err
}

func (c *client) labels(ctx context.Context, prompt string) ([]admin.Label, error) {
	var out struct {
		Labels []admin.Label `json:"labels"`
	}
	err := c.call(ctx, http.MethodGet, promptPath(prompt, "labels"), nil, &out)
	return out.Labels, err
}

// version turns what a person writes for a version, a number or a label, into its number.
func (c *client) version(ctx context.Context, prompt, selector string) (int, error) {
	if n, err := strconv.Atoi(selector); err == nil {
		return n, nil
	}
	if selector == "latest" {
		var p admin.Prompt
		err := c.call(ctx, http.MethodGet, promptPath(prompt), nil, &p)
		return p.LatestVersion, err
	}
	labels, err := c.labels(ctx, prompt)
	if err != nil {
		return 0, err
	}
	for _, l := range labels {
		if l.Name == selector {
			return l.Version, nil
		}
	}
	return 0, fmt.Errorf("%s has no label %q; `promptgate prompt history %s` lists its versions and labels", prompt, selector, prompt)
}

type diffCmd struct {
	remote
	Name    string `arg:"" help:"The prompt."`
	From    string `arg:"" help:"A version number, a label, or latest."`
	To      string `arg:"" help:"A version number, a label, or latest."`
	Unified bool   `short:"u" help:"Whole lines, as diff -u: for programs. Without, what changed in a line is marked by word: in colour on a terminal (not with NO_COLOR), else as [-old-] and {+new+}."`
}

// Run prints what differs: texts as diffs, fields as old and new value.
func (c diffCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	from, err := cl.version(ctx, c.Name, c.From)
	if err != nil {
		return err
	}
	to, err := cl.version(ctx, c.Name, c.To)
	if err != nil {
		return err
	}
	var d admin.Diff
	path := fmt.Sprintf("%s?from=%d&to=%d", promptPath(c.Name, "diff"), from, to)
	if err := cl.call(ctx, http.MethodGet, path, nil, &d); err != nil {
		return err
	}
	if len(d.Changed) == 0 {
		_, err := fmt.Fprintf(io.out, "%s: versions %d and %d say the same\n", c.Name, d.From, d.To)
		return err
	}
	if c.Unified {
		for _, m := range d.Messages {
			fmt.Fprint(io.out, m.Unified)
		}
		for _, f := range d.Fields {
			fmt.Fprintf(io.out, "%s\n- %s\n+ %s\n", f.Field, orNothing(f.From), orNothing(f.To))
		}
		return nil
	}
	show := &marked{out: io.out, colour: io.colour}
	for _, m := range d.Messages {
		show.unified(m.Unified)
	}
	for _, f := range d.Fields {
		fmt.Fprintln(io.out, f.Field)
		show.runs(words(string(f.From), string(f.To)))
	}
	return nil
}

func orNothing(r admin.Raw) string {
	if len(r) == 0 {
		return "(not set)"
	}
	return string(r)
}

type labelCmd struct {
	remote
	Name    string `arg:"" help:"The prompt."`
	Label   string `arg:"" help:"The label, e.g. production."`
	Version string `arg:"" optional:"" help:"Where it shall point: a version number, another label, or latest."`
	Remove  bool   `help:"Remove the label instead: calls that name it get 404."`
	From    *int   `help:"Fail unless it points at this version now (0: nowhere)."`
	Force   bool   `help:"Although the new version requires variables that the old one did not; needs --why."`
	Why     string `help:"Why; kept in the journal."`
}

// Run moves the label by compare-and-set when --from says where it was.
func (c labelCmd) Run(ctx context.Context, io *streams) error {
	if c.Remove == (c.Version != "") {
		return errUsage{errors.New("say where the label shall point, or --remove; not both")}
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	path := promptPath(c.Name, "labels", c.Label)
	if c.Remove {
		if c.From != nil {
			path += "?from=" + strconv.Itoa(*c.From)
		}
		if err := cl.call(ctx, http.MethodDelete, path, nil, nil, "X-Promptgate-Why", c.Why); err != nil {
			return err
		}
		_, err := fmt.Fprintf(io.out, "%s: %s removed\n", c.Name, c.Label)
		return err
	}
	to, err := cl.version(ctx, c.Name, c.Version)
	if err != nil {
		return err
	}
	var l admin.Label
	in := admin.LabelMove{Version: to, From: c.From, Force: c.Force}
	if err := cl.call(ctx, http.MethodPut, path, in, &l, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: %s is version %d\n", c.Name, cell(l.Name), l.Version)
	return err
}

type renameCmd struct {
	remote
	Name        string `arg:"" help:"The prompt."`
	To          string `arg:"" help:"Its new name."`
	DryRun      bool   `help:"Say whose access it would change; change nothing."`
	CarryGrants bool   `help:"Keys whose grants name the prompt exactly keep their access; needs manage_keys."`
	Why         string `help:"Why; kept in the journal."`
}

// Run renames, and says which keys gain or lose by it.
func (c renameCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	q := url.Values{}
	if c.DryRun {
		q.Set("dry_run", "true")
	}
	if c.CarryGrants {
		q.Set("carry_grants", "true")
	}
	var p admin.PromptPatched
	in := admin.PromptPatch{Name: &c.To}
	if err := cl.call(ctx, http.MethodPatch, promptPath(c.Name)+"?"+q.Encode(), in, &p, "If-Match", "*", "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	would := ""
	if c.DryRun {
		would = "would be "
	}
	fmt.Fprintf(io.out, "%s: %scalled %s\n", c.Name, would, cell(p.Name))
	for _, a := range p.AccessChanges {
		if len(a.Loses) > 0 && !c.CarryGrants {
			fmt.Fprintf(io.out, "  %s (%s) loses %s\n", cell(a.Key), cell(a.Name), cell(strings.Join(a.Loses, ", ")))
		}
		if len(a.Gains) > 0 && !c.CarryGrants {
			fmt.Fprintf(io.out, "  %s (%s) gains %s\n", cell(a.Key), cell(a.Name), cell(strings.Join(a.Gains, ", ")))
		}
	}
	return nil
}

type rollbackCmd struct {
	remote
	Name  string `arg:"" help:"The prompt."`
	Label string `arg:"" help:"The label, e.g. production."`
	From  *int   `help:"Fail unless it points at this version now."`
	Force bool   `help:"Although the old version requires variables that the new one does not; needs --why."`
	Why   string `help:"Why; kept in the journal."`
}

// Run moves the label back.
func (c rollbackCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var l admin.Label
	in := admin.Rollback{From: c.From, Force: c.Force}
	if err := cl.call(ctx, http.MethodPost, promptPath(c.Name, "labels", c.Label, "rollback"), in, &l, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: %s is version %d again\n", c.Name, cell(l.Name), l.Version)
	return err
}

type historyCmd struct {
	remote
	Name  string `arg:"" help:"The prompt."`
	Label string `help:"Only the moves of this label."`
}

// Run prints versions, then moves, newest first.
func (c historyCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	if c.Label == "" {
		var out struct {
			Versions []admin.Version `json:"versions"`
		}
		if err := cl.call(ctx, http.MethodGet, promptPath(c.Name, "versions")+"?limit=200", nil, &out); err != nil {
			return err
		}
		w := newTable(io.out, "VERSION", "CREATED", "AUTHOR", "NOTE", "DIGEST")
		for _, v := range out.Versions {
			w.row(v.Number, stamp(v.CreatedAt), v.Author, v.Note, fmt.Sprintf("%.19s", v.Digest))
		}
		if err := w.flush(); err != nil {
			return err
		}
		fmt.Fprintln(io.out)
	}
	labels := []string{c.Label}
	if c.Label == "" {
		labels = nil
		found, err := cl.labels(ctx, c.Name)
		if err != nil {
			return err
		}
		for _, l := range found {
			labels = append(labels, l.Name)
		}
	}
	w := newTable(io.out, "LABEL", "MOVED", "FROM", "TO", "BY", "WHY")
	for _, l := range labels {
		var out struct {
			Events []admin.LabelEvent `json:"events"`
		}
		if err := cl.call(ctx, http.MethodGet, promptPath(c.Name, "labels", l, "history")+"?limit=200", nil, &out); err != nil {
			return err
		}
		for _, e := range out.Events {
			w.row(e.Label, stamp(e.At), orDash(e.From), orDash(e.To), e.Actor, e.Why)
		}
	}
	return w.flush()
}

func orDash(version int) string {
	if version == 0 {
		return "-"
	}
	return strconv.Itoa(version)
}

func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
