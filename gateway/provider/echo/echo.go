// Package echo is a provider inside the binary: it needs no network, answers the same request with the same content every time,
// and never pretends to be a model. Its answers have the shape of OpenAI's, or of Anthropic's Messages API, so that everything before and after a provider can
// be tried without one: chats, responses, messages and legacy completions repeat what arrived; vectors are hashes that mean nothing; moderations flag
// nothing; pictures are one grey point, speech is silence, and transcriptions say how many bytes were heard. It keeps the responses and conversations of the
// Responses API in memory, the last thousand, so that what is asked about them has an answer, and files and batches likewise: a batch is answered as it is made.
//
// What counts as a token: a run of at most 16 bytes that ends behind white space or at the end of the text. Usage counts those of
// all messages and of the answer.
package echo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/promptgate/promptgate/gateway/provider"
)

// Model is what every answer names as its model.
const Model = "echo"

// Options of an echo. All may be left zero.
type Options struct {
	Name       string           // default "echo"
	Latency    time.Duration    // before the head of an answer
	ChunkDelay time.Duration    // before each event of a stream
	Now        func() time.Time // for the field "created"; default time.Now
}

// Provider echoes.
type Provider struct {
	o    Options
	kept keeper
	apis []string
}

var _ provider.Provider = (*Provider)(nil)

// New makes an echo.
func New(o Options) *Provider {
	if o.Name == "" {
		o.Name = "echo"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Provider{o: o, apis: append(provider.OpenAIAPIs(), provider.APIMessages)}
}

// Name implements provider.Provider.
func (p *Provider) Name() string { return p.o.Name }

// Capabilities implements provider.Provider.
func (p *Provider) Capabilities() provider.Capabilities {
	return provider.Capabilities{APIs: p.apis, StreamUsage: true}
}

// Do implements provider.Provider.
func (p *Provider) Do(ctx context.Context, r *provider.Request) (*provider.Response, error) {
	if !p.Capabilities().Speaks(r.API) {
		return nil, &provider.Error{Provider: p.o.Name, Kind: provider.KindRefused, Err: fmt.Errorf("it does not speak the API %q", r.API)}
	}
	if err := p.wait(ctx, p.o.Latency); err != nil {
		return nil, err
	}
	switch r.API {
	case provider.APIFiles:
		if answer := p.askFile(r); answer != nil {
			return answer, nil
		}
	case provider.APIBatches:
		if answer := p.askBatch(ctx, r); answer != nil {
			return answer, nil
		}
	}
	return p.answer(ctx, r)
}

// answer is Do without the waiting.
func (p *Provider) answer(ctx context.Context, r *provider.Request) (*provider.Response, error) {
	shape, ok := shapes[r.Endpoint]
	if r.API == provider.APIResponses && (r.Method != "" || !ok) {
		if answer := p.ask(r); answer != nil {
			return answer, nil
		}
	}
	if pass, ok := passed[r.Endpoint]; ok && r.Endpoint == r.API && r.Method == "" {
		res, bad := pass(r)
		if bad != nil {
			return refuse(r.API, http.StatusBadRequest, bad), nil
		}
		return res, nil
	}
	if !ok || shape.api != r.API || r.Method != "" {
		return refuse(r.API, http.StatusNotFound, &refusal{"unknown_url", "", "The echo provider has nothing at this address."}), nil
	}
	req, bad := shape.parse(r.Body)
	if bad != nil {
		return refuse(r.API, http.StatusBadRequest, bad), nil
	}
	if bad = p.kept.goOn(req); bad != nil {
		return refuse(r.API, http.StatusBadRequest, bad), nil
	}
	a := req.answer(p.o.Now().Unix())
	if req.id != "" {
		p.kept.keep(req, a)
	}
	switch {
	case req.background && !req.Stream:
		return respond(http.StatusOK, []byte(a.queued())), nil
	case !req.Stream:
		return respond(http.StatusOK, shape.whole(a)), nil
	}
	h := http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}, "X-Request-Id": {a.id}}
	return &provider.Response{
		Status: http.StatusOK, Header: h, ContentLength: -1,
		Body: &stream{p: p, ctx: ctx, events: shape.events(req, a)},
	}, nil
}

// shape is how the requests to an address are read and answered.
type shape struct {
	api    string
	parse  func(body []byte) (*request, *refusal)
	whole  func(a *answer) []byte
	events func(r *request, a *answer) func() []byte
}

var shapes = map[string]shape{ //nolint:gochecknoglobals // a constant
	"chat/completions": {
		provider.APIChat, parse, (*answer).json, func(r *request, a *answer) func() []byte { return a.events(r.Usage) },
	},
	"responses": {
		provider.APIResponses, parseResponses, func(a *answer) []byte { return []byte(a.whole()) }, func(_ *request, a *answer) func() []byte { return a.responseEvents() },
	},
	"responses/input_tokens": {provider.APIResponses, parseUnkept, (*answer).inputTokens, nil},
	"responses/compact":      {provider.APIResponses, parseUnkept, (*answer).compaction, nil},
	"messages": {
		provider.APIMessages, parseMessages, (*answer).wholeMessage, func(_ *request, a *answer) func() []byte { return a.messageEvents() },
	},
	"messages/count_tokens": {provider.APIMessages, parseCount, (*answer).count, nil},
	"completions": {
		provider.APICompletions, parseCompletions, (*answer).wholeCompletion, func(r *request, a *answer) func() []byte { return a.completionEvents(r.Usage) },
	},
}

// wait sleeps unless ctx ends first.
func (p *Provider) wait(ctx context.Context, d time.Duration) error {
	if d <= 0 && ctx.Err() == nil {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		if ctx.Err() == nil {
			return nil
		}
	case <-ctx.Done():
	}
	kind := provider.KindCancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		kind = provider.KindTimeout
	}
	return &provider.Error{Provider: p.o.Name, Kind: kind, Err: context.Cause(ctx)}
}

// refusal is an error as an API answers it.
type refusal struct{ code, param, message string }

func refuse(api string, status int, r *refusal) *provider.Response {
	if api == provider.APIMessages {
		kind := "invalid_request_error"
		if status == http.StatusNotFound {
			kind = "not_found_error"
		}
		return respond(status, fmt.Appendf(nil, `{"type":"error","error":{"type":"%s","message":%s}}`, kind, quote(r.message)))
	}
	b := append([]byte(`{"error":{"message":`), quote(r.message)...)
	b = append(b, `,"type":"invalid_request_error","param":`...)
	if r.param == "" {
		b = append(b, "null"...)
	} else {
		b = append(b, quote(r.param)...)
	}
	b = append(append(append(b, `,"code":`...), quote(r.code)...), "}}"...)
	return respond(status, b)
}

func respond(status int, body []byte) *provider.Response {
	return &provider.Response{
		Status: status, ContentLength: int64(len(body)),
		Header: http.Header{"Content-Type": {"application/json"}, "Content-Length": {strconv.Itoa(len(body))}},
		Body:   io.NopCloser(bytes.NewReader(body)),
	}
}

// stream is a body that makes each event when it is due. It owns no goroutine: whoever reads waits.
type stream struct {
	p      *Provider
	ctx    context.Context //nolint:containedctx // the request's, which a body lives as long as
	events func() []byte   // the next event; nil: no more
	rest   []byte
	err    error
}

// Read implements io.Reader.
func (s *stream) Read(b []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		if s.rest = s.events(); s.rest == nil {
			s.err = io.EOF
		} else if s.err = s.p.wait(s.ctx, s.p.o.ChunkDelay); s.err != nil {
			s.rest = nil
		}
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (s *stream) Close() error {
	s.rest, s.err = nil, &provider.Error{Provider: s.p.o.Name, Kind: provider.KindCancelled, Err: io.ErrClosedPipe}
	return nil
}
