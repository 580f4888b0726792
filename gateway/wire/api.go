package wire

import (
	"encoding/json"
	"net/http"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/registry/template"
)

// API is one shape of requests and answers, such as OpenAI's chat completions. A route sets it; the pipeline's stages know no shape but through
// it. Implementations hold no state, since what they learn of an answer is kept in its Completion or StreamResult; they are safe for concurrent use.
type API interface {
	// Name is the shape's name, by which providers say that they speak it: "chat".
	Name() string
	// Endpoint is the shape's address below a provider's base URL, and its name in the ledger: "chat/completions".
	Endpoint() string

	// Compose puts a prompt into a request's body: the edits that do, appended to edits, which take the reference out already. What it renders it
	// appends to dst. A fault when the caller's fields and the version's cannot be brought together.
	Compose(b *Body, p Prompt, dst []byte, edits []Edit) (Composed, error)
	// LastUserText is the caller's last message as a JSON string, for a prompt that takes it as a variable. ok is false when that message is not a user's,
	// or not one text.
	LastUserText(b *Body) (text json.RawMessage, ok bool)
	// UsageEdit is the edit by which a provider reports usage on a stream. needed is false when it does so anyway: then nothing is withheld.
	UsageEdit(b *Body) (e Edit, needed bool)
	// OutputLimit is how many tokens each answer to a request may have at most, 0 when it sets no bound, and how many answers it asks for, at least
	// 1. edits are what will be made to b.
	OutputLimit(b *Body, edits []Edit) (tokens, answers int64)
	// Continues is what at the provider a request goes on from, and the field that says so; "" for nothing. edits are what will be made to b.
	Continues(b *Body, edits []Edit) (param, id string)
	// References are the ids of parts of earlier answers that a request sends in place of the parts themselves, "" for one that cannot be read.
	References(b *Body) []string
	// Stores reports whether a request makes something that its provider keeps, and no model answers it: a prompt or a model in it only says who serves it,
	// and is taken out.
	Stores() bool
	// Keeps reports whether providers keep answers of this shape, for a later request to go on from.
	Keeps() bool
	// RunsOn reports whether a request asks its provider to work on after the request has ended. edits are what will be made to b.
	RunsOn(b *Body, edits []Edit) bool
	// Unserved is a field that asks for something of the shape that is not served; "" for none.
	Unserved(b *Body) (param string)
	// Free reports whether calls of this shape use no tokens and cost nothing, whatever they ask.
	Free() bool
	// Onward are the caller's headers that a provider of this shape gets; nil for the usual request, which has none. Everything else stays here: keys,
	// cookies, addresses, and our own. edits are what is made to the body.
	Onward(h http.Header, edits []Edit) http.Header
	// RequestID is the header, in canonical form, by which answers of this shape name the request.
	RequestID() string
	// EndUser is the caller's own name for whom it calls, "" when there is none.
	EndUser(b *Body) string

	// ReadAnswer reads the body of an answer that is no stream, or its beginning: what stands before a cut is found. whole is false when it is cut.
	ReadAnswer(body []byte) (c Completion, whole bool)
	// ReadEvent reads one event of a stream into r: Events, Started, Done, Error, Usage and the rest, whichever it tells. It reports whether the event
	// says nothing but the usage that UsageEdit asked for: such a one can be withheld. ev is valid during the call only.
	ReadEvent(r *StreamResult, ev Event) (usageOnly bool)
	// Field says what a member of an event's JSON is, for events too long to be kept: depth is 1 for the object's own members, 2 and more for those inside
	// of the member called parent. An array is a depth of its own.
	Field(depth int, parent, name []byte) Field

	// Finishes reports whether an event's FieldFinish, which its length kept from ReadEvent, ends an answer as it should.
	Finishes(finish string) bool

	// AppendError appends an error as the whole body of an answer. AppendErrorEvent appends it as the event that ends a stream, in the form on which
	// clients raise. id names the call, for shapes whose errors do; "" for none.
	AppendError(dst []byte, err error, id string) []byte
	AppendErrorEvent(dst []byte, err error, id string) []byte
	// AppendRefusal appends a provider's refusal without its message, which may repeat the prompt. body may be what dst is cut from.
	AppendRefusal(dst, body []byte, status int) []byte
}

// Prompt is what a call brings to its request, in no shape yet.
type Prompt struct {
	Version   *template.Compiled
	Values    *template.Values // of the version's variables
	Locks     Locks
	LastTaken bool     // the caller's last message, as LastUserText has it, became a variable: it is no message any more
	Echoed    []string // memory for what is composed
}

// Composed is what a prompt and a request came to.
type Composed struct {
	Merged
	Rendered []byte // dst with what was rendered: the edits point into it
	Messages []byte // the part of it that is the messages, for showing
	// Echoed names the fields of an answer in which a provider of this shape repeats what the version says.
	Echoed []string
}

// Event is one event of a stream.
type Event struct {
	Name []byte // of its "event" line; empty when it has none
	Data []byte // its data lines, joined
}

// Field is a value that is looked for in an answer.
type Field uint8

// The fields.
const (
	FieldNone Field = iota
	FieldID
	FieldModel
	FieldUsage
	FieldError
	FieldFinish
	FieldTier
	FieldContent      // holds what the model says
	FieldPartialUsage // figures of a usage whose others stand elsewhere in the stream
)

// Usage reads a usage object as any of the known providers spells it, for shapes whose usage stands elsewhere than in chat's. reported is false when it
// holds no figures that can be believed.
func Usage(v []byte) (t metrics.Tokens, costMicros int64, reported bool) {
	t, costMicros, _ = parseUsage(v)
	return t, costMicros, t.Reported
}
