package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Who may come in, from where, and what a refusal gives away is decided in policy/access.go, for every plane. Code of a plane that reads a
// credential, compares an address or looks at what a caller holds decides beside it, and the two will differ one day.
func TestOneAccessDecision(t *testing.T) {
	ours := map[string]bool{"Holds": true, "AllowsAddr": true, "Networks": true}
	read := 0
	require.NoError(t, filepath.WalkDir("../../gateway", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "keys.go") {
			return err // keys.go and own_keys.go show and store networks, and judge nothing by them
		}
		read++
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && ours[s.Sel.Name] {
				t.Errorf("%s uses .%s: ask policy.Decide or Principal.ComesFrom instead", path, s.Sel.Name)
			}
			return true
		})
		return nil
	}))
	require.Greater(t, read, 50)
}
