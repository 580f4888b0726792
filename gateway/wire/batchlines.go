package wire

import (
	"bytes"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
)

// MaxBatchLines is how many requests a file of a batch may hold.
const MaxBatchLines = 50_000

// Batchable are the shapes of requests that a batch may hold: those that name nothing that a provider keeps, and are answered whole.
func Batchable() []API {
	return []API{Chat{}, Responses{}, Embeddings{}, Completions{}, Moderations{}, Images{verb: generations}}
}

// BatchAPI is the shape of the requests to an address such as /v1/responses; nil when a batch may hold none of it.
func BatchAPI(url string) API {
	for _, api := range Batchable() {
		if url == "/v1/"+api.Endpoint() {
			return api
		}
	}
	return nil
}

// CutBatchLine cuts the first line of a file of a batch off, without its end.
func CutBatchLine(content []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(content, []byte{'\n'})
	return bytes.TrimSuffix(line, []byte{'\r'}), rest
}

// BatchLine is one request of a batch.
type BatchLine struct {
	API   API
	Model string
	Body  Body
	outer Body
}

// Read reads one line. It refuses what a provider could read as another request than the one that was looked at, and what a batch cannot ask for: a stream, a
// prompt, an answer that goes on from something kept.
func (l *BatchLine) Read(line []byte) error {
	if bytes.IndexByte(line, '\r') >= 0 { // the end of a line to some
		return lineFault("", "there is a carriage return in it: end lines with a line feed.")
	}
	if err := l.outer.scanAs(line, false); err != nil {
		return err
	}
	for _, m := range l.outer.Members() {
		switch m.Name {
		case "custom_id", "method", "url", "body":
		default:
			return lineFault(m.Name, "a request of a batch has custom_id, method, url and body, and no %s.", quoteForMessage(m.Name))
		}
	}
	if method := l.outer.Text("method"); method != "POST" {
		return lineFault("method", "\"method\" must be POST.")
	}
	if l.API = BatchAPI(l.outer.Text("url")); l.API == nil {
		var urls []string
		for _, api := range Batchable() {
			urls = append(urls, "/v1/"+api.Endpoint())
		}
		return lineFault("url", "\"url\" must be one of %s.", strings.Join(urls, ", "))
	}
	body, ok := l.outer.Get("body")
	if !ok || body[0] != '{' {
		return lineFault("body", "\"body\" must be an object: the request.")
	}
	if err := l.Body.Scan(body); err != nil {
		return err
	}
	return l.readBody()
}

func (l *BatchLine) readBody() (err error) {
	b := &l.Body
	if l.Model, err = b.Model(); err != nil {
		return err
	}
	if field := PromptNamedIn(b, nil); field != "" {
		return fault.New(fault.InvalidPromptReference, "%q names a managed prompt, which does not run in a batch: send its messages, or call it.", field).WithParam(field)
	}
	if NamesNoModel(l.Model) {
		return lineFault("model", "the request names no model.")
	}
	stream, err := b.Stream()
	switch {
	case err != nil:
		return err
	case stream:
		return lineFault("stream", "a batch streams nothing: leave \"stream\" out.")
	case l.API.RunsOn(b, nil):
		return lineFault("background", "a batch runs in the background as it is: leave \"background\" out.")
	}
	if param, _ := l.API.Continues(b, nil); param != "" {
		return fault.New(fault.StatefulReferenceRefused, "A request of a batch cannot go on from %q: send the conversation itself.", param).WithParam(param)
	}
	if len(l.API.References(b)) > 0 {
		return fault.New(fault.StatefulReferenceRefused, "A request of a batch cannot refer to items of another response: send the items themselves.").WithParam("input")
	}
	field := l.API.Unserved(b)
	if field == "" {
		field = b.FirstOf(append(RoutingFields(), "models"), nil)
	}
	if _, ok := b.Get("models"); ok { // FirstOf passes by names that it knows
		field = "models"
	}
	if field != "" {
		return fault.New(fault.NotImplemented, "What %q asks for is not served in a batch: leave it out.", field).WithParam(field)
	}
	return nil
}

func lineFault(param, format string, args ...any) error {
	return fault.New(fault.InvalidRequest, format, args...).WithParam(param)
}
