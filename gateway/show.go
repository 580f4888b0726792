package gateway

import (
	"context"
	"encoding/json"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
)

// rendering is the answer of POST /v1/prompts/{name}/render.
type rendering struct {
	Object   string          `json:"object"`
	Prompt   string          `json:"prompt"`
	PromptID string          `json:"prompt_id"`
	Version  int             `json:"version"`
	Label    string          `json:"label,omitempty"`
	Digest   string          `json:"digest"`
	Model    string          `json:"model,omitempty"` // "" when neither the version nor the caller names one
	Messages json.RawMessage `json:"messages"`
	Request  json.RawMessage `json:"request"` // the whole body that a provider would get
	Success  bool            `json:"success"` // Portkey's envelope: its SDKs read success and data, and nothing else
	Data     json.RawMessage `json:"data"`    // as request
}

// show ends a rendering: the answer is what would have been sent.
func (g *Gateway) show(_ context.Context, c *call) error {
	r := c.ref.resolved
	if r == nil {
		return fault.New(fault.InvalidPromptReference, "Name the prompt in the path: POST /v1/prompts/{name}/render.")
	}
	edits := c.out.edits
	if c.out.model != "" {
		edits = append(edits, wire.Set("model", c.out.model))
	}
	request := json.RawMessage(c.in.body.Splice(nil, edits))
	body, err := json.Marshal(rendering{
		Object: "prompt.rendering", Prompt: r.Prompt.Name, PromptID: r.Prompt.ID, Version: r.Version, Label: r.Label, Digest: r.Digest,
		Model: c.out.model, Messages: c.out.messages, Request: request,
		Success: true, Data: request,
	})
	if err != nil {
		return fault.Wrap(err, fault.Internal, internalMessage)
	}
	c.ans.buf = g.buffers.get(len(body))
	c.ans.buf.B = append(c.ans.buf.B, body...)
	c.ans.status = 200
	c.ans.ours = true
	return nil
}
