package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// eventTypes prints what the official SDKs know of events, a kind a line.
const eventTypes = `
import sys, typing
def kinds(union):
    for c in typing.get_args(typing.get_args(union)[0] if typing.get_origin(union) is typing.Annotated else union):
        yield typing.get_args(c.model_fields["type"].annotation)[0]
if sys.argv[1] == "responses":
    from openai.types.responses import ResponseStreamEvent as events
    print(*kinds(events), sep="\n")
else:
    from anthropic.types import RawMessageStreamEvent as events, RawContentBlockDelta as deltas
    print(*kinds(events), *kinds(deltas), sep="\n")
`

// TestFixtureHasEveryEvent: the streams that the gateway's tests relay have each kind of event that the pinned SDKs know, but for those that end a stream in
// another way, which have tests of their own.
func TestFixtureHasEveryEvent(t *testing.T) {
	root, err := filepath.Abs("../../.cache/venv/bin/python")
	require.NoError(t, err)
	for _, name := range []string{"responses", "messages"} {
		all, err := os.ReadFile("../../gateway/testdata/" + name + ".sse")
		require.NoError(t, err)
		cmd := exec.Command(root, "-c", eventTypes, name)
		cmd.Env = cleanEnv()
		out, err := cmd.Output()
		require.NoError(t, err, "run `make tools`: it installs the SDKs into .cache")
		kinds := strings.Fields(string(out))
		require.Greater(t, len(kinds), 9)
		for _, kind := range kinds {
			if !slices.Contains([]string{"error", "response.failed", "response.incomplete"}, kind) && !strings.Contains(string(all), `"`+kind+`"`) {
				t.Errorf("%s.sse has no %s", name, kind)
			}
		}
	}
}
