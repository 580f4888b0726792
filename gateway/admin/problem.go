package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
)

// Problem is an error answer, RFC 9457 with the code that the data plane uses too.
type Problem struct {
	Title  string   `json:"title" doc:"The HTTP status in words" example:"Conflict"`
	Status int      `json:"status" example:"409"`
	Detail string   `json:"detail" doc:"What is wrong and what to do"`
	Code   string   `json:"code" doc:"Stable, for programs" example:"conflict"`
	Param  string   `json:"param,omitempty" doc:"The field at fault"`
	Errors []string `json:"errors,omitempty" doc:"Each fault of the body or the parameters"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// problem turns a domain error into an answer. Causes are logged here, once, and never shown.
func (a *API) problem(ctx context.Context, err error) error {
	code := fault.CodeOf(err)
	status := wire.Status(code)
	p := &Problem{Title: http.StatusText(status), Status: status, Code: string(code)}
	var f *fault.Error
	if errors.As(err, &f) && code != fault.Internal {
		p.Detail, p.Param = f.Message, f.Param
	} else {
		p.Detail = "Something failed inside the gateway. Try again; if it stays, tell its operator the time of this request."
	}
	if status >= http.StatusInternalServerError {
		a.deps.Log.ErrorContext(ctx, "management request failed", "code", code, "error", err)
	}
	return p
}

// problems gives huma's own errors (validation, unknown fields, wrong types) the shape of a Problem.
func problems(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	code := fault.InvalidRequest
	switch {
	case m.Status == http.StatusRequestEntityTooLarge:
		code = fault.RequestTooLarge
	case m.Status >= http.StatusInternalServerError:
		code = fault.Internal
	}
	p := &Problem{Title: m.Title, Status: m.Status, Detail: m.Detail, Code: string(code)}
	for _, e := range m.Errors {
		line := e.Message
		if e.Location != "" {
			line = e.Location + ": " + line
		}
		p.Errors = append(p.Errors, line)
	}
	return p, nil
}

// strictJSON reads bodies without the latitude of encoding/json: a name that stands twice is refused, since what was checked would
// not be what is used.
func strictJSON() map[string]huma.Format {
	f := huma.Format{
		Marshal: func(w io.Writer, v any) error {
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			return enc.Encode(v)
		},
		Unmarshal: func(data []byte, v any) error {
			if !jsontext.Value(data).IsValid() { // IsValid refuses duplicate names and invalid UTF-8
				return errors.New("not valid JSON: check quotes, commas, duplicate names and UTF-8")
			}
			return json.Unmarshal(data, v)
		},
	}
	return map[string]huma.Format{"application/json": f, "json": f}
}
