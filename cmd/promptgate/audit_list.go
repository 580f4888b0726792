package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/promptgate/promptgate/gateway/admin"
)

type auditListCmd struct {
	remote
	Installation bool      `help:"What lies outside every project: accounts, groups, sessions, links, directories. For operators."`
	Object       string    `help:"Only of this, such as user:usr_… or prompt:pmpt_…."`
	Action       string    `help:"Only this action, such as label.move, or label.* for all on labels."`
	Actor        string    `help:"Only by this key, user or service account, by its id."`
	Since        time.Time `help:"Not before, such as 2026-11-01T00:00:00Z." format:"2006-01-02T15:04:05Z07:00"`
	Limit        int       `help:"At most so many." default:"50"`
	JSON         bool      `name:"json" help:"In JSON, with what was there before and after; a line each."`
}

// Run prints a line for each change.
func (c auditListCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	path := "/api/v1/events?"
	if c.Installation {
		path = "/api/v1/installation/events?"
	}
	q := url.Values{"details": {strconv.FormatBool(c.JSON)}}
	for name, value := range map[string]string{"object": c.Object, "action": c.Action, "actor": c.Actor} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if !c.Since.IsZero() {
		q.Set("since", c.Since.Format(time.RFC3339))
	}
	w := newTable(io.out, "REVISION", "AT", "ACTION", "OBJECT", "BY", "FROM", "WHY")
	exact := json.NewEncoder(io.exact)
	for left := c.Limit; left > 0; {
		var page struct {
			Events []admin.Event `json:"events"`
			Next   int64         `json:"next"`
		}
		q.Set("limit", strconv.Itoa(min(left, 200)))
		if err := cl.call(ctx, http.MethodGet, path+q.Encode(), nil, &page); err != nil {
			return err
		}
		for _, e := range page.Events {
			if c.JSON {
				if err := exact.Encode(e); err != nil {
					return err
				}
				continue
			}
			w.row(strconv.FormatInt(e.Revision, 10), stamp(e.At), e.Action, e.Object, e.Name, e.From, e.Why)
		}
		if left -= len(page.Events); page.Next == 0 {
			break
		}
		q.Set("before", strconv.FormatInt(page.Next, 10))
	}
	if c.JSON {
		return nil
	}
	return w.flush()
}
