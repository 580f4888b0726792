package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// maxLines is how long a file may become: beyond it there are two things in it that a reader looks for by two names.
const maxLines = 400

// longFiles are the files that may be longer, each with the reason.
var longFiles = map[string]string{
	"policy/policytest/keystore.go":  "a conformance suite: one list of cases, read from its top",
	"registry/registrytest/store.go": "a conformance suite: one list of cases, read from its top",
}

// TestFilesStayShort: tests aside, which are lists of cases.
func TestFilesStayShort(t *testing.T) {
	seen := 0
	long := map[string]int{}
	eachSource(t, func(path, rel string) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		seen++
		if n := bytes.Count(text, []byte("\n")); n > maxLines {
			long[rel] = n
		}
	})
	require.Greater(t, seen, 100, "the walk found hardly any file: it looks in the wrong place")
	for name, n := range long {
		require.Contains(t, longFiles, name, "%s has %d lines: move one of the things that it holds to a file named after it; at most %d", name, n, maxLines)
	}
	for name := range longFiles {
		require.Contains(t, long, name, "this exception is needed no more: take it off the list")
	}
}

// eachSource calls fn for every Go file of ours that is no test: its path from here, and from the root with slashes.
func eachSource(t *testing.T, fn func(path, rel string)) {
	t.Helper()
	const root = "../.."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata" || d.Name() == "bin" || d.Name() == "data") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err == nil {
			fn(path, filepath.ToSlash(rel))
		}
		return err
	})
	require.NoError(t, err)
}
