package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"
)

// codingAgent is a program of the terminal that does one task with tools of its own.
type codingAgent struct {
	name    string
	command []string
	env     []string
	files   map[string]string // in its home
	path    string            // where it sends its calls
	says    func(out string) string
	refused []int // what the gateway refuses it, and it bears
}

// TestCodingAgents: Claude Code and Codex do a task with a tool through the gateway, with nothing set but its address and a key, and speak to nobody else.
// `make clients` installs them, 800 MB, and runs this.
func TestCodingAgents(t *testing.T) {
	if os.Getenv("PROMPTGATE_TEST_CLIENTS") == "" {
		t.Skip("`make clients` runs this")
	}
	bin, err := filepath.Abs("../../.cache/agents/node_modules/.bin")
	require.NoError(t, err)
	const task = "Write the file note.txt."
	up := newScripted(t)
	p, seen := clientGateway(t, up)
	for _, a := range []codingAgent{
		{
			name: "claude-code by API key", path: "/v1/messages?beta=true",
			command: []string{filepath.Join(bin, "claude"), "-p", task, "--output-format", "json", "--allowedTools", "Write"},
			env:     []string{"ANTHROPIC_BASE_URL={url}", "ANTHROPIC_API_KEY={key}", "ANTHROPIC_MODEL=an-tool", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1"},
			says:    func(out string) string { return gjson.Get(out, "result").String() },
		},
		{
			name: "claude-code by token", path: "/v1/messages?beta=true",
			command: []string{filepath.Join(bin, "claude"), "-p", task, "--output-format", "json", "--allowedTools", "Write"},
			env:     []string{"ANTHROPIC_BASE_URL={url}", "ANTHROPIC_AUTH_TOKEN={key}", "ANTHROPIC_MODEL=an-tool", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1"},
			says:    func(out string) string { return gjson.Get(out, "result").String() },
		},
		{
			name: "codex with a provider", path: "/v1/responses",
			command: []string{filepath.Join(bin, "codex"), "exec", "--skip-git-repo-check", "--json", "--sandbox", "danger-full-access", task},
			env:     []string{"PROMPTGATE_KEY={key}"},
			files:   map[string]string{".codex/config.toml": "model = \"up-tool\"\nmodel_provider = \"promptgate\"\n" + quiet + "[model_providers.promptgate]\nname = \"promptgate\"\nbase_url = \"{url}/v1\"\nenv_key = \"PROMPTGATE_KEY\"\nwire_api = \"responses\"\n"},
			says:    codexSays,
		},
		{
			name: "codex as OpenAI's own provider", path: "/v1/responses", refused: []int{http.StatusUpgradeRequired},
			command: []string{filepath.Join(bin, "codex"), "exec", "--skip-git-repo-check", "--json", "--sandbox", "danger-full-access", task},
			files: map[string]string{".codex/config.toml": "model = \"up-tool\"\nopenai_base_url = \"{url}/v1\"\n" + quiet,
				".codex/auth.json": `{"auth_mode":"apikey","OPENAI_API_KEY":"{key}"}`},
			says: codexSays,
		},
	} {
		t.Run(a.name, func(t *testing.T) { a.works(t, up, p.key, seen) })
	}
}

// quiet keeps Codex from looking for updates and plugins.
const quiet = "check_for_update_on_startup = false\n[analytics]\nenabled = false\n[features]\nplugins = false\napps = false\n"

func codexSays(out string) string {
	said := ""
	for line := range strings.Lines(out) {
		if item := gjson.Get(line, "item"); item.Get("type").String() == "agent_message" {
			said = item.Get("text").String()
		}
	}
	return said
}

func (a codingAgent) works(t *testing.T, up *scripted, key string, seen *witness) {
	home, work := t.TempDir(), t.TempDir()
	url := seen.URL + "/" + account(a.name, 0)
	fill := strings.NewReplacer("{url}", url, "{key}", key).Replace
	for name, text := range a.files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(home, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(home, name), []byte(fill(text)), 0o600))
	}
	note := filepath.Join(work, "note.txt")
	up.tool = func(body string) (name, args string) {
		if gjson.Get(body, "system").Exists() {
			return "Write", fmt.Sprintf(`{"file_path":%s,"content":"written by a tool\n"}`, inJSON(note))
		}
		return "exec_command", fmt.Sprintf(`{"cmd":%s}`, inJSON("echo written by a tool | tee "+note))
	}
	up.take()
	elsewhere, out, errOut := a.run(t, home, work, fill)
	require.Contains(t, a.says(out), "The tool said: ", "%s\n%s", out, errOut)
	text, err := os.ReadFile(note)
	require.NoError(t, err, "%s\n%s", out, errOut)
	assert.Equal(t, "written by a tool\n", string(text))
	assert.Zero(t, elsewhere, "requests to others than the gateway")

	asked := up.take()
	require.Len(t, asked, 2, "one call for the tool, one with what it said")
	for _, one := range asked {
		assert.NotContains(t, one.body+fmt.Sprint(one.header), key, "the provider gets no key of ours")
	}
	lines, statuses := seen.of(account(a.name, 0))
	var served []string
	for i, line := range lines {
		if statuses[i] != 200 {
			require.Contains(t, a.refused, statuses[i], line)
			continue
		}
		served = append(served, line)
	}
	require.Equal(t, []string{"POST " + a.path, "POST " + a.path}, served)
	require.LessOrEqual(t, len(lines)-len(served), 2*len(a.refused), "what is refused is not asked again and again: %v", lines)
}

// run does the task with nothing of this machine's settings. Whatever is not for loopback goes to a proxy that counts it and serves nothing.
func (a codingAgent) run(t *testing.T, home, work string, fill func(string) string) (elsewhere int64, out, errOut string) {
	t.Helper()
	var asked atomic.Int64
	nowhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		t.Log("asked for", r.Method, r.Host)
		w.WriteHeader(http.StatusForbidden)
	}))
	defer nowhere.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, a.command[0], a.command[1:]...)
	cmd.Dir = work
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "SHELL=/bin/sh", "NO_PROXY=127.0.0.1,localhost", "no_proxy=127.0.0.1,localhost"}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		cmd.Env = append(cmd.Env, name+"="+nowhere.URL, strings.ToLower(name)+"="+nowhere.URL)
	}
	for _, kv := range a.env {
		cmd.Env = append(cmd.Env, fill(kv))
	}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "`make clients` installs it\n%s\n%s", &stdout, &stderr)
	return asked.Load(), stdout.String(), stderr.String()
}
