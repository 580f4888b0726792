package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	strict "github.com/go-json-experiment/json"
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

// GetHeaders implements huma.HeadersError: what is unavailable now is worth another try soon, as on the data plane.
func (p *Problem) GetHeaders() http.Header {
	if p.Status == http.StatusServiceUnavailable {
		return http.Header{"Retry-After": {"1"}}
	}
	return nil
}

// ContentType implements huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return problemType }

// problem turns a domain error into an answer. Causes are logged here, once, and never shown.
func (a *API) problem(ctx context.Context, err error) *Problem {
	code := fault.CodeOf(err)
	status := wire.Status(code)
	p := &Problem{Title: title(status), Status: status, Code: string(code)}
	var f *fault.Error
	if errors.As(err, &f) && status != http.StatusInternalServerError {
		p.Detail, p.Param = f.Message, f.Param
	} else {
		p.Detail = "Something failed inside the gateway. Try again; if it stays, tell its operator the time of this request."
	}
	if status >= http.StatusInternalServerError {
		level := slog.LevelDebug
		hidden, worth := a.repeats.Worth(code, a.clock())
		if worth {
			level = slog.LevelError
		}
		a.log.Log(ctx, level, "management request failed", "code", code, "others_like_it", hidden, "error", err)
	}
	return p
}

// title is a status in words.
func title(status int) string {
	if status == wire.StatusClientClosed {
		return "Client Closed Request"
	}
	return http.StatusText(status)
}

// refuse answers a request that never reaches its operation.
func (a *API) refuse(ctx huma.Context, err error) {
	p := a.problem(ctx.Context(), err)
	if p.Status == http.StatusUnauthorized {
		ctx.SetHeader("WWW-Authenticate", "Bearer")
	}
	for name, values := range p.GetHeaders() {
		ctx.SetHeader(name, values[0])
	}
	ctx.SetHeader("Content-Type", problemType)
	ctx.SetStatus(p.Status)
	if err := writeJSON(ctx.BodyWriter(), p); err != nil {
		a.log.DebugContext(ctx.Context(), "the caller left before its answer", "error", err)
	}
}

const problemType = "application/problem+json"

// humaContext is huma.Context under a name that does not hide its method Context.
type humaContext huma.Context

// answer is a request's context in which huma's refusals of bodies and parameters have the status of their code: one table says
// what a code is answered with, and invalid_request is a 400.
type answer struct{ humaContext }

// SetStatus implements huma.Context.
func (c answer) SetStatus(status int) {
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	c.humaContext.SetStatus(status)
}

// What an answer says of a body that breaks many rules.
const (
	maxErrors     = 20
	maxErrorBytes = 300
)

// problems gives huma's own errors (validation, unknown fields, wrong types) the shape of a Problem. The values that were sent are left
// out: one of them may be a credential.
func problems(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	status, code := m.Status, fault.InvalidRequest
	switch {
	case status == http.StatusUnprocessableEntity:
		status = http.StatusBadRequest
	case status == http.StatusRequestEntityTooLarge:
		code = fault.RequestTooLarge
	case status >= http.StatusInternalServerError:
		code = fault.Internal
	}
	p := &Problem{Title: http.StatusText(status), Status: status, Detail: sentence(m.Detail), Code: string(code)}
	for _, e := range m.Errors[:min(len(m.Errors), maxErrors)] {
		line := e.Message
		if e.Location != "" {
			line = e.Location + ": " + line
		}
		p.Errors = append(p.Errors, cut(line, maxErrorBytes))
	}
	return p, nil
}

// sentence says what huma says in few words as something to act on.
func sentence(detail string) string {
	switch detail {
	case "validation failed":
		return "The request breaks the rules of this operation; errors lists where. /openapi.json describes what it takes."
	case "request body is required":
		return "This operation needs a JSON body; /openapi.json describes it."
	}
	return detail
}

// cut shortens a text to n bytes, at a rune.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// strictJSON reads bodies without the latitude of encoding/json: names that stand twice, in another case or for nothing are refused,
// since what was checked would not be what is used.
func strictJSON() map[string]huma.Format {
	f := huma.Format{
		Marshal: writeJSON,
		Unmarshal: func(data []byte, v any) error {
			if !jsontext.Value(data).IsValid() { // refuses duplicate names and invalid UTF-8
				return errors.New("not valid JSON: check quotes, commas, duplicate names and UTF-8")
			}
			err := strict.Unmarshal(data, v, strict.RejectUnknownMembers(true))
			var s *strict.SemanticError
			var f *fault.Error
			switch {
			case errors.As(err, &f): // a rule of ours
				return errors.New(f.Message)
			case errors.As(err, &s): // its text may hold the value
				return fmt.Errorf("what stands at %q is unknown here or has another type; names are case-sensitive", s.JSONPointer)
			}
			return err
		},
	}
	return map[string]huma.Format{"application/json": f, "json": f}
}
