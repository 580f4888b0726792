package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCommandsDoNotInstallByMistake: what works on the data itself creates nothing in a folder that is not an installation, and does not call it sound.
func TestCommandsDoNotInstallByMistake(t *testing.T) {
	for name, args := range map[string][]string{
		"audit verify":       {"audit", "verify"},
		"migrate status":     {"migrate", "status"},
		"migrate up":         {"migrate", "up"},
		"migrate down":       {"migrate", "down", "--yes"},
		"key create --local": {"key", "create", "first", "--local", "--role", "admin"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "mistyped")
			out, errOut, code := runHere(t, append(args, "--data", dir)...)
			require.Equal(t, exitUsage, code, errOut)
			require.NotContains(t, out, "as it was written")
			require.Contains(t, errOut, "no installation")
			require.Contains(t, errOut, dir)
			require.NoDirExists(t, dir)

			require.NoError(t, os.Mkdir(dir, 0o700)) // an empty folder is none either
			_, errOut, code = runHere(t, append(args, "--data", dir)...)
			require.Equal(t, exitUsage, code, errOut)
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
	dir := filepath.Join(t.TempDir(), "new")
	create := []string{"key", "create", "first", "--local", "--role", "admin", "--data", dir}
	_, errOut, code := runHere(t, append(create, "--init")...)
	require.Zero(t, code, errOut)
	require.Contains(t, errOut, "creating the project default")
	_, errOut, code = runHere(t, create...)
	require.Zero(t, code, errOut)
	_, errOut, code = runHere(t, append(create, "--project", "defalt-x")...)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errOut, `no project "defalt-x"`)
	_, errOut, code = runHere(t, "audit", "verify", "--data", dir)
	require.Zero(t, code, errOut)
}
