// Package corpora is public test data, each suite with its licence beside it: json-parsing is nst/JSONTestSuite (test_parsing), mustache is
// mustache/spec, naughty is minimaxir/big-list-of-naughty-strings. Only tests import it.
package corpora

import (
	"embed"
	"encoding/json"
	"io/fs"
	"testing"
)

//go:embed json-parsing/*.json mustache/*.json naughty/*.json
var files embed.FS //nolint:gochecknoglobals // embedded files have no other form

// JSONParsing gives the bodies of the parsing suite by file name: y_ must be accepted, n_ refused, i_ either way.
func JSONParsing(t testing.TB) map[string][]byte {
	t.Helper()
	found, err := fs.Glob(files, "json-parsing/*.json")
	if err != nil || len(found) < 300 {
		t.Fatalf("the parsing suite is not whole: %d files, %v", len(found), err)
	}
	out := map[string][]byte{}
	for _, name := range found {
		out[name[len("json-parsing/"):]] = read(t, name)
	}
	return out
}

// Mustache gives one file of the specification: comments, delimiters, interpolation, inverted or sections.
func Mustache(t testing.TB, name string) []byte {
	t.Helper()
	return read(t, "mustache/"+name+".json")
}

// Naughty gives strings that broke other programs.
func Naughty(t testing.TB) (list []string) {
	t.Helper()
	if err := json.Unmarshal(read(t, "naughty/blns.json"), &list); err != nil || len(list) < 400 {
		t.Fatalf("the list of naughty strings is not whole: %d strings, %v", len(list), err)
	}
	return list
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
