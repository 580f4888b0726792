package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
)

// openAPI is the document as a client gets it.
type openAPI struct {
	OpenAPI string `json:"openapi"`
	Info    struct{ Title, Version, Description string }
	Paths   map[string]map[string]*operation
	raw     map[string]any
}

type operation struct {
	OperationID string                `json:"operationId"`
	Summary     string                `json:"summary"`
	Description string                `json:"description"`
	Tags        []string              `json:"tags"`
	Permission  string                `json:"x-permission"`
	Security    []map[string][]string `json:"security"` // nil: the document's own
	Parameters  []struct {
		Name, In string
		Required bool
	}
	Responses map[string]struct {
		Description string
		Content     map[string]struct{ Schema map[string]any }
	}
}

func (h *house) document() openAPI {
	h.t.Helper()
	got := h.do("", "GET", "/openapi.json", "")
	require.Equal(h.t, 200, got.status)
	var doc openAPI
	require.NoError(h.t, json.Unmarshal([]byte(got.body), &doc))
	require.NoError(h.t, json.Unmarshal([]byte(got.body), &doc.raw))
	return doc
}

var routerParam = regexp.MustCompile(`[:*](\w+)`)

// documented is how the document spells a row's address: the router's wildcard of prompts is two addresses to people.
func (r route) documented() string {
	path := r.path
	if strings.HasPrefix(path, "/v1/prompts/") {
		path = strings.Replace(r.send, "{prompt}", "{name}", 1)
	}
	return strings.ToLower(r.method) + " " + routerParam.ReplaceAllString(path, "{$1}")
}

// TestDocumentIsTheRouterIsTheTable: what is served, what is documented and what is judged are the same, down to the permissions.
func TestDocumentIsTheRouterIsTheTable(t *testing.T) {
	h := newHouse(t)
	doc := h.document()
	described := map[string]*operation{}
	for path, item := range doc.Paths {
		for method, op := range item {
			described[method+" "+path] = op
		}
	}
	judged := map[string]bool{}
	for _, r := range routes {
		if strings.HasPrefix(r.path, "/openapi") {
			continue // the document itself
		}
		at := r.documented()
		judged[at] = true
		op := described[at]
		require.NotNil(t, op, "%s is not in the OpenAPI document", at)
		want := r.needs
		switch want {
		case "key", "read call", "person", "see review":
			want = ""
		case "list groups":
			want = "manage_accounts system" // or manage_users
		case "see access":
			want = "manage_users system" // or audit
		case "write new prompt":
			want = "write prompt"
		}
		if strings.HasPrefix(r.path, "/api/") {
			assert.Equal(t, want, op.Permission, at)
		}
		assert.Equal(t, r.needs == "open", op.Security != nil && len(op.Security) == 0, "%s: whether it asks for a key", at)
	}
	for at := range described {
		require.True(t, judged[at], "%s is documented but not in the authorization table", at)
	}
	for _, r := range h.app.server.Handler.(*gin.Engine).Routes() {
		at := strings.ToLower(r.Method) + " " + routerParam.ReplaceAllString(r.Path, "{$1}")
		if !strings.HasPrefix(r.Path, "/openapi") && !strings.HasPrefix(r.Path, "/v1/prompts/") {
			require.Contains(t, described, at, "served but not documented")
		}
	}
}

// TestDocumentIsValid: every reference leads somewhere, every operation says what clients and people need.
func TestDocumentIsValid(t *testing.T) {
	h := newHouse(t)
	doc := h.document()
	require.Regexp(t, `^3\.1\.`, doc.OpenAPI)
	require.NotEmpty(t, doc.Info.Title)
	require.NotEmpty(t, doc.Info.Version)
	require.NotEmpty(t, doc.raw["security"], "a key is asked for unless said otherwise")
	require.Contains(t, lookUp(t, doc.raw, "#/components/securitySchemes"), "key")

	refs := 0
	walk(doc.raw, func(ref string) {
		refs++
		require.NotNil(t, lookUp(t, doc.raw, ref), ref)
	})
	require.Greater(t, refs, 50)

	ids := map[string]bool{}
	for path, item := range doc.Paths {
		for method, op := range item {
			at := method + " " + path
			require.Regexp(t, `^[a-z][a-z0-9-]+$`, op.OperationID, at)
			require.False(t, ids[op.OperationID], "%s twice", op.OperationID)
			ids[op.OperationID] = true
			require.NotEmpty(t, op.Summary, at)
			require.NotEmpty(t, op.Tags, at)
			var inPath []string
			for _, p := range op.Parameters {
				if p.In == "path" {
					require.True(t, p.Required, at)
					inPath = append(inPath, "{"+p.Name+"}")
				}
			}
			require.ElementsMatch(t, regexp.MustCompile(`\{\w+\}`).FindAllString(path, -1), inPath, at)
			checkResponses(t, at, op)
		}
	}
}

func checkResponses(t *testing.T, at string, op *operation) {
	t.Helper()
	var errors []string
	for status, r := range op.Responses {
		require.NotEmpty(t, r.Description, "%s %s", at, status)
		if n, _ := strconv.Atoi(status); n >= 400 {
			errors = append(errors, status)
			media, schema := "application/json", "#/components/schemas/Envelope"
			if strings.Contains(at, "/v1/messages") {
				schema = "#/components/schemas/MessagesEnvelope"
			}
			if strings.Contains(at, "/api/v1/") {
				media, schema = "application/problem+json", "#/components/schemas/Problem"
			}
			if strings.Contains(at, "/scim/v2/") {
				media, schema = "application/scim+json", "#/components/schemas/SCIMError"
			}
			require.Equal(t, schema, r.Content[media].Schema["$ref"], "%s %s", at, status)
		}
	}
	if !strings.Contains(at, "/api/v1/") {
		return
	}
	want := []string{"400", "401", "403", "500", "503"}
	if !strings.HasPrefix(at, "get ") {
		want = append(want, "409", "507")
	}
	if strings.HasPrefix(at, "patch ") {
		want = append(want, "412", "413")
	}
	require.Subset(t, errors, want, at)
	require.NotContains(t, errors, "422", at)
}

// walk calls f for every reference below v.
func walk(v any, f func(ref string)) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			f(ref)
		}
		for _, below := range v {
			walk(below, f)
		}
	case []any:
		for _, below := range v {
			walk(below, f)
		}
	}
}

func lookUp(t *testing.T, doc map[string]any, ref string) any {
	t.Helper()
	require.True(t, strings.HasPrefix(ref, "#/"), "%s leads out of the document", ref)
	var at any = doc
	for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		m, ok := at.(map[string]any)
		require.True(t, ok, ref)
		at = m[part]
	}
	return at
}

// TestManualListsEveryCode: a code that a caller can see stands in `promptgate help errors`, and no other does.
func TestManualListsEveryCode(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", "internal", "fault", "fault.go"), nil, 0)
	require.NoError(t, err)
	var codes []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Code" {
				code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				require.NoError(t, err)
				codes = append(codes, code)
			}
		}
		return true
	})
	require.Greater(t, len(codes), 25)
	codes = slices.DeleteFunc(codes, func(c string) bool { return c == string(fault.ClientClosed) }) // its caller is gone
	manual, err := os.ReadFile(filepath.Join("manual", "errors.md"))
	require.NoError(t, err)
	var listed []string
	for _, line := range regexp.MustCompile(`(?m)^\d{3}  .*$`).FindAllString(string(manual), -1) {
		code := strings.Fields(line)[1]
		listed = append(listed, code)
	}
	require.ElementsMatch(t, codes, listed)
}
