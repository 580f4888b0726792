package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/policy"
)

type accessCmd struct {
	List    accessListCmd    `cmd:"" help:"List who holds which role in the project."`
	Grant   accessGrantCmd   `cmd:"" help:"Give a person, a group or a service account a role."`
	Revoke  accessRevokeCmd  `cmd:"" help:"Take a role away."`
	Explain accessExplainCmd `cmd:"" help:"Say why something is allowed or refused, and whom to ask."`
	Report  accessReportCmd  `cmd:"" help:"Say who holds what, since when, granted by whom, and when it was used last."`
	Review  accessReviewCmd  `cmd:"" help:"Access reviews: reviewers keep, change or revoke what is held, line by line."`
}

type accessListCmd struct {
	remote
	Subject string `help:"Those of one: usr_…, grp_… or svc_…" placeholder:"ID"`
}

// Run prints a line for each binding.
func (c accessListCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	query := url.Values{}
	if c.Subject != "" {
		query.Set("subject", c.Subject)
	}
	w := newTable(io.out, "ID", "WHO", "ROLE", "OVER", "LABELS", "MODELS", "GRANTED BY", "SINCE", "STATE", "WHY")
	err = pages(ctx, cl, "/api/v1/bindings", query, func(page struct {
		Bindings []admin.Binding `json:"bindings"`
		Next     string          `json:"next"`
	}) string {
		for _, b := range page.Bindings {
			who, role, state := b.Subject, b.Role, "in force"
			if b.SubjectName != "" {
				who = b.SubjectName
			}
			if b.Effect == policy.EffectDeny {
				role = "not " + role
			}
			switch {
			case b.ExpiresAt != nil && b.ExpiresAt.Before(time.Now()):
				state = "ended " + stamp(*b.ExpiresAt)
			case b.ExpiresAt != nil:
				state = "until " + stamp(*b.ExpiresAt)
			}
			w.row(b.ID, who, role, strings.Join(b.Prompts, ", "), strings.Join(b.Labels, ", "), strings.Join(b.Models, ", "), b.GrantedBy, stamp(b.GrantedAt), state, b.Reason)
		}
		return page.Next
	})
	if err != nil {
		return err
	}
	return w.flush()
}

// pages reads all pages of a list; show returns the cursor of the next one.
func pages[P any](ctx context.Context, cl *client, path string, query url.Values, show func(page P) (next string)) error {
	if query == nil {
		query = url.Values{}
	}
	query.Set("limit", "200")
	for {
		var page P
		if err := cl.call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		next := show(page)
		if next == "" {
			return nil
		}
		query.Set("after", next)
	}
}

type accessGrantCmd struct {
	remote
	Who     string    `arg:"" help:"An e-mail address, or an id: usr_…, grp_… or svc_…"`
	Role    string    `arg:"" help:"admin, editor, viewer, tester, or one of the project's own."`
	Prompts namesFlag `help:"Patterns, e.g. marketing/**; every prompt and the project as a whole without."`
	Labels  namesFlag `help:"Labels that it holds under; every one without."`
	Models  namesFlag `help:"Models that it holds for; patterns with *."`
	Deny    bool      `help:"Take away what the role names, whatever else is held."`
	Expires lifetime  `help:"How long, e.g. 30d; for ever without." placeholder:"TIME"`
	Why     string    `help:"Why; kept with it."`
}

// Run makes the binding.
func (c accessGrantCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	in := admin.BindingCreate{Role: c.Role, Prompts: c.Prompts, Labels: c.Labels, Models: c.Models, Reason: c.Why}
	if strings.Contains(c.Who, "@") {
		in.Email = c.Who
	} else {
		in.Subject = c.Who
	}
	if c.Deny {
		in.Effect = policy.EffectDeny
	}
	if c.Expires > 0 {
		t := time.Now().Add(time.Duration(c.Expires)).UTC()
		in.ExpiresAt = &t
	}
	var out admin.Binding
	if err := cl.call(ctx, http.MethodPost, "/api/v1/bindings", in, &out, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: %s is %s\n", cell(out.ID), cell(out.SubjectName), cell(c.Role))
	return err
}

type accessRevokeCmd struct {
	remote
	ID    string `arg:"" help:"The binding's id, bnd_…; promptgate access list shows it."`
	Force bool   `help:"Also the project's last admin."`
	Why   string `help:"Why; kept in the journal."`
}

// Run takes the binding away.
func (c accessRevokeCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	path := "/api/v1/bindings/" + url.PathEscape(c.ID)
	if c.Force {
		path += "?force=true"
	}
	if err := cl.call(ctx, http.MethodDelete, path, nil, nil, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: taken away\n", cell(c.ID))
	return err
}

type accessExplainCmd struct {
	remote
	Action string `arg:"" help:"What somebody wants to do: read, call, write, move_label, manage_keys, …"`
	Prompt string `arg:"" optional:"" help:"On which prompt, with a label where it counts: support/triage@production; the project as a whole without."`
	For    string `help:"usr_…, svc_… or key_…; yourself without." placeholder:"ID"`
	Model  string `help:"On a model instead of a prompt."`
}

// Run prints the answer and what it rests on.
func (c accessExplainCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	prompt, label, labelled := strings.Cut(c.Prompt, "@")
	if labelled && label == "version" { // name@@version is hard to guess
		label = policy.LabelVersion
	}
	var out admin.Explanation
	err = cl.call(ctx, http.MethodPost, "/api/v1/access/explain", admin.Question{
		Principal: c.For, Action: policy.Action(c.Action), Prompt: prompt, Label: label, Model: c.Model,
	}, &out)
	if err != nil {
		return err
	}
	verdict := "refused"
	if out.Allowed {
		verdict = "allowed"
	}
	fmt.Fprintf(io.out, "%s: %s to %s\n", verdict, cell(out.Question), cell(out.Principal))
	for _, r := range out.Reasons {
		line := "  " + r.Effect + "s by " + r.Text
		if r.Effect == policy.EffectDeny {
			line = "  denied by " + r.Text
		}
		if r.Through != "" {
			line += " of " + r.ThroughName + " (" + r.Through + ")"
		}
		if r.Binding != "" {
			line += ", " + r.Binding + ", granted by " + r.GrantedBy
		}
		if r.Why != "" {
			line += ": " + r.Why
		}
		fmt.Fprintln(io.out, cell(line))
	}
	if !out.Allowed {
		fmt.Fprintf(io.out, "  missing: %s; ask %s\n", cell(out.Missing), cell(strings.Join(out.Ask, ", ")))
	}
	return nil
}
