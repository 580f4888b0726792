package admin

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/promptgate/promptgate/policy"
)

// ReviewLine is one thing that was held when a review began.
type ReviewLine struct {
	N             int           `json:"n" example:"1"`
	Held          Held          `json:"held" doc:"As it was when the review began; what a group holds is the group's"`
	Decision      string        `json:"decision,omitempty" doc:"keep, change or revoke; absent: nobody has decided"`
	Change        *ReviewChange `json:"change,omitempty"`
	Outcome       string        `json:"outcome,omitempty" doc:"done; changed_meanwhile and gone_meanwhile: others came before; kept_last_admin: the deadline takes no last admin away"`
	Comment       string        `json:"comment,omitempty"`
	DecidedBy     string        `json:"decided_by,omitempty"`
	DecidedByName string        `json:"decided_by_name,omitempty"`
	DecidedAt     *time.Time    `json:"decided_at,omitempty"`
	Revision      int64         `json:"revision" doc:"For If-Match"`
}

// ReviewChange makes a binding smaller; what is absent stays.
type ReviewChange struct {
	Role      *string    `json:"role,omitempty" minLength:"1" maxLength:"40"`
	Prompts   *[]string  `json:"prompts,omitempty" maxItems:"100"`
	Labels    *[]string  `json:"labels,omitempty" maxItems:"100"`
	Models    *[]string  `json:"models,omitempty" maxItems:"100"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"A sooner end than it has"`
}

func lineOf(l policy.ReviewLine) ReviewLine {
	out := ReviewLine{
		N: l.N, Held: heldOf(l.Held), Decision: string(l.Decision), Outcome: string(l.Outcome), Comment: l.Comment, DecidedBy: l.DecidedBy, DecidedByName: l.DecidedByName,
		DecidedAt: moment(l.DecidedAt), Revision: l.Revision,
	}
	if c := l.Change; c != nil {
		out.Change = &ReviewChange{Role: c.Role, Prompts: c.Prompts, Labels: c.Labels, Models: c.Models, ExpiresAt: c.Expires}
	}
	return out
}

type listLinesInput struct {
	ReviewInput
	Paging
	Undecided bool `query:"undecided" doc:"Only what nobody has decided about"`
}

type lineList struct {
	Body struct {
		Lines []ReviewLine `json:"lines"`
		Next  string       `json:"next,omitempty"`
	}
}

// LineDecide is what a reviewer decides.
type LineDecide struct {
	Decision string        `json:"decision" enum:"keep,change,revoke"`
	Change   *ReviewChange `json:"change,omitempty" doc:"With change: what of the binding becomes smaller. A key is kept or revoked"`
	Comment  string        `json:"comment,omitempty" maxLength:"1000"`
}

type decideInput struct {
	ReviewInput
	Line int `path:"line" minimum:"1" maximum:"5000"`
	Precondition
	Body LineDecide
}

type lineAnswer struct {
	Changed
	ETag string `header:"ETag"`
	Body ReviewLine
}

func (n reviews) lines(ctx context.Context, c *caller, in *listLinesInput) (*lineList, error) {
	after := 0
	if in.After != "" {
		at, err := placed(in.After)
		if err != nil {
			return nil, err
		}
		if after, err = strconv.Atoi(at); err != nil {
			return nil, wrongCursor()
		}
	}
	if _, err := n.sees(ctx, c, in.ID); err != nil {
		return nil, err
	}
	e, err := n.store.Evidence(ctx, c.Project, in.ID)
	if err != nil {
		return nil, err
	}
	out := &lineList{}
	out.Body.Lines = []ReviewLine{}
	for _, l := range e.Lines {
		if l.N <= after || in.Undecided && !l.Undecided() {
			continue
		}
		if len(out.Body.Lines) == in.Limit {
			out.Body.Next = place(strconv.Itoa(out.Body.Lines[in.Limit-1].N))
			break
		}
		out.Body.Lines = append(out.Body.Lines, lineOf(l))
	}
	return out, nil
}

func (n reviews) decide(ctx context.Context, c *caller, in *decideInput) (*lineAnswer, error) {
	me, err := c.person()
	if err != nil {
		return nil, err
	}
	if _, err := n.reviewedBy(ctx, c, in.ID); err != nil {
		return nil, err
	}
	rev, err := in.revision()
	if err != nil {
		return nil, err
	}
	d := policy.LineDecision{
		Project: c.Project, ReviewID: in.ID, N: in.Line, Revision: rev, Person: me, Decision: policy.Decided(in.Body.Decision), Comment: in.Body.Comment,
	}
	if ch := in.Body.Change; ch != nil {
		if ch.ExpiresAt != nil {
			if err := policy.ValidExpiry(*ch.ExpiresAt, "change.expires_at"); err != nil {
				return nil, err
			}
		}
		d.Change = &policy.ReviewChange{Role: ch.Role, Prompts: ch.Prompts, Labels: ch.Labels, Models: ch.Models, Expires: ch.ExpiresAt}
	}
	l, err := n.store.DecideLine(ctx, c.Origin, c.Principal, d)
	if err != nil {
		return nil, err
	}
	return &lineAnswer{Changed: changed(l.Revision), ETag: etag(l.Revision), Body: lineOf(l)}, nil
}

// table is the evidence for people; the JSON document is what has the digest.
func (n reviews) table(ctx context.Context, c *caller, in *ReviewInput) (*csvAnswer, error) {
	e, _, _, err := n.read(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	var t table
	t.row(append([]string{"review", "line"}, append(accessColumns(), "decision", "change", "outcome", "comment", "decided_by", "decided_by_name", "decided_at")...)...)
	for _, l := range e.Lines {
		cells := append([]string{e.Review.Name, strconv.Itoa(l.N)}, accessCells(l.Held)...)
		t.row(append(cells, string(l.Decision), spelledChange(l.Change), string(l.Outcome), l.Comment, l.DecidedBy, l.DecidedByName, spelledTime(l.DecidedAt))...)
	}
	return t.answer("access-review.csv"), nil
}

func spelledChange(c *policy.ReviewChange) string {
	if c == nil {
		return ""
	}
	var out []string
	if c.Role != nil {
		out = append(out, "role: "+*c.Role)
	}
	for _, of := range []struct {
		name string
		list *[]string
	}{{"prompts", c.Prompts}, {"labels", c.Labels}, {"models", c.Models}} {
		if of.list != nil {
			out = append(out, of.name+": "+strings.Join(*of.list, " "))
		}
	}
	if c.Expires != nil {
		out = append(out, "until "+spelledTime(*c.Expires))
	}
	return strings.Join(out, "; ")
}
