package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/promptgate/promptgate/gateway/admin"
)

type serviceCmd struct {
	List   serviceListCmd   `cmd:"" help:"List the project's service accounts."`
	Create serviceCreateCmd `cmd:"" help:"Make a service account."`
	End    serviceEndCmd    `cmd:"" help:"End a service account and its keys for good."`
}

type serviceListCmd struct{ remote }

// Run prints a line for each service account.
func (c serviceListCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	w := newTable(io.out, "ID", "NAME", "DESCRIPTION", "SINCE", "STATE")
	err = pages(ctx, cl, "/api/v1/service-accounts", nil, func(page struct {
		ServiceAccounts []admin.ServiceAccount `json:"service_accounts"`
		Next            string                 `json:"next"`
	}) string {
		for _, s := range page.ServiceAccounts {
			state := "in force"
			if s.EndedAt != nil {
				state = "ended " + stamp(*s.EndedAt)
			}
			w.row(s.ID, s.Name, s.Description, stamp(s.CreatedAt), state)
		}
		return page.Next
	})
	if err != nil {
		return err
	}
	return w.flush()
}

type serviceCreateCmd struct {
	remote
	Name        string `arg:"" help:"e.g. checkout."`
	Description string `help:"What it is for."`
}

// Run makes the service account.
func (c serviceCreateCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var out admin.ServiceAccount
	if err := cl.call(ctx, http.MethodPost, "/api/v1/service-accounts", admin.ServiceAccountCreate{Name: c.Name, Description: c.Description}, &out); err != nil {
		return err
	}
	fmt.Fprintf(io.err, "it holds nothing yet: promptgate access grant %s ROLE, then promptgate key create NAME --owner %s\n", out.ID, out.ID)
	_, err = fmt.Fprintln(io.out, out.ID)
	return err
}

type serviceEndCmd struct {
	remote
	ID  string `arg:"" help:"Its id, svc_…"`
	Why string `help:"Why; kept in the journal."`
}

// Run ends it.
func (c serviceEndCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var out admin.ServiceAccount
	if err := cl.call(ctx, http.MethodDelete, "/api/v1/service-accounts/"+url.PathEscape(c.ID), nil, &out, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s (%s): ended, and its keys with it\n", cell(out.ID), cell(out.Name))
	return err
}
