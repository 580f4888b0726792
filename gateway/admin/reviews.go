package admin

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// Review is a campaign over what is held in the project.
type Review struct {
	ID            string     `json:"id" example:"rvw_0k3v"`
	Name          string     `json:"name" example:"spring"`
	Roles         []string   `json:"roles" doc:"What it looks at; none: all"`
	Subjects      []string   `json:"subjects"`
	Prompts       []string   `json:"prompts"`
	Reviewers     []string   `json:"reviewers" doc:"usr_… and grp_…"`
	RemindDays    []int      `json:"remind_days" doc:"The webhook is told so many days before the deadline, while something is undecided"`
	AtDeadline    string     `json:"at_deadline" enum:"keep,revoke" doc:"What becomes of what nobody decided about"`
	DeadlineAt    time.Time  `json:"deadline_at"`
	Lines         int        `json:"lines" doc:"How many things were held when it began"`
	Undecided     int        `json:"undecided" doc:"How many of them nobody has decided about"`
	StartedBy     string     `json:"started_by"`
	StartedByName string     `json:"started_by_name,omitempty"`
	StartedAt     time.Time  `json:"started_at"`
	ClosedBy      string     `json:"closed_by,omitempty"`
	ClosedByName  string     `json:"closed_by_name,omitempty"`
	ClosedAt      *time.Time `json:"closed_at,omitempty"`
	Digest        string     `json:"evidence_sha256,omitempty" doc:"Of the evidence, once it is closed; the journal has it as well"`
	Revision      int64      `json:"revision"`
}

func reviewOf(r policy.Review, undecided int) Review {
	return Review{
		ID: r.ID, Name: r.Name, Roles: list(r.Roles), Subjects: list(r.Subjects), Prompts: list(r.Prompts), Reviewers: list(r.Reviewers), RemindDays: list(r.Remind),
		AtDeadline: string(r.AtDeadline), DeadlineAt: r.Deadline, Lines: r.Lines, Undecided: undecided, StartedBy: r.StartedBy, StartedByName: r.StartedByName,
		StartedAt: r.StartedAt, ClosedBy: r.ClosedBy, ClosedByName: r.ClosedByName, ClosedAt: moment(r.ClosedAt), Digest: r.Digest, Revision: r.Revision,
	}
}

// ReviewCreate begins a review.
type ReviewCreate struct {
	Name       string    `json:"name" minLength:"1" maxLength:"100" example:"spring"`
	Roles      []string  `json:"roles,omitempty" maxItems:"100" doc:"Only these roles; all without" example:"[\"admin\"]"`
	Subjects   []string  `json:"subjects,omitempty" maxItems:"100" doc:"Only what these hold: usr_…, grp_…, svc_… or key_…; of a user, what its groups hold as well"`
	Prompts    []string  `json:"prompts,omitempty" maxItems:"100" doc:"Only what speaks of prompts under these patterns" example:"[\"support/**\"]"`
	Reviewers  []string  `json:"reviewers" minItems:"1" maxItems:"50" doc:"usr_…, grp_… or the addresses of accounts. Nobody decides about what is their own" example:"[\"rita@example.com\"]"`
	RemindDays []int     `json:"remind_days,omitempty" maxItems:"5" doc:"7 and 1 without"`
	AtDeadline string    `json:"at_deadline,omitempty" enum:"keep,revoke" doc:"What becomes of what nobody decided about: keep without. To revoke, you must be able to take each of it away now"`
	DeadlineAt time.Time `json:"deadline_at" doc:"Within 366 days"`
}

// ReviewInput names a review by its id.
type ReviewInput struct {
	Credentials
	ID string `path:"review" example:"rvw_0k3v"`
}

type createReviewInput struct {
	Credentials
	Body ReviewCreate
}

type closeReviewInput struct {
	ReviewInput
	Force bool `query:"force" doc:"Also when something is undecided: it stays as it is"`
}

type listReviewsInput struct {
	Credentials
	Paging
}

type reviewAnswer struct {
	Changed
	ETag string `header:"ETag"`
	Body Review
}

type reviewCreatedAnswer struct {
	Changed
	Created
	ETag string `header:"ETag"`
	Body Review
}

type reviewList struct {
	Body struct {
		Reviews []Review `json:"reviews"`
		Next    string   `json:"next,omitempty"`
	}
}

type evidenceAnswer struct {
	Type        string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Digest      string `header:"X-Promptgate-Evidence-Sha256" doc:"Of the JSON document; once the review is closed, the journal's event review.close has the same"`
	Body        []byte
}

// reviews are campaigns over who holds what.
type reviews struct {
	store  policy.ReviewStore
	people policy.PeopleStore
}

const seenBy = "For those who hold `manage_users` or `audit`, and for the reviewers; to other people it is not there."

func (n reviews) routes(a *API) {
	manage := func(id, method, path, summary string, status int) op {
		return op{id: id, method: method, path: path, action: policy.ActionManageUsers, kind: policy.ObjectSystem, tag: "people", summary: summary, status: status}
	}
	see := func(id, path, summary string) op {
		return op{id: id, method: http.MethodGet, path: path, tag: "people", summary: summary, about: seenBy}
	}
	all := manage("list-access-reviews", http.MethodGet, "/access-reviews", "List the project's access reviews", 0)
	all.or = policy.ActionAudit
	handle(a, all, n.list)
	handle(a, op{id: "list-own-access-reviews", method: http.MethodGet, path: "/me/access-reviews", person: true, tag: "people",
		summary: "List the open access reviews that you are a reviewer of"}, n.own)
	create := manage("create-access-review", http.MethodPost, "/access-reviews", "Begin an access review: what is held now is taken down, line by line", http.StatusCreated)
	create.about = "Each line must have a reviewer who may decide about it: nobody reviews what is their own, through a group neither."
	handle(a, create, n.create)
	handle(a, see("get-access-review", "/access-reviews/{review}", "Get an access review"), n.get)
	handle(a, see("list-access-review-lines", "/access-reviews/{review}/lines", "List what is reviewed, what was never used first"), n.lines)
	handle(a, op{id: "decide-access-review-line", method: http.MethodPatch, path: "/access-reviews/{review}/lines/{line}", person: true, tag: "people",
		summary: "Keep, change or revoke what a line is about",
		about: "For reviewers. It is carried out at once, by your own rights, as if you changed the binding or revoked the key yourself; a change makes it smaller, never larger. " +
			"What was kept may be decided otherwise until the deadline."}, n.decide)
	handle(a, manage("close-access-review", http.MethodPost, "/access-reviews/{review}/close", "End an access review before its deadline", 0), n.close)
	handle(a, see("get-access-review-evidence", "/access-reviews/{review}/evidence", "The review with all its lines, as one JSON document"), n.evidence)
	handle(a, see("get-access-review-evidence-csv", "/access-reviews/{review}/evidence.csv", "The review's lines as CSV"), n.table)
}

// sees reads a review for somebody who may see it. What there is, is told to nobody else.
func (n reviews) sees(ctx context.Context, c *caller, id string) (policy.Review, error) {
	for _, action := range []policy.Action{policy.ActionManageUsers, policy.ActionAudit} {
		switch ok, err := c.may(ctx, policy.Permission{Action: action, Kind: policy.ObjectSystem}); {
		case err != nil:
			return policy.Review{}, err
		case ok:
			return n.store.ReviewByID(ctx, c.Project, id)
		}
	}
	return n.reviewedBy(ctx, c, id)
}

// reviewedBy reads a review for one of its reviewers.
func (n reviews) reviewedBy(ctx context.Context, c *caller, id string) (policy.Review, error) {
	me, err := c.person()
	if err != nil {
		return policy.Review{}, policy.Lacks(policy.Permission{Action: policy.ActionManageUsers, Kind: policy.ObjectSystem}.Describe())
	}
	r, err := n.store.ReviewByID(ctx, c.Project, id)
	if err != nil {
		return r, err
	}
	ok, err := n.store.Reviews(ctx, r, me)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "There is no such access review.")
	}
	return r, err
}

func (n reviews) told(ctx context.Context, project string, all []policy.Review) ([]Review, error) {
	ids := make([]string, len(all))
	for i, r := range all {
		ids[i] = r.ID
	}
	undecided, err := n.store.Undecided(ctx, project, ids...)
	out := make([]Review, len(all))
	for i, r := range all {
		out[i] = reviewOf(r, undecided[r.ID])
	}
	return out, err
}

func (n reviews) list(ctx context.Context, c *caller, in *listReviewsInput) (*reviewList, error) {
	found, next, err := n.store.ListReviews(ctx, c.Project, policy.Page{After: in.After, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := &reviewList{}
	out.Body.Next = next
	out.Body.Reviews, err = n.told(ctx, c.Project, found)
	return out, err
}

func (n reviews) own(ctx context.Context, c *caller, _ *Credentials) (*reviewList, error) {
	me, err := c.person()
	if err != nil {
		return nil, err
	}
	found, err := n.store.ReviewsOf(ctx, c.Project, me)
	if err != nil {
		return nil, err
	}
	out := &reviewList{}
	out.Body.Reviews, err = n.told(ctx, c.Project, found)
	return out, err
}

func (n reviews) create(ctx context.Context, c *caller, in *createReviewInput) (*reviewCreatedAnswer, error) {
	b := in.Body
	if err := policy.ValidExpiry(b.DeadlineAt, "deadline_at"); err != nil {
		return nil, err
	}
	r := policy.Review{
		Project: c.Project, Name: b.Name, Roles: b.Roles, Subjects: b.Subjects, Prompts: b.Prompts, Remind: b.RemindDays, AtDeadline: policy.Decided(b.AtDeadline), Deadline: b.DeadlineAt,
	}
	for _, who := range b.Reviewers {
		if strings.Contains(who, "@") {
			u, err := n.people.UserByEmail(ctx, who)
			if fault.Is(err, fault.NotFound) {
				return nil, fault.New(fault.InvalidRequest, "There is no account with the address %s.", who).WithParam("reviewers")
			}
			if err != nil {
				return nil, err
			}
			who = u.ID
		}
		r.Reviewers = append(r.Reviewers, who)
	}
	r, err := n.store.StartReview(ctx, c.Origin, c.Principal, r)
	if err != nil {
		return nil, err
	}
	return &reviewCreatedAnswer{Changed: changed(r.Revision), Created: created("access-reviews", r.ID), ETag: etag(r.Revision), Body: reviewOf(r, r.Lines)}, nil
}

func (n reviews) answer(ctx context.Context, r policy.Review) (*reviewAnswer, error) {
	told, err := n.told(ctx, r.Project, []policy.Review{r})
	if err != nil {
		return nil, err
	}
	return &reviewAnswer{Changed: changed(r.Revision), ETag: etag(r.Revision), Body: told[0]}, nil
}

func (n reviews) get(ctx context.Context, c *caller, in *ReviewInput) (*reviewAnswer, error) {
	r, err := n.sees(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	return n.answer(ctx, r)
}

func (n reviews) close(ctx context.Context, c *caller, in *closeReviewInput) (*reviewAnswer, error) {
	r, err := n.store.CloseReview(ctx, c.Origin, c.Project, in.ID, in.Force)
	if err != nil {
		return nil, err
	}
	return n.answer(ctx, r)
}

func (n reviews) read(ctx context.Context, c *caller, id string) (e policy.Evidence, doc []byte, digest string, err error) {
	if _, err = n.sees(ctx, c, id); err != nil {
		return e, nil, "", err
	}
	if e, err = n.store.Evidence(ctx, c.Project, id); err != nil {
		return e, nil, "", err
	}
	doc, digest, err = e.Document()
	if err == nil && e.Review.Closed() && digest != e.Review.Digest {
		err = fault.New(fault.Internal, "the evidence is not what the review was closed with")
	}
	return e, doc, digest, err
}

func (n reviews) evidence(ctx context.Context, c *caller, in *ReviewInput) (*evidenceAnswer, error) {
	_, doc, digest, err := n.read(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	return &evidenceAnswer{Type: "application/json", Disposition: `attachment; filename="access-review.json"`, Digest: digest, Body: doc}, nil
}
