package main

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/promptgate/promptgate/gateway/admin"
)

type accessReportCmd struct {
	remote
	Role    string `help:"Who holds this role."`
	Subject string `help:"What one holds: usr_…, grp_…, svc_… or key_…."`
	Prompt  string `help:"Who holds something over prompts under this pattern." placeholder:"PATTERN"`
	Unused  int    `help:"What was not used for so many days." placeholder:"DAYS"`
	CSV     bool   `name:"csv" help:"As CSV, for spreadsheets." xor:"as"`
	JSON    bool   `name:"json" help:"As the management API tells it, in JSON." xor:"as"`
}

func (c accessReportCmd) query() url.Values {
	q := url.Values{}
	for name, v := range map[string]string{"role": c.Role, "subject": c.Subject, "prompt": c.Prompt} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if c.Unused > 0 {
		q.Set("unused_days", strconv.Itoa(c.Unused))
	}
	return q
}

// Run prints a line for each thing that is held, what was never used first.
func (c accessReportCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	q := c.query()
	if c.CSV {
		return cl.copyTo(ctx, "/api/v1/access/report.csv?"+q.Encode(), io.exact)
	}
	all := []admin.Held{}
	type list struct {
		Access []admin.Held `json:"access"`
		Next   string       `json:"next"`
	}
	err = pages(ctx, cl, "/api/v1/access/report", q, func(page list) string {
		all = append(all, page.Access...)
		return page.Next
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(io, all)
	}
	w := newTable(io.out, "WHO", "HOLDS", "THROUGH", "SINCE", "BY", "WHY", "STATE", "LAST USED", "MINUTES", "ID")
	for _, a := range all {
		used := "never"
		if a.LastUsedAt != nil {
			used = stamp(*a.LastUsedAt)
		}
		w.row(called(a.SubjectName, a.Subject), spelledHeld(a), called(a.ViaName, a.Via), stamp(a.GrantedAt), called(a.GrantedByName, a.GrantedBy), a.Reason,
			strings.ReplaceAll(a.State, "_", " "), used, a.UsedMinutes, a.Holding)
	}
	return w.flush()
}

// called is what people call something, or its id.
func called(name, id string) string {
	if name != "" {
		return name
	}
	return id
}

// spelledHeld is what is held in a few words.
func spelledHeld(a admin.Held) string {
	s := a.Role
	if len(a.Grants) > 0 {
		s = strings.TrimPrefix(s+"; "+grantsOf(a.Grants), "; ")
	} else if len(a.Prompts) > 0 && !strings.Contains(s, ":") {
		s += " over " + strings.Join(a.Prompts, ", ")
		if len(a.Labels) > 0 {
			s += " under " + strings.Join(a.Labels, ", ")
		}
	}
	if a.Effect == "deny" {
		s = "denied: " + s
	}
	if a.ExpiresAt != nil {
		s += " until " + stamp(*a.ExpiresAt)
	}
	return s
}

// copyTo writes an answer as it comes.
func (c *client) copyTo(ctx context.Context, path string, to io.Writer) error {
	resp, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return failure(resp)
	}
	_, err = io.Copy(to, resp.Body)
	return err
}
