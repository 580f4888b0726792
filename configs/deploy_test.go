package configs_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

type service struct {
	Environment map[string]string
	Volumes     []string
	Networks    []string
}

type composeFile struct{ Services map[string]service }

func readCompose(t *testing.T) composeFile {
	t.Helper()
	text, err := os.ReadFile("compose/compose.yaml")
	require.NoError(t, err)
	var c composeFile
	unmarshal(t, string(text), &c)
	return c
}

func unmarshal(t *testing.T, text string, into any) {
	t.Helper()
	require.NoError(t, yaml.Unmarshal([]byte(text), into), text)
}
