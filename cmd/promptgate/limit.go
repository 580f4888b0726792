package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/promptgate/promptgate/gateway/admin"
)

type limitCmd struct {
	Set    limitSetCmd    `cmd:"" help:"Create a limit or budget, or change the amount of one."`
	List   limitListCmd   `cmd:"" help:"List limits and budgets."`
	Show   limitShowCmd   `cmd:"" help:"Show a limit, and what of it was used."`
	Reset  limitResetCmd  `cmd:"" help:"Take what of a budget was used until now off, for a reason."`
	Delete limitDeleteCmd `cmd:"" help:"Delete a limit."`
}

type limitSetCmd struct {
	remote
	Name              string   `arg:"" help:"Its name; refusals show it."`
	USD               *float64 `name:"usd" help:"US dollars." xor:"measure" placeholder:"AMOUNT"`
	Tokens            *float64 `help:"Tokens, in and out." xor:"measure" placeholder:"AMOUNT"`
	Requests          *float64 `help:"Requests." xor:"measure" placeholder:"AMOUNT"`
	ConcurrentCalls   *float64 `help:"Calls at a time." xor:"measure" placeholder:"AMOUNT"`
	ConcurrentStreams *float64 `help:"Streams at a time." xor:"measure" placeholder:"AMOUNT"`
	Per               string   `help:"minute, day, week, month or rolling; none for what runs at a time." placeholder:"PERIOD"`
	Days              int      `help:"Of --per rolling: today and the days before."`
	Zone              string   `help:"Time zone of its days, such as Europe/Berlin; UTC without."`
	For               string   `help:"project, key:ID, user:ID, group:ID, prompt:PATTERN, label:NAME, each_key or each_user." default:"project"`
	Soft              bool     `help:"Warn, and refuse nothing." negatable:""`
	Sandbox           bool     `help:"Count calls of the sandbox, and no others."`
	Unpriced          string   `help:"What becomes of calls whose price is unknown: refuse or allow." placeholder:"WHAT"`
	Contact           string   `help:"Whom a refusal names to ask."`
	Why               string   `help:"Why; kept in the journal."`
}

// amount is what is counted, and how much of it.
func (c *limitSetCmd) amount() (measure string, amount float64, err error) {
	for _, m := range []struct {
		name string
		v    *float64
	}{{"usd", c.USD}, {"tokens", c.Tokens}, {"requests", c.Requests}, {"concurrent_calls", c.ConcurrentCalls}, {"concurrent_streams", c.ConcurrentStreams}} {
		if m.v != nil {
			return m.name, *m.v, nil
		}
	}
	return "", 0, errUsage{errors.New("say what is limited: --usd, --tokens, --requests, --concurrent-calls or --concurrent-streams")}
}

// Run creates the limit, or changes one of that name which counts the same.
func (c limitSetCmd) Run(ctx context.Context, io *streams) error {
	measure, amount, err := c.amount()
	if err != nil {
		return err
	}
	scope, subject, _ := strings.Cut(c.For, ":")
	cl, err := c.client()
	if err != nil {
		return err
	}
	var old, out admin.Limit
	err = cl.call(ctx, http.MethodGet, limitPath(c.Name), nil, &old)
	var status *statusError
	switch {
	case errors.As(err, &status) && status.Status == http.StatusNotFound:
		err = cl.call(ctx, http.MethodPost, "/api/v1/limits", admin.LimitCreate{
			Name: c.Name, Measure: measure, Amount: amount, Period: c.Per, Days: c.Days, TimeZone: c.Zone, Scope: scope, Subject: subject,
			Soft: c.Soft, Sandbox: c.Sandbox, Unpriced: c.Unpriced, Contact: c.Contact,
		}, &out, "X-Promptgate-Why", c.Why)
	case err == nil:
		if old.Measure != measure || old.Period != c.Per || old.Scope != scope || old.Subject != subject || old.Days != c.Days || old.Sandbox != c.Sandbox ||
			c.Zone != "" && c.Zone != old.TimeZone {
			return fmt.Errorf("there is a limit %q that counts something else, or for others (%s): delete it first, or choose another name", c.Name, spelledLimit(old))
		}
		patch := admin.LimitPatch{Amount: &amount, Soft: &c.Soft}
		if c.Unpriced != "" {
			patch.Unpriced = &c.Unpriced
		}
		if c.Contact != "" {
			patch.Contact = &c.Contact
		}
		err = cl.call(ctx, http.MethodPatch, limitPath(old.ID), patch, &out, "If-Match", strconv.Quote(strconv.FormatInt(old.Revision, 10)), "X-Promptgate-Why", c.Why)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s (%s): %s\n", cell(out.ID), cell(out.Name), spelledLimit(out))
	return err
}

func limitPath(name string, more ...string) string {
	return "/api/v1/limits/" + url.PathEscape(name) + strings.Join(more, "")
}

// spelledLimit is a limit in a line.
func spelledLimit(l admin.Limit) string {
	s := amountOf(l.Amount) + " " + strings.ReplaceAll(l.Measure, "_", " ")
	if l.Measure == "usd" {
		s = "$" + amountOf(l.Amount)
	}
	switch l.Period {
	case "":
	case "rolling":
		s += fmt.Sprintf(" in %d days", l.Days)
	default:
		s += " a " + l.Period
	}
	if l.TimeZone != "" && l.TimeZone != "UTC" {
		s += " (" + l.TimeZone + ")"
	}
	s += " for " + l.Scope
	if l.Subject != "" {
		s += ":" + l.Subject
	}
	for word, is := range map[string]bool{", soft": l.Soft, ", sandbox": l.Sandbox} {
		if is {
			s += word
		}
	}
	return cell(s)
}

func amountOf(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

type limitListCmd struct {
	remote
	Own  bool `help:"Only those of the key that this command uses, with what it used; any key may."`
	JSON bool `name:"json" help:"As the management API tells it, in JSON."`
}

// Run prints a line for each limit.
func (c limitListCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	path := "/api/v1/limits"
	if c.Own {
		path = "/api/v1/me/limits"
	}
	var found struct {
		Limits []admin.Limit `json:"limits"`
	}
	if err := cl.call(ctx, http.MethodGet, path, nil, &found); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(io, found.Limits)
	}
	w := newTable(io.out, "ID", "NAME", "LIMIT", "USED")
	for _, l := range found.Limits {
		used := ""
		if l.Usage != nil {
			used = amountOf(l.Usage.Used)
		}
		w.row(l.ID, l.Name, spelledLimit(l), used)
	}
	return w.flush()
}

func printJSON(io *streams, v any) error {
	out := json.NewEncoder(io.exact)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

type limitShowCmd struct {
	remote
	Name string `arg:"" help:"Its name or id."`
	JSON bool   `name:"json" help:"As the management API tells it, in JSON."`
}

// Run prints a limit and, of a default, who used most of it.
func (c limitShowCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var l admin.Limit
	if err := cl.call(ctx, http.MethodGet, limitPath(c.Name), nil, &l); err != nil {
		return err
	}
	var used struct {
		Usage []admin.Usage `json:"usage"`
	}
	if err := cl.call(ctx, http.MethodGet, limitPath(l.ID, "/usage"), nil, &used); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(io, map[string]any{"limit": l, "usage": used.Usage})
	}
	fmt.Fprintf(io.out, "%s (%s): %s\n", cell(l.ID), cell(l.Name), spelledLimit(l))
	if len(used.Usage) == 0 {
		return nil
	}
	w := newTable(io.out, "WHOSE", "USED", "RESERVED", "LEFT", "FROM", "UNTIL", "FORECAST", "WARNED")
	for _, u := range used.Usage {
		forecast := ""
		if u.Forecast != nil {
			forecast = amountOf(*u.Forecast)
		}
		w.row(u.Subject, amountOf(u.Used), amountOf(u.Reserved), amountOf(u.Left), stamp(u.StartsAt), stamp(u.EndsAt), forecast, strings.Trim(fmt.Sprint(u.Warned), "[]"))
	}
	return w.flush()
}

type limitResetCmd struct {
	remote
	Name    string `arg:"" help:"Its name or id."`
	Subject string `help:"Of a default: whose, key_… or usr_…."`
	Why     string `help:"Why; kept in the journal." required:""`
}

// Run takes off what was used.
func (c limitResetCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var u admin.Usage
	if err := cl.call(ctx, http.MethodPost, limitPath(c.Name, "/reset"), admin.LimitReset{Subject: c.Subject, Why: c.Why}, &u); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: %s left\n", cell(c.Name), amountOf(u.Left))
	return err
}

type limitDeleteCmd struct {
	remote
	Name string `arg:"" help:"Its name or id."`
	Why  string `help:"Why; kept in the journal."`
}

// Run deletes a limit.
func (c limitDeleteCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	if err := cl.call(ctx, http.MethodDelete, limitPath(c.Name), nil, nil, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: deleted\n", cell(c.Name))
	return err
}
