package policytest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/uses"
)

// Reviews is one empty store of access reviews and of what they are about.
type Reviews interface {
	People
	policy.ReviewStore
	policy.Notices
	DueReviews(ctx context.Context) ([]policy.Review, error)
	EndReview(ctx context.Context, by journal.Origin, r policy.Review) (policy.Review, error)
	OpenReviews(ctx context.Context) ([]policy.Review, map[string]int, error)
}

// ReviewEnv is one empty store whose clock the test moves.
type ReviewEnv struct {
	Store   Reviews
	Ahead   func(d time.Duration)
	Changes func() []journal.Change
}

// ReviewStore runs the suite; open makes a fresh environment for each test.
func ReviewStore(t *testing.T, open func(t *testing.T) ReviewEnv) {
	for name, test := range map[string]func(*testing.T, *campaign){
		"Lines": reviewLines, "NobodyReviewsTheirOwn": ownLines, "ReviewersHaveTheirRightsOnly": reviewersRights, "Smaller": smallerOnly,
		"ChangedMeanwhile": changedMeanwhile, "Closed": reviewClosed, "DeadlineKeeps": deadlineKeeps, "DeadlineRevokesOnce": deadlineRevokesOnce,
		"StarterTakesNoMore": starterTakesNoMore, "Refusals": reviewRefusals, "TwoAtOnce": twoAtOnce, "RightsLostMeanwhile": rightsLostMeanwhile,
		"EndsAreTold": endsAreTold, "ReviewsAreTold": reviewsAreTold, "TellingIsTriedAgain": tellingIsTriedAgain,
	} {
		t.Run(name, func(t *testing.T) { test(t, newCampaign(t, open(t))) })
	}
}

// campaign is a project whose reviewers are rita, an admin, and vic, a viewer; ana and the groups hold what is reviewed.
type campaign struct {
	ReviewEnv
	t                       *testing.T
	rita, vic, ana          policy.User
	alone, shared           policy.PeopleGroup // with rita alone; with rita and ana
	ofAna, ofAlone, ofGroup policy.Binding
	ofRita, ofVic           policy.Binding
	key, anasKey            policy.KeyRecord
}

func newCampaign(t *testing.T, e ReviewEnv) *campaign {
	ctx, s := context.Background(), e.Store
	c := &campaign{ReviewEnv: e, t: t, rita: person(t, s, "rita@example.com"), vic: person(t, s, "vic@example.com"), ana: person(t, s, "ana@example.com")}
	var err error
	c.alone, err = s.CreateGroup(ctx, origin, policy.PeopleGroup{Name: "Alone"})
	require.NoError(t, err)
	c.shared, err = s.CreateGroup(ctx, origin, policy.PeopleGroup{Name: "Shared"})
	require.NoError(t, err)
	done(t, "")(s.Join(ctx, origin, c.alone.ID, policy.ByHand, c.rita.ID))
	done(t, "")(s.Join(ctx, origin, c.shared.ID, policy.ByHand, c.rita.ID, c.ana.ID))
	c.ofRita = bind(t, s, policy.Binding{Project: "prj", Subject: c.rita.ID, Role: "admin"})
	c.ofVic = bind(t, s, policy.Binding{Project: "prj", Subject: c.vic.ID, Role: "viewer"})
	c.ofAna = bind(t, s, policy.Binding{Project: "prj", Subject: c.ana.ID, Role: "editor", Prompts: []string{"a/**", "b/**"}})
	c.ofAlone = bind(t, s, policy.Binding{Project: "prj", Subject: c.alone.ID, Role: "tester"})
	c.ofGroup = bind(t, s, policy.Binding{Project: "prj", Subject: c.shared.ID, Role: "tester"})
	c.key = create(t, s, NewKey("prj", "app"))
	k := NewKey("prj", "ana's")
	k.Owner, k.Inherits, k.Roles = c.ana.ID, true, nil
	c.anasKey = create(t, s, k)
	bind(t, s, policy.Binding{Project: "other", Subject: c.ana.ID, Role: "viewer"})
	return c
}

// start begins a review by both reviewers, with the changes that a test makes to it.
func (c *campaign) start(change func(r *policy.Review)) policy.Review {
	c.t.Helper()
	r := policy.Review{Project: "prj", Name: "spring", Reviewers: []string{c.rita.ID, c.vic.ID}, Deadline: time.Now().Add(48 * time.Hour)}
	if change != nil {
		change(&r)
	}
	r, err := c.Store.StartReview(context.Background(), origin, system, r)
	require.NoError(c.t, err)
	return r
}

func (c *campaign) evidence(r policy.Review) policy.Evidence {
	c.t.Helper()
	e, err := c.Store.Evidence(context.Background(), r.Project, r.ID)
	require.NoError(c.t, err)
	return e
}

// line is the line about a binding or key.
func (c *campaign) line(r policy.Review, holding string) policy.ReviewLine {
	c.t.Helper()
	for _, l := range c.evidence(r).Lines {
		if l.Held.Holding == holding {
			return l
		}
	}
	require.FailNow(c.t, "no line is about "+holding)
	return policy.ReviewLine{}
}

func (c *campaign) decide(r policy.Review, who policy.User, holding string, d policy.Decided, change *policy.ReviewChange) (policy.ReviewLine, error) {
	c.t.Helper()
	by := journal.Origin{Actor: journal.Actor{Kind: policy.KindKey, ID: "key_of_" + who.ID, Name: "laptop"}} // one of its keys
	return c.Store.DecideLine(context.Background(), by, member(c.t, c.Store, "prj", who.ID), policy.LineDecision{
		Project: "prj", ReviewID: r.ID, N: c.line(r, holding).N, Person: who.ID, Decision: d, Change: change, Comment: "because",
	})
}

func (c *campaign) holds(holding string) bool {
	all, err := c.Store.Report(context.Background(), "prj", policy.AccessFilter{Subject: holding})
	require.NoError(c.t, err)
	return len(all) > 0
}

func reviewLines(t *testing.T, c *campaign) {
	ctx := context.Background()
	noon := time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)
	require.NoError(t, c.Store.KeepUses(ctx, []uses.Use{{Project: "prj", Holding: c.ofAna.ID, Subject: c.ana.ID, First: noon, Last: noon, Minutes: 1}}))
	r := c.start(nil)
	require.Equal(t, 7, r.Lines)
	e := c.evidence(r)
	require.Len(t, e.Lines, 7)
	assert.Equal(t, c.ofAna.ID, e.Lines[6].Held.Holding, "what was never used comes first")
	assert.Equal(t, "ana@example.com", e.Lines[6].Held.SubjectName)
	assert.Equal(t, noon, e.Lines[6].Held.LastUsed)
	kept, err := c.decide(r, c.vic, c.ofAna.ID, policy.DecideKeep, nil)
	require.NoError(t, err, "whoever may change nothing may still say that it shall stay")
	assert.Equal(t, []any{policy.DecideKeep, c.vic.ID, "vic@example.com", "because"}, []any{kept.Decision, kept.DecidedBy, kept.DecidedByName, kept.Comment})
	_, err = c.decide(r, c.rita, c.ofAna.ID, policy.DecideRevoke, nil)
	require.NoError(t, err, "a kept line may be decided otherwise")
	require.False(t, c.holds(c.ofAna.ID))
	_, err = c.decide(r, c.vic, c.ofAna.ID, policy.DecideKeep, nil)
	requireCode(t, fault.Conflict, err) // what is gone is gone
	_, err = c.decide(r, c.rita, c.key.ID, policy.DecideRevoke, nil)
	require.NoError(t, err)
	k, err := c.Store.KeyByID(ctx, "prj", c.key.ID)
	require.NoError(t, err)
	assert.False(t, k.RevokedAt.IsZero())
	some := c.start(func(r *policy.Review) {
		r.Roles = []string{"tester"}
		r.Subjects = []string{c.ana.ID}
		r.Prompts = []string{"a/x"}
	})
	require.Equal(t, 1, some.Lines, "what a group of hers holds is hers")
	assert.Equal(t, c.ofGroup.ID, c.evidence(some).Lines[0].Held.Holding)
	list, _, err := c.Store.ListReviews(ctx, "prj", policy.Page{})
	require.NoError(t, err)
	assert.Len(t, list, 2)
	_, err = c.Store.Evidence(ctx, "other", r.ID)
	requireCode(t, fault.NotFound, err)
	open, undecided, err := c.Store.OpenReviews(ctx)
	require.NoError(t, err)
	assert.Len(t, open, 2)
	assert.Equal(t, 5, undecided[r.ID])
}

func ownLines(t *testing.T, c *campaign) {
	ctx := context.Background()
	r := c.start(func(r *policy.Review) { r.Reviewers = append(r.Reviewers, c.ana.ID) })
	for holding, who := range map[string]policy.User{c.ofRita.ID: c.rita, c.ofAlone.ID: c.rita, c.ofVic.ID: c.vic, c.ofAna.ID: c.ana, c.anasKey.ID: c.ana} {
		_, err := c.decide(r, who, holding, policy.DecideKeep, nil)
		requireCode(t, fault.PermissionDenied, err)
	}
	for _, who := range []policy.User{c.rita, c.ana} {
		_, err := c.decide(r, who, c.ofGroup.ID, policy.DecideKeep, nil)
		requireCode(t, fault.PermissionDenied, err) // what the group holds is theirs
	}
	done(t, "")(c.Store.Leave(ctx, origin, c.shared.ID, c.rita.ID))
	_, err := c.decide(r, c.rita, c.ofGroup.ID, policy.DecideKeep, nil)
	require.NoError(t, err, "now it is not hers")
	done(t, "")(c.Store.Join(ctx, origin, c.shared.ID, policy.ByHand, c.vic.ID))
	_, err = c.decide(r, c.vic, c.ofGroup.ID, policy.DecideKeep, nil)
	requireCode(t, fault.PermissionDenied, err) // who joins while the review runs holds it too

	bad := policy.Review{Project: "prj", Name: "x", Reviewers: []string{c.rita.ID}, Deadline: time.Now().Add(time.Hour)}
	_, err = c.Store.StartReview(ctx, origin, system, bad)
	requireCode(t, fault.InvalidRequest, err) // nobody could decide about hers
	bad.Roles = []string{"viewer"}
	_, err = c.Store.StartReview(ctx, origin, system, bad)
	require.NoError(t, err)
	mine := NewKey("prj", "made by rita")
	by := origin
	by.Actor.ID = c.rita.ID
	made, err := c.Store.CreateKey(ctx, by, system, mine)
	require.NoError(t, err)
	again := c.start(nil)
	_, err = c.decide(again, c.rita, made.ID, policy.DecideKeep, nil)
	requireCode(t, fault.PermissionDenied, err) // a key that she made herself
}

func reviewersRights(t *testing.T, c *campaign) {
	r := c.start(nil)
	_, err := c.decide(r, c.vic, c.ofAna.ID, policy.DecideRevoke, nil)
	requireCode(t, fault.PermissionDenied, err)
	role := "viewer"
	_, err = c.decide(r, c.vic, c.ofAna.ID, policy.DecideChange, &policy.ReviewChange{Role: &role})
	requireCode(t, fault.PermissionDenied, err)
	_, err = c.decide(r, c.vic, c.anasKey.ID, policy.DecideRevoke, nil)
	requireCode(t, fault.PermissionDenied, err)
	require.True(t, c.holds(c.ofAna.ID))
	require.Empty(t, c.line(r, c.ofAna.ID).Decision, "a decision that is not carried out is none")
	_, err = c.decide(r, c.ana, c.ofVic.ID, policy.DecideKeep, nil)
	requireCode(t, fault.PermissionDenied, err) // no reviewer
	byGroup := c.start(func(r *policy.Review) { r.Reviewers = []string{c.shared.ID}; r.Subjects = []string{c.vic.ID} })
	_, err = c.decide(byGroup, c.ana, c.ofVic.ID, policy.DecideKeep, nil)
	require.NoError(t, err, "a member of a group that reviews")
}

func smallerOnly(t *testing.T, c *campaign) {
	ctx := context.Background()
	deny := bind(t, c.Store, policy.Binding{Project: "prj", Subject: c.ana.ID, Role: "viewer", Effect: policy.EffectDeny, Prompts: []string{"secret/**"}})
	r := c.start(nil)
	change := func(holding string, ch policy.ReviewChange) error {
		_, err := c.decide(r, c.rita, holding, policy.DecideChange, &ch)
		return err
	}
	admin, tester, more, fewer, far := "admin", "tester", []string{"**"}, []string{"a/**"}, time.Now().AddDate(1, 0, 0)
	for name, ch := range map[string]policy.ReviewChange{"role": {Role: &admin}, "patterns": {Prompts: &more}, "nothing": {}} {
		requireCode(t, fault.InvalidRequest, change(c.ofAna.ID, ch))
		_ = name
	}
	requireCode(t, fault.InvalidRequest, change(deny.ID, policy.ReviewChange{Prompts: &[]string{"secret/a"}})) // it would allow more
	requireCode(t, fault.InvalidRequest, change(c.anasKey.ID, policy.ReviewChange{Role: &tester}))
	require.NoError(t, change(c.ofAna.ID, policy.ReviewChange{Role: &tester, Prompts: &fewer, Expires: &far}))
	b, err := c.Store.BindingByID(ctx, "prj", c.ofAna.ID)
	require.NoError(t, err)
	assert.Equal(t, []any{"tester", fewer, "key_of_" + c.rita.ID}, []any{b.Role, b.Prompts, b.GrantedBy})
	assert.WithinDuration(t, far, b.Expires, time.Millisecond)
	line := c.line(r, c.ofAna.ID)
	assert.Equal(t, &tester, line.Change.Role)
	assert.Equal(t, "editor", line.Held.Role, "what was held stays on record")
	later := c.start(nil)
	farther := far.AddDate(1, 0, 0)
	_, err = c.decide(later, c.rita, c.ofAna.ID, policy.DecideChange, &policy.ReviewChange{Expires: &farther})
	requireCode(t, fault.InvalidRequest, err) // a later end is no smaller one
}

func changedMeanwhile(t *testing.T, c *campaign) {
	ctx := context.Background()
	r := c.start(nil)
	b := c.ofAna
	b.Reason = "still needed"
	_, err := c.Store.UpdateBinding(ctx, origin, system, b)
	require.NoError(t, err)
	viewer := "viewer"
	for d, change := range map[policy.Decided]*policy.ReviewChange{policy.DecideKeep: nil, policy.DecideRevoke: nil, policy.DecideChange: {Role: &viewer}} {
		_, err = c.decide(r, c.rita, b.ID, d, change)
		requireCode(t, fault.PreconditionFailed, err)
	}
	require.NoError(t, only(c.Store.Unbind(ctx, origin, system, "prj", c.ofVic.ID, false)))
	_, err = c.decide(r, c.rita, c.ofVic.ID, policy.DecideRevoke, nil)
	requireCode(t, fault.PreconditionFailed, err)
	k := c.key
	k.Name = "renamed"
	_, err = c.Store.UpdateKey(ctx, origin, system, k)
	require.NoError(t, err)
	for _, d := range []policy.Decided{policy.DecideKeep, policy.DecideRevoke} {
		_, err = c.decide(r, c.rita, k.ID, d, nil)
		requireCode(t, fault.PreconditionFailed, err)
	}
	require.True(t, c.holds(b.ID) && c.holds(k.ID))
}

func reviewClosed(t *testing.T, c *campaign) {
	ctx := context.Background()
	r := c.start(nil)
	_, err := c.decide(r, c.rita, c.ofAna.ID, policy.DecideRevoke, nil)
	require.NoError(t, err)
	_, err = c.Store.CloseReview(ctx, origin, "prj", r.ID, false)
	requireCode(t, fault.Conflict, err)
	closed, err := c.Store.CloseReview(ctx, origin, "prj", r.ID, true)
	require.NoError(t, err)
	e := c.evidence(r)
	doc, digest, err := e.Document()
	require.NoError(t, err)
	assert.Equal(t, closed.Digest, digest, "the evidence that is handed out is what the journal has the digest of")
	var read policy.Evidence
	require.NoError(t, json.Unmarshal(doc, &read))
	require.Len(t, read.Lines, 7)
	assert.Equal(t, "Ada", read.Review.ClosedByName)
	for _, l := range read.Lines {
		if l.Held.Holding == c.ofAna.ID {
			assert.Equal(t, []any{policy.DecideRevoke, "rita@example.com", "because", policy.OutcomeDone}, []any{l.Decision, l.DecidedByName, l.Comment, l.Outcome})
			assert.False(t, l.DecidedAt.IsZero())
			continue
		}
		assert.Empty(t, l.Decision)
	}
	_, err = c.decide(r, c.rita, c.ofVic.ID, policy.DecideKeep, nil)
	requireCode(t, fault.Conflict, err)
	again, err := c.Store.CloseReview(ctx, origin, "prj", r.ID, false)
	require.NoError(t, err)
	assert.Equal(t, closed, again, "it is closed once")
	changes := c.Changes()
	assert.Equal(t, "review.close", changes[len(changes)-1].Action)
}

func starterTakesNoMore(t *testing.T, c *campaign) {
	low := &policy.Principal{ID: "key_low", Kind: policy.KindKey, Project: "prj", Grants: []policy.Grant{{Actions: []policy.Action{policy.ActionManageUsers}}}}
	r := policy.Review{Project: "prj", Name: "x", Reviewers: []string{c.rita.ID, c.vic.ID}, Deadline: time.Now().Add(time.Hour), AtDeadline: policy.DecideRevoke}
	_, err := c.Store.StartReview(context.Background(), origin, low, r)
	requireCode(t, fault.PermissionDenied, err) // it would take an admin's away by waiting
	r.AtDeadline = policy.DecideKeep
	_, err = c.Store.StartReview(context.Background(), origin, low, r)
	require.NoError(t, err)
}

func reviewRefusals(t *testing.T, c *campaign) {
	for name, change := range map[string]func(r *policy.Review){
		"no name":      func(r *policy.Review) { r.Name = " " },
		"past":         func(r *policy.Review) { r.Deadline = time.Now().Add(-time.Second) },
		"far":          func(r *policy.Review) { r.Deadline = time.Now().AddDate(2, 0, 0) },
		"no reviewers": func(r *policy.Review) { r.Reviewers = nil },
		"nobody":       func(r *policy.Review) { r.Reviewers = []string{"usr_none"} },
		"a key":        func(r *policy.Review) { r.Reviewers = []string{c.key.ID} },
		"at deadline":  func(r *policy.Review) { r.AtDeadline = policy.DecideChange },
		"pattern":      func(r *policy.Review) { r.Prompts = []string{"NO"} },
		"empty":        func(r *policy.Review) { r.Roles = []string{} },
		"no lines":     func(r *policy.Review) { r.Roles = []string{"none"} },
		"reminders":    func(r *policy.Review) { r.Remind = []int{0} },
	} {
		r := policy.Review{Project: "prj", Name: "x", Reviewers: []string{c.rita.ID, c.vic.ID}, Deadline: time.Now().Add(time.Hour)}
		change(&r)
		_, err := c.Store.StartReview(context.Background(), origin, system, r)
		assert.Equal(t, fault.InvalidRequest, fault.CodeOf(err), name)
	}
	r := c.start(nil)
	_, err := c.decide(r, c.rita, c.ofAna.ID, "burn", nil)
	requireCode(t, fault.InvalidRequest, err)
	_, err = c.decide(r, c.rita, c.ofAna.ID, policy.DecideKeep, &policy.ReviewChange{})
	requireCode(t, fault.InvalidRequest, err)
	_, err = c.Store.DecideLine(context.Background(), origin, system, policy.LineDecision{Project: "prj", ReviewID: r.ID, N: 99, Person: c.rita.ID, Decision: policy.DecideKeep})
	requireCode(t, fault.NotFound, err)
}
