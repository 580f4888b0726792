package gateway

import (
	"context"
	"mime"
	"net/http"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

// Shapes that run no managed prompt pass as they are: wire.Passed. Here stands what they have beside a chat: forms, answers that are neither JSON nor
// events, and a refusal where a prompt is named.

// identifyPassed is identify for a shape that runs no prompt.
func (g *Gateway) identifyPassed(ctx context.Context, c *call, api wire.Passed) (err error) {
	if err = c.scanPassed(api); err != nil {
		return err
	}
	if c.pathModel != "" && c.pathModel != c.in.model {
		if err = g.takePathModel(c); err != nil {
			return err
		}
	}
	field := wire.PromptNamedIn(&c.in.body, c.req.Header)
	if field == "" && c.in.model != "" {
		prompt, err := g.deps.Router.Prompt(ctx, c.who.Project, c.in.model)
		if err != nil {
			return err
		}
		if prompt != "" {
			field = "model"
		}
	}
	if field != "" {
		return fault.New(fault.InvalidPromptReference, "%q names a managed prompt, which does not run here: send it to chat/completions, responses or messages.", field).
			WithParam(field)
	}
	c.in.stream, err = api.Streams(&c.in.body)
	c.rec.Stream = c.in.stream
	return err
}

// scanPassed reads a body of JSON, or a form: then the body that the stages look into is made of its fields.
func (c *call) scanPassed(api wire.Passed) (err error) {
	sent := c.req.Header["Content-Type"]
	form := len(sent) > 0 && isForm(sent[0])
	switch {
	case len(sent) > 1:
		return fault.New(fault.InvalidRequest, "Send one Content-Type.").WithParam("Content-Type")
	case form && !api.Multipart():
		return fault.New(fault.InvalidRequest, "This address takes JSON and no form: send application/json.").WithParam("Content-Type")
	case !form && api.Multipart():
		return fault.New(fault.InvalidRequest, "This address takes a form: send multipart/form-data, with a boundary.").WithParam("Content-Type")
	case !form:
		return c.scanFields(c.in.buf.B)
	}
	if err = c.in.parts.Scan(sent[0], c.in.buf.B); err != nil {
		return err
	}
	fields, err := c.in.parts.AppendFields(nil)
	if err != nil {
		return err
	}
	return c.scanFields(fields)
}

func isForm(contentType string) bool {
	kind, _, _ := mime.ParseMediaType(contentType)
	return kind == "multipart/form-data"
}

func (c *call) scanFields(fields []byte) (err error) {
	if err = c.in.body.Scan(fields); err != nil {
		return err
	}
	c.in.model, err = c.in.body.Model()
	return err
}

// setFormModel is setModel for a form.
func (g *Gateway) setFormModel(c *call, api wire.Passed, model string) error {
	body := g.buffers.get(len(c.in.buf.B) + len(model) + formPartBytes)
	body.B = c.in.parts.SetModel(body.B, model)
	g.buffers.put(c.in.buf)
	c.in.buf = body
	return c.scanPassed(api)
}

// formPartBytes is about what a part takes beside its content.
const formPartBytes = 256

// formRequest makes the request a form: the caller's bytes, but for its model where the target knows it by another name.
func (c *call) formRequest(t provider.Target) {
	r := &c.out.request
	r.Body = c.in.parts.Raw()
	switch names := c.formFields(); {
	case c.api.Stores() && len(names) > 0:
		if c.out.body == nil {
			c.out.body = c.lender.get(len(r.Body))
		}
		c.out.body.B = c.in.parts.Without(c.out.body.B[:0], names)
		r.Body = c.out.body.B
	case !c.api.Stores() && t.Model != c.in.model:
		if c.out.body == nil {
			c.out.body = c.lender.get(len(r.Body) + len(t.Model) + formPartBytes)
		}
		c.out.body.B = c.in.parts.SetModel(c.out.body.B[:0], t.Model)
		r.Body = c.out.body.B
	}
	header := http.Header{"Content-Type": c.req.Header["Content-Type"]}
	for key, values := range r.Header {
		header[key] = values
	}
	r.Header = header
}

// takesMedia reports whether an answer of a media type that is neither JSON nor events is one of this shape.
func (c *call) takesMedia(kind string) bool {
	api, ok := c.api.(wire.Passed)
	return ok && api.Media(&c.in.body, kind)
}

// acceptMedia judges an answer that is neither JSON nor events: bytes of it are all that can be asked for.
func (c *call) acceptMedia() error {
	if len(c.ans.buf.B) == 0 {
		return c.unusable(provider.KindEmpty, errEmpty)
	}
	c.ans.said = wire.Completion{Answers: 1, Bytes: len(c.ans.buf.B)}
	return nil
}

// guessed is what holds of tokens of a call: of some shapes bytes do not tell them.
func (c *call) guessed(t metrics.Tokens) metrics.Tokens {
	if _, batch := c.api.(wire.Batches); batch && t.Estimated { // nothing in its request tells what it will use
		return metrics.Tokens{}
	}
	if api, ok := c.api.(wire.Passed); ok && t.Estimated {
		return api.Guess(t)
	}
	return t
}

// unpriceable reports whether no price list says what the answer's tokens cost: pictures among them have a price of their own.
func (c *call) unpriceable() bool {
	_, passes := c.api.(wire.Passed)
	return passes && c.ans.said.Mixed
}
