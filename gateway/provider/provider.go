// Package provider is the contract with model providers: one request out, one answer back as the provider's own bytes.
package provider

import (
	"context"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/promptgate/promptgate/metrics"
)

// Provider sends requests to one upstream. Implementations are safe for concurrent use and run providertest.
type Provider interface {
	// Name is the provider's name in its project: metrics, headers, the ledger.
	Name() string
	// Do sends one attempt. The answer's head has arrived when it returns. Any HTTP status is an answer, not an error; an error is a
	// *Error. The request is cancelled with ctx at every stage, and Body.Close releases the connection. The caller closes Body.
	Do(ctx context.Context, r *Request) (*Response, error)
	// Capabilities is what the gateway may rely on.
	Capabilities() Capabilities
}

// Capabilities of a provider.
type Capabilities struct {
	APIs        []string // the shapes of requests that it speaks, as Request.API names them; callers do not change it
	StreamUsage bool     // understands stream_options.include_usage
}

// Speaks reports whether a provider takes requests of a shape as they are.
func (c Capabilities) Speaks(api string) bool { return slices.Contains(c.APIs, api) }

// The shapes of requests that providers speak: OpenAI's chat completions, its Responses API, and Anthropic's Messages API.
const (
	APIChat      = "chat"
	APIResponses = "responses"
	APIMessages  = "messages"
)

// The shapes that run no managed prompt, each named by its endpoint.
const (
	APIEmbeddings       = "embeddings"
	APICompletions      = "completions" // the legacy one
	APIModerations      = "moderations"
	APIImageGenerations = "images/generations"
	APIImageEdits       = "images/edits"
	APIImageVariations  = "images/variations"
	APISpeech           = "audio/speech"
	APITranscriptions   = "audio/transcriptions"
	APITranslations     = "audio/translations"
)

// The shapes of what providers keep, and answer later.
const (
	APIFiles   = "files"
	APIBatches = "batches"
)

// OpenAIAPIs are the shapes of OpenAI's own API.
func OpenAIAPIs() []string {
	return []string{
		APIChat, APIResponses, APIEmbeddings, APICompletions, APIModerations, APIImageGenerations, APIImageEdits, APIImageVariations,
		APISpeech, APITranscriptions, APITranslations, APIFiles, APIBatches,
	}
}

// Request is one attempt. Body is not kept or changed after Do returns and the answer's body is closed, or says that it was sent.
type Request struct {
	API      string // the shape of Body; a provider that does not speak it fails with KindRefused and sends nothing
	Method   string // "" is POST
	Endpoint string // below the base URL: "chat/completions"
	Query    string // of the address, encoded, without a question mark; "" for none
	Body     []byte // the final JSON, unless Header names another Content-Type; empty for a method that has none
	Stream   bool
	Accept   string      // what its answer may be, beside JSON or, with Stream, events; "" for nothing else
	Opaque   bool        // its answer is bytes of any type and number, in which nothing is looked for
	Header   http.Header // further headers that the gateway allows through; may be nil
	CallID   string
}

// Response is a provider's answer.
type Response struct {
	Status        int
	Header        http.Header // as received; the gateway picks what callers may see
	ContentLength int64       // -1 when unknown
	Body          io.ReadCloser
	Sent          bool // Request.Body is not read any more; otherwise it is until Body is closed
}

// Kind of a provider's failure.
type Kind string

// The kinds of failure that carry no usable answer.
const (
	KindConnect   Kind = "connect"   // nothing was sent, or no byte of an answer came; safe to try again
	KindTimeout   Kind = "timeout"   // no head, or no further byte, in time
	KindProtocol  Kind = "protocol"  // not HTTP, or a body that lies about itself
	KindTruncated Kind = "truncated" // the body ended before its end
	KindCancelled Kind = "cancelled" // our caller went away
	KindRefused   Kind = "refused"   // our own rule: address not allowed, answer too large
	KindOpen      Kind = "open"      // its circuit is open: it was not asked
	KindEmpty     Kind = "empty"     // a status of success, and no answer
)

// Error is a failure without a usable answer. Its text is for the log: it may name hosts.
type Error struct {
	Provider   string
	Kind       Kind
	RetryAfter time.Duration // 0: the provider did not say
	Err        error
	Asked      bool // the provider has got the request, or a part of it: it may charge for it
}

// Error implements error.
func (e *Error) Error() string {
	s := "provider " + e.Provider + ": " + string(e.Kind)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Target is one way to serve a model: which provider, under which name there.
type Target struct {
	Provider Provider
	Model    string             // the name that the provider knows
	Breaker  *Breaker           // the provider's, shared by all of its targets; nil: always tried
	Prices   *metrics.PriceList // what it costs; nil: unknown
	Shared   bool               // the provider is a configured one, which all projects use
	Listed   bool               // the model is an alias's or listed by name; any other is a name that a caller chose and a pattern took
}

// Router finds the targets of a model for a project, best first. A fault with code ModelNotFound when there is none. It touches no
// network and no SQL for what it has seen before.
type Router interface {
	Route(ctx context.Context, project, model string) ([]Target, error)
	// Provider is one of a project's providers, by its name, as a target without a model. A fault with code NotFound when there is none, or it is disabled.
	Provider(ctx context.Context, project, name string) (Target, error)
	// Providers are all of a project's, in no order, as targets without a model. The slice is the caller's.
	Providers(ctx context.Context, project string) ([]Target, error)
	// Prompt is the prompt that an alias means, as name, name@label or name@version; "" for every other model.
	Prompt(ctx context.Context, project, model string) (string, error)
	// Models lists the model names that Route knows in a project, sorted.
	Models(ctx context.Context, project string) ([]string, error)
}
