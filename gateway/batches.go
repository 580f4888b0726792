package gateway

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
)

// A batch is a file of requests that its provider answers later. What the requests ask is judged when the file is uploaded, line by line, and the call's record
// says that it was: a batch of any other file is refused. They are all for one model, so that the permission for it is asked again when the batch is made.

const (
	purposeBatch = "batch"
	// endpointChecked is the endpoint of the upload of a file whose lines were looked at; endpointMade that of the records of files that a provider made.
	endpointChecked = "files/batch"
	endpointMade    = "batches/files"
)

// beginLines reads the first line of a file for a batch: its model says who serves it, as a model in a request does.
func (g *Gateway) beginLines(ctx context.Context, c *call) error {
	c.rec.Endpoint = endpointChecked
	content, ok := c.in.parts.OnlyFile("file")
	if !ok {
		return fault.New(fault.InvalidRequest, "A file for a batch comes as the form's one file, called \"file\".").WithParam("file")
	}
	first, _ := wire.CutBatchLine(content)
	var line wire.BatchLine
	if err := line.Read(first); err != nil {
		return atLine(err, 1)
	}
	if !wire.NamesNoModel(c.in.model) && c.in.model != line.Model {
		return fault.New(fault.InvalidRequest, "The form names the model %.100q, and the file's first line %.100q: send the same, or no model in the form.", c.in.model, line.Model).
			WithParam("model")
	}
	c.in.model = line.Model
	return g.plainModel(ctx, c, line.Model)
}

// plainModel refuses a model that stands for a prompt.
func (g *Gateway) plainModel(ctx context.Context, c *call, model string) error {
	prompt, err := g.deps.Router.Prompt(ctx, c.who.Project, model)
	if err == nil && prompt != "" {
		err = fault.New(fault.InvalidPromptReference, "The model %.100q stands for a managed prompt, which does not run in a batch.", model).WithParam("model")
	}
	return err
}

// checkLines judges each line of a file for a batch as the call that it will be, and leaves the targets that serve its model by the name that it says. It
// does nothing for any other call.
func (g *Gateway) checkLines(ctx context.Context, c *call) error {
	if c.rec.Endpoint != endpointChecked {
		return nil
	}
	content, _ := c.in.parts.OnlyFile("file")
	model, api := c.in.model, wire.API(nil)
	if err := g.authorizeModelAt(ctx, c, model, "file", policy.LabelModel); err != nil {
		return atLine(err, 1)
	}
	var err error
	if c.out.targets, err = g.plainly(ctx, c, model, c.out.targets); err != nil {
		return err
	}
	var line wire.BatchLine
	for n := 1; len(content) > 0; n++ {
		switch {
		case ctx.Err() != nil:
			return ended(ctx, ctx.Err())
		case n > wire.MaxBatchLines:
			return fault.New(fault.InvalidRequest, "The file has more than %d lines.", wire.MaxBatchLines).WithParam("file")
		}
		var raw []byte
		raw, content = wire.CutBatchLine(content)
		if err := line.Read(raw); err != nil {
			return atLine(err, n)
		}
		if api == nil {
			api = line.API
		}
		if line.Model != model || line.API.Endpoint() != api.Endpoint() {
			return atLine(fault.New(fault.InvalidRequest, "All lines must be for one model, %.100q, and one url, /v1/%s.", model, api.Endpoint()), n)
		}
		if err := g.checkLine(ctx, c, &line); err != nil {
			return atLine(err, n)
		}
	}
	return nil
}

// checkLine judges what a line names beside its model.
func (g *Gateway) checkLine(ctx context.Context, c *call, line *wire.BatchLine) (err error) {
	if raw, ok := line.Body.Get("tools"); ok {
		models, err := toolModels(raw)
		if err != nil {
			return err
		}
		for _, model := range models {
			if err := g.authorizeModelAt(ctx, c, model, "tools", policy.LabelModel); err != nil {
				return err
			}
		}
	}
	if ids := line.Body.FileIDs(nil); len(ids) > 0 {
		c.out.targets, err = g.mayUse(ctx, c, nil, ids, c.out.targets)
	}
	return err
}

// plainly are the targets that serve a model by the name that it has here: nobody rewrites what stands in a file.
func (g *Gateway) plainly(ctx context.Context, c *call, model string, targets []provider.Target) ([]provider.Target, error) {
	if err := g.plainModel(ctx, c, model); err != nil {
		return nil, err
	}
	serving, err := g.deps.Router.Route(ctx, c.who.Project, model)
	if err != nil {
		return nil, err
	}
	targets = slices.DeleteFunc(slices.Clone(targets), func(t provider.Target) bool {
		return !slices.ContainsFunc(serving, func(s provider.Target) bool { return s.Provider.Name() == t.Provider.Name() && s.Model == model })
	})
	if len(targets) == 0 {
		return nil, fault.New(fault.InvalidRequest, "In a batch the model %.100q does not lead to a provider that knows it by that name: name the provider's own model, since nothing in the file is rewritten.", model).
			WithParam("model")
	}
	return targets, nil
}

// atLine names, in what is wrong with a file, the line.
func atLine(err error, n int) error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return err
	}
	moved := *f
	moved.Message = "Line " + strconv.Itoa(n) + " of the file: " + strings.Replace(f.Message, "The request body is not valid JSON at line 1, column", "it is not valid JSON at column", 1)
	moved.Param = "file"
	return &moved
}

// batches serves POST /v1/batches.
//
//nolint:contextcheck // the request brings its context
func (g *Gateway) batches(c *gin.Context) {
	g.serveHTTP(c, g.borrow(c.Writer, requestOf(c.Request), wire.Batches{}, policy.ActionCall), g.batching)
}

// batchPipeline is what happens to a request for a batch.
func (g *Gateway) batchPipeline() pipeline {
	return inOrder(
		g.authenticate, // who asks
		g.admit,        // from where
		g.planBatch,    // is the file the caller's, was it looked at, and may the caller still call its model
		g.reserve,
		g.forward,
	).andAlways(g.settle, g.record, g.spend)
}

// planBatch finds who keeps a batch's file, which has to be the caller's own, and looked at.
func (g *Gateway) planBatch(ctx context.Context, c *call) error {
	if g.deps.Runs == nil {
		return fault.New(fault.NotImplemented, "Batches are not served here: nothing would follow them to their end.")
	}
	b := &c.in.body
	if err := b.Scan(c.in.buf.B); err != nil {
		return err
	}
	for _, m := range b.Members() {
		for _, name := range [...]string{"input_file_id", "endpoint"} {
			if strings.EqualFold(m.Name, name) && m.Name != name {
				return fault.New(fault.InvalidJSON, "The field %.50q differs only by case from %q: spell it that way.", m.Name, name).WithParam(name)
			}
		}
	}
	field := wire.PromptNamedIn(b, nil)
	if field == "" {
		field = b.FirstOf(wire.RoutingFields(), nil)
	}
	for _, name := range [...]string{"model", "models"} {
		if _, ok := b.Get(name); ok && field == "" {
			field = name
		}
	}
	if field != "" {
		return fault.New(fault.InvalidRequest, "A batch takes no %q: its file's lines say what is asked.", field).WithParam(field)
	}
	if wire.BatchAPI(b.Text("endpoint")) == nil {
		return fault.New(fault.InvalidRequest, "\"endpoint\" must be what the file's lines have as url, such as /v1/responses.").WithParam("endpoint")
	}
	return g.planFile(ctx, c, b.Text("input_file_id"))
}

// planFile is planBatch for a file.
func (g *Gateway) planFile(ctx context.Context, c *call, id string) error {
	const param = "input_file_id"
	refused := fault.New(fault.StatefulReferenceRefused,
		"%q names no file that this key uploaded here with the purpose \"batch\": the requests in it were not looked at. Upload it by POST /v1/files.", param).WithParam(param)
	if !plainID(id) {
		return refused
	}
	by, ok, err := g.storedBy(ctx, c.who.Project, id)
	if err != nil {
		return err
	}
	if !ok || by.principal != c.who.ID || by.endpoint != endpointChecked {
		return refused
	}
	if by.prompt != "" {
		prompt, _, err := g.stillRuns(ctx, c, by)
		if err != nil {
			return err
		}
		if prompt == nil {
			return refused
		}
	}
	if err := g.authorizeModelAt(ctx, c, by.model, param, policy.LabelModel); err != nil {
		return err
	}
	t, err := g.deps.Router.Provider(ctx, c.who.Project, by.provider)
	if err != nil {
		return err
	}
	t.Model = by.model
	targets, err := g.plainly(ctx, c, by.model, []provider.Target{t})
	if err != nil {
		return err
	}
	if c.out.targets, err = speaking(targets, c.api.Name(), by.model); err != nil {
		return err
	}
	c.in.model, c.out.model, c.out.tier, c.out.runsOn = by.model, by.model, wire.BatchTier, true
	return nil
}

// seenBatch notes the files that a provider made of a batch which a call asked about.
func (g *Gateway) seenBatch(ctx context.Context, c *call) {
	if c.ans.buf == nil || c.ans.status >= 300 || c.ans.more || c.api.Name() != wire.BatchesAPI {
		return
	}
	said, whole := wire.Batches{}.ReadAnswer(c.ans.buf.B)
	if whole && (c.kept.route == nil || said.ID == c.kept.id) {
		g.adoptFiles(ctx, &c.rec, said.Items, c.ans.buf.B)
	}
}

// adoptFiles makes the files that a provider made of a batch its maker's, and has the ledger know it, once: whichever replica sees them first.
func (g *Gateway) adoptFiles(ctx context.Context, of *metrics.Call, files []string, batch []byte) {
	made := time.Unix(gjson.GetBytes(batch, "created_at").Int(), 0)
	for _, id := range files {
		rec := metrics.Call{
			ID: g.deps.CallIDs.Derive(of.Project, of.Principal, id, made), Project: of.Project, Principal: of.Principal, Provider: of.Provider, Model: of.Model,
			ModelListed: of.ModelListed, Endpoint: endpointMade, CompletionID: id, Start: g.deps.Clock(), Outcome: metrics.OutcomeOK, Status: 200, CostMicros: new(int64),
		}
		if _, fresh := g.stored.SetIfAbsent(storedKey{of.Project, id}, storedByOf(&rec)); !fresh {
			continue
		}
		if err := g.deps.Recorder.Reserve(); err != nil {
			g.forgetFile(ctx, &rec, err)
			continue
		}
		err := g.deps.Recorder.RecordCall(context.WithoutCancel(ctx), &rec)
		g.deps.Recorder.Release()
		if err != nil {
			g.forgetFile(ctx, &rec, err)
		}
	}
}

// forgetFile has the next look at a batch record its file, since this one could not.
func (g *Gateway) forgetFile(ctx context.Context, rec *metrics.Call, err error) {
	g.stored.Invalidate(storedKey{rec.Project, rec.CompletionID})
	g.deps.Events.count(eventRecordFailed)
	g.log.ErrorContext(ctx, "file of a batch could not be recorded", "call", rec.ID, "project", rec.Project, "error", err)
}
