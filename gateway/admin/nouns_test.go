package admin

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryNounIsServed holds the shape of this package: a noun is a file of its own that registers its own operations, and stands in the list. A noun that
// is written and not listed is served nowhere, and nothing else would say so.
func TestEveryNounIsServed(t *testing.T) {
	var listed, written []string
	for _, n := range (Deps{}).nouns() {
		listed = append(listed, reflect.TypeOf(n).Name())
	}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		var own []string // the nouns of this file
		registers := false
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if f.Recv != nil && f.Name.Name == "routes" {
				own = append(own, f.Recv.List[0].Type.(*ast.Ident).Name)
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if id, isName := callee(call, ok); isName && id == "handle" {
					registers = true
				}
				return true
			})
		}
		require.False(t, registers, "%s registers an operation outside of a noun's routes", name)
		require.LessOrEqual(t, len(own), 1, "%s holds several nouns: give each a file", name)
		written = append(written, own...)
	}
	slices.Sort(listed)
	slices.Sort(written)
	require.Equal(t, written, listed, "nouns() in admin.go lists every noun, once")
}

func callee(call *ast.CallExpr, ok bool) (string, bool) {
	if !ok {
		return "", false
	}
	id, ok := call.Fun.(*ast.Ident)
	if !ok {
		return "", false
	}
	return id.Name, true
}
