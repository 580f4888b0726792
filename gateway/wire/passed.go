package wire

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

// Passed is an API that runs no managed prompt: its requests and answers pass as they are. Requests may be forms, and answers something else than
// JSON or events.
type Passed interface {
	API
	// Multipart reports whether requests are multipart/form-data, not JSON.
	Multipart() bool
	// Streams reports whether a request asks for a stream of events.
	Streams(b *Body) (bool, error)
	// Media reports whether the answer to a request may be of a media type that is neither JSON nor events.
	Media(b *Body, kind string) bool
	// Accept is what its answers may be, as a request's header says it; "" for JSON or events alone.
	Accept() string
	// Guess is what holds of tokens that were guessed from bytes of text: some of them, or none for a shape whose tokens bytes do not tell.
	Guess(t metrics.Tokens) metrics.Tokens
}

// Passing are the shapes that run no managed prompt.
func Passing() []Passed {
	return []Passed{
		Embeddings{}, Completions{}, Moderations{}, Images{verb: generations}, Images{verb: "edits"}, Images{verb: "variations"},
		Speech{}, Transcriptions{verb: "transcriptions"}, Transcriptions{verb: "translations"},
	}
}

// PromptNamedIn is the field or header by which a request names a prompt, or tries to; "" when it does not.
func PromptNamedIn(b *Body, h http.Header) string {
	p := referenceParser{memory: new(map[string]json.RawMessage)} // whatever was read from b before stays valid
	if err := p.readOurs(b, h); err != nil {
		return paramOf(err)
	}
	if p.handleFrom == "" && p.draftFrom == "" {
		return paramOf(p.stray())
	}
	if p.handleFrom == "" {
		return p.draftFrom
	}
	return p.handleFrom
}

func paramOf(err error) string {
	if err == nil {
		return ""
	}
	_, _, param := Told(err)
	return param
}

// passed is what these shapes have in common: errors as OpenAI's chat has them, and events that say their type.
type passed struct{ Chat }

// Multipart implements Passed.
func (passed) Multipart() bool { return false }

// Streams implements Passed.
func (passed) Streams(*Body) (bool, error) { return false, nil }

// Media implements Passed.
func (passed) Media(*Body, string) bool { return false }

// Accept implements Passed.
func (passed) Accept() string { return "" }

// Guess implements Passed: bytes tell nothing of pictures and sound.
func (passed) Guess(metrics.Tokens) metrics.Tokens { return metrics.Tokens{} }

// Compose implements API.
func (passed) Compose(_ *Body, _ Prompt, dst []byte, _ []Edit) (Composed, error) {
	return Composed{Rendered: dst}, fault.New(fault.InvalidPromptReference, "Managed prompts do not run here.").WithParam("prompt")
}

// LastUserText implements API.
func (passed) LastUserText(*Body) (text json.RawMessage, ok bool) { return nil, false }

// UsageEdit implements API.
func (passed) UsageEdit(*Body) (e Edit, needed bool) { return e, false }

// OutputLimit implements API.
func (passed) OutputLimit(*Body, []Edit) (tokens, answers int64) { return 0, 1 }

// ReadEvent implements API: the last event is called done or completed, and tells the usage.
func (passed) ReadEvent(r *StreamResult, ev Event) (usageOnly bool) {
	if string(bytes.TrimRight(ev.Data, " \t")) == doneMark {
		r.Done = true
		return false
	}
	if _, ok := walkInto(ev.Data, '{'); !ok {
		return false
	}
	r.Events++
	kind := string(ev.Name)
	for key, value := range membersOf(ev.Data) {
		switch string(key) {
		case `"type"`:
			setString(&kind, value)
		case `"usage"`:
			if u := readUsage(value); u.t.Reported {
				r.Usage, r.Cost, r.Mixed = u.t, u.cost, u.pictures
			}
		case `"error"`:
			if !isNull(value) {
				r.SetError(value)
			}
		}
	}
	if kind == "error" && r.Error == nil {
		r.SetError(ev.Data)
	}
	r.Done = r.Done || passed{}.Finishes(kind)
	r.Started = true
	return false
}

// Finishes implements API.
func (passed) Finishes(kind string) bool {
	return strings.HasSuffix(kind, ".done") || strings.HasSuffix(kind, ".completed")
}

// Field implements API.
func (passed) Field(depth int, _, name []byte) Field {
	if depth != 1 {
		return FieldNone
	}
	switch string(name) {
	case "type":
		return FieldFinish
	case "data", "b64_json", "audio", "delta", "text", "results":
		return FieldContent
	}
	return topField(string(name))
}

// readListed reads an answer that is a list, under a name, of objects; "" is no name.
func readListed(body []byte, name string) (c Completion, whole bool) {
	w, ok := walkInto(body, '{')
	if !ok {
		return c, false
	}
	for {
		key, value, more := w.member()
		if !more {
			return c, w.closed('}')
		}
		switch member := string(key[1 : len(key)-1]); { // does not escape
		case member == name && name != "":
			for item := range elementsOf(value) {
				if item[0] == '{' {
					c.Answers, c.Bytes = 1, len(value)
				}
				break
			}
		case member == "error":
			c.take(FieldError, value[:min(len(value), maxCapture)])
		case topField(member) != FieldNone && len(value) <= maxCapture:
			c.take(topField(member), value)
		}
	}
}

// Embeddings is OpenAI's embeddings.
type Embeddings struct{ passed }

var _ Passed = Embeddings{}

// Name implements API.
func (Embeddings) Name() string { return "embeddings" }

// Endpoint implements API.
func (Embeddings) Endpoint() string { return "embeddings" }

// Guess implements Passed: what goes in is text as a rule, and no token comes out.
func (Embeddings) Guess(t metrics.Tokens) metrics.Tokens {
	return metrics.Tokens{Input: t.Input, Estimated: t.Estimated}
}

// ReadAnswer implements API.
func (Embeddings) ReadAnswer(body []byte) (Completion, bool) { return readListed(body, "data") }

// Moderations is OpenAI's moderations, which cost nothing.
type Moderations struct{ passed }

var _ Passed = Moderations{}

// Name implements API.
func (Moderations) Name() string { return "moderations" }

// Endpoint implements API.
func (Moderations) Endpoint() string { return "moderations" }

// Free implements API.
func (Moderations) Free() bool { return true }

// ReadAnswer implements API.
func (Moderations) ReadAnswer(body []byte) (Completion, bool) { return readListed(body, "results") }

// Completions is OpenAI's legacy completions. Its "prompt" is the caller's text.
type Completions struct{ passed }

var _ Passed = Completions{}

// Name implements API.
func (Completions) Name() string { return "completions" }

// Endpoint implements API.
func (Completions) Endpoint() string { return "completions" }

// Streams implements Passed.
func (Completions) Streams(b *Body) (bool, error) { return b.Stream() }

// Guess implements Passed.
func (Completions) Guess(t metrics.Tokens) metrics.Tokens { return t }

// UsageEdit implements API.
func (Completions) UsageEdit(b *Body) (e Edit, needed bool) { return Chat{}.UsageEdit(b) }

// OutputLimit implements API: each text of a list is answered by itself, and the best answers of some are made like the others.
func (Completions) OutputLimit(b *Body, edits []Edit) (tokens, answers int64) {
	answers = max(1, count(b.Sent("n", edits)), count(b.Sent("best_of", edits)))
	texts := int64(0)
	prompt, _ := b.Get("prompt")
	for text := range elementsOf(prompt) {
		if text[0] == '"' || text[0] == '[' { // a list of numbers is one text
			texts++
		}
	}
	return count(b.Sent("max_tokens", edits)), answers * max(1, texts)
}

// ReadAnswer implements API.
func (Completions) ReadAnswer(body []byte) (Completion, bool) { return ParseAnswer(body) }

// ReadEvent implements API.
func (Completions) ReadEvent(r *StreamResult, ev Event) (usageOnly bool) {
	return Chat{}.ReadEvent(r, ev)
}

// Finishes implements API.
func (Completions) Finishes(finish string) bool { return Chat{}.Finishes(finish) }

// Field implements API.
func (Completions) Field(depth int, parent, name []byte) Field {
	return Chat{}.Field(depth, parent, name)
}
