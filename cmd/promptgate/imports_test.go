package main

import (
	"go/parser"
	"go/token"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/promptgate/promptgate/"

// mayImport says, for each top folder, which other top folders of ours it may import. Imports are a star, not a chain: what one
// domain needs of another it declares as an interface, and cmd wires it.
var mayImport = map[string][]string{
	"cmd":      {"configs", "gateway", "registry", "policy", "metrics", "internal"},
	"configs":  {},
	"gateway":  {"registry", "policy", "metrics", "internal"},
	"registry": {"internal"},
	"policy":   {"internal"},
	"metrics":  {"internal"},
	"internal": {},
}

// adapters are packages that only cmd (and tests) may import, and the packages below their own contract.
var adapters = []string{
	"registry/sqlstore", "registry/rediscache", "policy/sqlstore", "policy/rbac", "policy/rediscache",
	"policy/limits/sqlstore", "policy/limits/redislease", "gateway/provider/sqlstore", "gateway/provider/openai", "gateway/provider/anthropic",
	"gateway/provider/upstream", "gateway/provider/echo", "metrics/ledger", "metrics/pricing",
}

func TestImportsPointOneWay(t *testing.T) {
	seen := 0
	eachSource(t, func(name, rel string) {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, imp := range f.Imports {
			to, ours := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module)
			if ours {
				seen++
				checkImport(t, rel, path.Dir(rel), to)
			}
		}
	})
	require.Greater(t, seen, 50, "the walk found hardly any import: it looks in the wrong place")
}

func checkImport(t *testing.T, file, from, to string) {
	t.Helper()
	fromTop, _, _ := strings.Cut(from, "/")
	toTop, _, _ := strings.Cut(to, "/")
	if fromTop != toTop {
		require.Contains(t, mayImport[fromTop], toTop,
			"%s imports %s: %s may not know %s. Declare a small interface beside the code that needs it and wire it in cmd.", file, to, fromTop, toTop)
	}
	for _, a := range adapters {
		inside := to == a || strings.HasPrefix(to, a+"/")
		own := from == a || strings.HasPrefix(from, a+"/")
		suite := strings.HasSuffix(from, "test") // a conformance suite
		if a == "gateway/provider/upstream" {
			own = own || strings.HasPrefix(from, "gateway/provider/") // every provider's HTTP client
		}
		require.False(t, inside && !own && !suite && fromTop != "cmd",
			"%s imports the adapter %s: only cmd chooses adapters. Depend on the contract one folder above it.", file, to)
	}
}

func TestNoPackageIsNamedAfterNothing(t *testing.T) {
	for _, name := range []string{"util", "utils", "helper", "helpers", "common", "types", "misc"} {
		found, err := filepath.Glob("../../*/" + name)
		require.NoError(t, err)
		deeper, err := filepath.Glob("../../*/*/" + name)
		require.NoError(t, err)
		require.Empty(t, append(found, deeper...), "a package is named after what it does, not %q", name)
	}
}

// TestTheProgramCarriesNoTestTools: what only tests and cmd/chaos need must not get into the binary.
func TestTheProgramCarriesNoTestTools(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	require.Greater(t, len(deps), 200)
	for _, dep := range deps {
		for _, tool := range []string{
			"github.com/Shopify/toxiproxy", "github.com/stretchr", "go.uber.org/goleak", "pgregory.net/rapid", module + "internal/testenv", "testing",
			"gopkg.in/yaml.v3", // archived
		} {
			require.False(t, dep == tool || strings.HasPrefix(dep, tool+"/"), "the program carries %s", dep)
		}
	}
}

// parts are the folders of the domains that are no adapters: their core, shared within the domain.
var parts = []string{
	"gateway/admin", "gateway/provider", "gateway/provider/egress", "gateway/scim", "gateway/signin", "gateway/wire", "metrics/feedback", "policy/keys", "policy/limits",
	"policy/passwords", "policy/people", "policy/sessions", "policy/signin", "policy/sso", "policy/uses", "policy/notices", "registry/interchange", "registry/template",
}

// TestEveryFolderIsKnown: a folder that is neither named an adapter nor a part would be imported by anybody.
func TestEveryFolderIsKnown(t *testing.T) {
	for _, pattern := range []string{"../../gateway/*/*.go", "../../gateway/provider/*/*.go", "../../registry/*/*.go", "../../policy/*/*.go", "../../metrics/*/*.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			dir := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(file)), "../../")
			if !strings.HasSuffix(dir, "test") {
				require.Contains(t, append(parts, adapters...), dir, "name this folder in adapters, or in parts when it is none")
			}
		}
	}
}
