package main

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestImportOpenAI: callers of OpenAI's prompt objects go on with their ids and version numbers, and importing again changes nothing that people did since.
func TestImportOpenAI(t *testing.T) {
	p := startGateway(t, t.TempDir(), nil, "--demo")
	file := filepath.Join(t.TempDir(), "prompts.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"data":[
		{"id":"pmpt_68aa1","name":"Ticket sorter","version":"2","default_version":"2","model":"echo","instructions":"Sort {{ticket}}."},
		{"id":"pmpt_68aa1","name":"Ticket sorter","version":"5","model":"echo","input":[{"role":"user","content":"Sort this: {{ticket}}"}]},
		{"id":"resp_1","object":"response","prompt":{"id":"pmpt_68bb2","version":"1"},"instructions":[{"role":"developer","content":[{"type":"input_text","text":"Greet."}]}],"model":"echo"}
	]}`), 0o600))
	plan := p.cli("import", "openai", file, "--dry-run")
	assert.Contains(t, plan, "openai/ticket-sorter: would be created, answers to pmpt_68aa1")
	assert.Equal(t, http.StatusNotFound, p.send("GET", "/api/v1/prompts/pmpt_68aa1", "").status)
	done := p.cli("import", "openai", file)
	for _, line := range []string{"openai/ticket-sorter: created, answers to pmpt_68aa1", "openai/ticket-sorter: version 2 saved", "openai/ticket-sorter: version 5 saved",
		"openai/ticket-sorter: production is version 2", "openai/68bb2: production is version 1"} {
		assert.Contains(t, done, line)
	}
	for version, status := range map[string]int{``: 200, `"version":"2",`: 200, `"version":"5",`: 200, `"version":"3",`: 404} {
		a := p.send("POST", "/v1/responses", `{"prompt":{"id":"pmpt_68aa1",`+version+`"variables":{"ticket":{"type":"input_text","text":"charged twice"}}}}`)
		require.Equal(t, status, a.status, "%s: %s", version, a)
		if version == "" {
			assert.Equal(t, "2", a.header.Get("X-Promptgate-Version"))
		}
	}
	p.cli("prompt", "label", "openai/ticket-sorter", "production", "5")
	again := p.cli("import", "openai", file)
	assert.Contains(t, again, "version 2 is there already")
	assert.Contains(t, again, "openai/ticket-sorter: production stays version 5")
	assert.NotContains(t, again, "saved")
}

// TestMigrationPage: the manual's page works as it is typed, with the file that it shows.
func TestMigrationPage(t *testing.T) {
	page, err := os.ReadFile("manual/migration.md")
	require.NoError(t, err)
	shown := regexp.MustCompile(`(?m)^    (\{"id".*\})$`).FindSubmatch(page)
	require.NotNil(t, shown)
	w := newWalker(t)
	require.NoError(t, os.WriteFile(filepath.Join(w.dir, "prompts.json"), shown[1], 0o600))
	steps := indentedSteps(string(page))
	require.Len(t, steps, 5)
	w.walk(t, steps)
	require.Contains(t, w.run(steps[3].command), "developer 43 bytes", "the ticket stands in the prompt's own message")
	require.Contains(t, w.run("bin/promptgate prompt list openai"), "openai/ticket-sorter")
	require.Contains(t, w.run(`bin/promptgate key create "by number" --call 'openai/**@@version'`), "pg_")
}
