package gateway

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
)

// maxScoreBytes bounds the body of a score.
const maxScoreBytes = 16 << 10

// score is the body of POST /v1/feedback.
type score struct {
	CallID       string         `json:"call_id"`
	CompletionID string         `json:"completion_id"`
	Token        string         `json:"token"`
	Name         string         `json:"name"`
	Value        jsontext.Value `json:"value"`
	Comment      string         `json:"comment"`
	User         string         `json:"user"`
	ID           string         `json:"id"`
}

// feedback takes a score on one call: from a key, or from a browser with that call's token.
func (g *Gateway) feedback(c *gin.Context) {
	ctx := c.Request.Context()
	g.allowOrigin(c)
	s, err := g.readScore(c)
	if s.Token != "" {
		g.feedbackByToken(c, s, err)
		return
	}
	who, id, authErr := g.identified(ctx, c.Request)
	switch {
	case authErr != nil: // first: strangers learn nothing about bodies
		g.refuseCall(c, id, authErr)
		return
	case err != nil:
		g.refuseCall(c, id, err)
		return
	}
	f, err := g.scored(ctx, who, s)
	if err == nil {
		err = g.keep(ctx, f)
	}
	if err != nil {
		g.refuseCall(c, id, err)
		return
	}
	g.answer(c, id, http.StatusAccepted, accepted{Object: "feedback", ID: f.ID, CallID: f.CallID})
}

type accepted struct {
	Object string `json:"object"`
	ID     string `json:"id"`
	CallID string `json:"call_id"`
}

func (g *Gateway) feedbackByToken(c *gin.Context, s score, parseErr error) {
	project, callID, ok := g.deps.CallIDs.ReadToken(s.Token)
	id, _ := g.deps.CallIDs.Mint(project, "") // an answer without an id is better than none
	err := parseErr
	if !ok {
		err = fault.New(fault.InvalidAPIKey, "This feedback token is wrong or has expired. Score with an API key, or within the token's time.")
	}
	var f *metrics.Feedback
	if err == nil {
		f, err = g.newFeedback(project, callID, s)
	}
	if err == nil {
		f.Source, f.Scorer = "user", "token" // whoever holds it: a token is for one opinion of the call
		err = g.keep(c.Request.Context(), f)
	}
	if err != nil {
		g.refuseCall(c, id, err)
		return
	}
	g.answer(c, id, http.StatusAccepted, accepted{Object: "feedback", ID: f.ID, CallID: f.CallID})
}

// readScore reads the body under the same bounds as a call's.
func (g *Gateway) readScore(c *gin.Context) (s score, err error) {
	body, err := io.ReadAll(io.LimitReader(c.Request.Body, maxScoreBytes+1)) // Guard bounds the time
	if err != nil {
		return s, fault.Wrap(err, fault.ClientClosed, "The request was cut.")
	}
	return s, parseScore(body, &s)
}

// parseScore reads the body as far as it can: the token is wanted even when the rest is wrong.
func parseScore(body []byte, s *score) error {
	if len(body) > maxScoreBytes {
		return fault.New(fault.RequestTooLarge, "Feedback is at most %d bytes.", maxScoreBytes)
	}
	if err := jsonv2.Unmarshal(body, s, jsonv2.RejectUnknownMembers(true)); err != nil {
		return fault.Wrap(err, fault.InvalidJSON,
			"The body must be one JSON object with call_id, completion_id or token, and name, value and, if you like, comment, user, id.")
	}
	return nil
}

// scored judges a score by a key: may it score that call?
func (g *Gateway) scored(ctx context.Context, who *policy.Principal, s score) (*metrics.Feedback, error) {
	if (s.CallID == "") == (s.CompletionID == "") {
		return nil, fault.New(fault.InvalidRequest, "Send one of call_id, completion_id and token.").WithParam("call_id")
	}
	if s.CallID != "" && !g.deps.CallIDs.Verify(who.Project, s.CallID) {
		return nil, callNotFound()
	}
	if s.CallID == "" || !g.deps.CallIDs.Owned(who.Project, who.ID, s.CallID) {
		if err := g.mayScore(ctx, who, &s); err != nil {
			return nil, err
		}
	}
	f, err := g.newFeedback(who.Project, s.CallID, s)
	if err != nil {
		return nil, err
	}
	if f.Scorer == "" && s.ID == "" {
		f.Scorer = "key:" + who.ID // the same key again corrects itself
	}
	f.Source = "code"
	if who.Kind == "user" {
		f.Source = "reviewer"
	}
	return f, nil
}

// mayScore looks up a call that this key did not make, or named by the provider's id, and asks whether it may be scored. A call that
// one may not score is not there.
func (g *Gateway) mayScore(ctx context.Context, who *policy.Principal, s *score) error {
	if g.deps.Calls == nil {
		return callNotFound()
	}
	call, err := g.deps.Calls.FindCall(ctx, who.Project, s.CallID, s.CompletionID)
	if fault.Is(err, fault.CallNotFound) {
		return callNotFound()
	}
	if err != nil {
		return err
	}
	if call.Project != who.Project {
		return callNotFound()
	}
	s.CallID = call.ID
	if call.Principal == who.ID {
		return nil
	}
	want := policy.Permission{Action: policy.ActionFeedback, Kind: policy.ObjectModel, Name: call.Model, Label: policy.LabelAny}
	if call.PromptID != "" {
		// Grants see a prompt's current name, not the one that it had when the call was made.
		p, err := g.deps.Registry.Identify(ctx, who.Project, call.PromptID)
		if fault.Is(err, fault.PromptNotFound) {
			return callNotFound()
		}
		if err != nil {
			return err
		}
		want.Kind, want.Name = policy.ObjectPrompt, p.Name
	}
	verdict, d, err := policy.Decide(ctx, g.deps.Checker, who, want, policy.Named{Spelled: want.Name, Current: want.Name})
	switch {
	case err != nil:
		return err
	case verdict == policy.Refused:
		return policy.Lacks(d.Missing)
	case verdict == policy.Unseen:
		return callNotFound()
	}
	return nil
}

// callNotFound is the one answer for a call that is not there, is another project's, or is not this caller's to know of.
func callNotFound() error {
	return fault.New(fault.CallNotFound, "There is no such call, or this key may not score it. Calls can be found about a second after they ended.").
		WithParam("call_id")
}

// newFeedback judges the score itself.
func (g *Gateway) newFeedback(project, callID string, s score) (*metrics.Feedback, error) {
	f := &metrics.Feedback{ID: s.ID, Project: project, CallID: callID, Name: s.Name, Comment: s.Comment, At: g.deps.Clock()}
	switch {
	case s.Name == "" || len(s.Name) > metrics.MaxScoreName:
		return nil, invalidScore("name", "Send name, the thing that is scored, in at most 64 bytes: for example \"helpful\".")
	case len(s.Comment) > metrics.MaxScoreComment:
		return nil, invalidScore("comment", "A comment is at most 8192 bytes.")
	case len(s.User) > metrics.MaxScoreText:
		return nil, invalidScore("user", "A user is at most 200 bytes.")
	case len(s.ID) > metrics.MaxScoreText:
		return nil, invalidScore("id", "An id is at most 200 bytes.")
	}
	if err := setValue(f, s.Value); err != nil {
		return nil, err
	}
	if s.User != "" {
		f.User = g.deps.HashUser(project, s.User) // as a call's end user: figures by user, without their names
		f.Scorer = "user:" + f.User
	}
	if f.ID == "" {
		id, err := g.deps.CallIDs.Mint(project, "feedback")
		if err != nil {
			return nil, fault.Wrap(err, fault.Internal, internalMessage)
		}
		f.ID = "fb_" + id[len(callPrefix):]
	}
	return f, nil
}

func setValue(f *metrics.Feedback, raw jsontext.Value) error {
	var v any
	if len(raw) > 0 && json.Unmarshal(raw, &v) != nil {
		v = nil
	}
	switch v := v.(type) {
	case bool:
		f.Bool = &v
	case float64:
		f.Number = &v
	case string:
		if v == "" || len(v) > metrics.MaxScoreText {
			return invalidScore("value", "A category is 1 to 200 bytes.")
		}
		f.Category = v
	default:
		return invalidScore("value", "Send value: true or false, a number, or a category as a string.")
	}
	return nil
}

func invalidScore(param, message string) error {
	return fault.New(fault.InvalidRequest, "%s", message).WithParam(param)
}

// keep spools a score: the caller is answered once it survives this process.
func (g *Gateway) keep(ctx context.Context, f *metrics.Feedback) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := g.deps.Recorder.RecordFeedback(ctx, f); err != nil {
		g.deps.Events.count(eventRecordFailed)
		if fault.CodeOf(err) != fault.Internal {
			return err
		}
		return fault.Wrap(err, fault.RegistryUnavailable, "The score could not be kept. Try again; send the same id so that it counts once.")
	}
	return nil
}
