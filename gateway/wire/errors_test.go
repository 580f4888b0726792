package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
)

// codes are the constants of type fault.Code, read from the source: a new one cannot be forgotten here.
func codes(t *testing.T) []fault.Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../internal/fault/fault.go", nil, 0)
	require.NoError(t, err)
	var list []fault.Code
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Code" {
			return true
		}
		for _, v := range spec.Values {
			s, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			require.NoError(t, err)
			list = append(list, fault.Code(s))
		}
		return true
	})
	require.Greater(t, len(list), 25)
	return list
}

func TestEveryCodeHasAStatus(t *testing.T) {
	want := map[fault.Code]int{
		"invalid_json": 400, "invalid_request": 400, "invalid_prompt_reference": 400, "missing_variable": 400, "unknown_variable": 400,
		"invalid_variable": 400, "invalid_template": 400, "parameter_locked": 400, "stateful_reference_refused": 400, "request_too_large": 413, "headers_too_large": 431, "invalid_api_key": 401,
		"permission_denied": 403, "not_found": 404, "prompt_not_found": 404, "version_not_found": 404, "label_not_found": 404,
		"model_not_found": 404, "call_not_found": 404, "conflict": 409, "precondition_failed": 412, "rate_limit_exceeded": 429,
		"budget_exceeded": 429, "provider_error": 502, "provider_timeout": 504, "provider_truncated": 502, "provider_auth": 502,
		"registry_unavailable": 503, "overloaded": 503, "storage_full": 507, "not_implemented": 501, "client_closed": 499, "internal_error": 500, "project_shredded": 410,
	}
	for _, code := range codes(t) {
		status, ok := want[code]
		require.True(t, ok, "code %s: give it a status in errors.go and name it here", code)
		assert.Equal(t, status, Status(code), code)
	}
	assert.Equal(t, 500, Status("made_up"))
}

func TestErrorBody(t *testing.T) {
	type envelope struct {
		Error struct {
			Message string  `json:"message"`
			Type    string  `json:"type"`
			Param   *string `json:"param"`
			Code    string  `json:"code"`
		} `json:"error"`
	}
	read := func(err error) (e envelope) {
		require.NoError(t, json.Unmarshal(Chat{}.AppendError(nil, err, ""), &e))
		return e
	}
	cause := errors.New("dial tcp 10.0.0.1: secret")
	for _, code := range codes(t) {
		f := fault.Wrap(cause, code, "Do <this> \"so\"\n\xff").WithParam("p")
		body := string(Chat{}.AppendError(nil, fmt.Errorf("outer: %w", f), ""))
		assert.NotContains(t, body, "secret", "causes are for the log")
		assert.NotContains(t, body, "outer")
		e := read(f)
		assert.Equal(t, string(code), e.Error.Code)
		assert.NotEmpty(t, e.Error.Type)
		if code == fault.Internal {
			assert.Equal(t, internalMessage, e.Error.Message)
			assert.Nil(t, e.Error.Param)
			continue
		}
		assert.Equal(t, "Do <this> \"so\"\n\ufffd", e.Error.Message)
		require.NotNil(t, e.Error.Param)
		assert.Equal(t, "p", *e.Error.Param)
	}
	for _, err := range []error{cause, nil, &fault.Error{Code: "made_up", Message: "secret", Param: "secret"}} {
		body := Chat{}.AppendError(nil, err, "")
		assert.NotContains(t, string(body), "secret")
		assert.Equal(t, "internal_error", read(err).Error.Code)
	}
	assert.Nil(t, read(fault.New(fault.Overloaded, "x")).Error.Param, "null, as SDKs expect")
	for code, want := range map[fault.Code]string{
		fault.InvalidAPIKey: "authentication_error", fault.PermissionDenied: "permission_error", fault.PromptNotFound: "invalid_request_error",
		fault.RateLimitExceeded: "rate_limit_error", fault.BudgetExceeded: "insufficient_quota", fault.ProviderError: "server_error",
		fault.ParameterLocked: "invalid_request_error", fault.Internal: "server_error",
	} {
		assert.Equal(t, want, errorType(code))
	}
}

func TestErrorEvent(t *testing.T) {
	event := string(Chat{}.AppendErrorEvent(nil, fault.New(fault.ProviderTimeout, "two\nlines"), "call_1"))
	assert.True(t, strings.HasPrefix(event, "data: {"))
	assert.True(t, strings.HasSuffix(event, "}\n\n"))
	assert.Equal(t, 2, strings.Count(event, "\n"), "one line of data, whatever the message holds")
}
