package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clientCase is one thing that a framework does with the gateway.
type clientCase struct {
	Name    string            `json:"name"`
	Op      string            `json:"op"` // call, stream, tools, tools-stream, object, object-schema, cancel
	API     string            `json:"api"`
	Model   string            `json:"model"`
	BaseURL string            `json:"base_url"`
	Key     string            `json:"key"`
	Headers map[string]string `json:"headers,omitempty"`
	Prompt  map[string]any    `json:"prompt,omitempty"`
	Retries *int              `json:"retries,omitempty"` // nil: as many as the framework wants

	text     string // that the answer must hold
	raises   string // the framework's own error
	code     string // of the error
	statuses []int  // what the gateway answered, one for each request
}

// clientResult is what a framework made of it.
type clientResult struct {
	Name    string   `json:"name"`
	Text    string   `json:"text"`
	Tools   []string `json:"tools"` // with what the tool was run
	Chunks  int      `json:"chunks"`
	Error   string   `json:"error"`
	Status  int      `json:"status"`
	Code    string   `json:"code"`
	Message string   `json:"message"`
}

// witness stands before the gateway and sees what a client asks and gets. The first part of an address says on whose account: /3/v1/models.
type witness struct {
	*httptest.Server
	mu   sync.Mutex
	seen map[string][]seenCall
}

type seenCall struct {
	line   string // method and address
	status int
}

func newWitness(t *testing.T, gateway string) *witness {
	target, err := url.Parse(gateway)
	require.NoError(t, err)
	w := &witness{seen: map[string][]seenCall{}}
	type account struct{}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			name, rest, _ := strings.Cut(strings.TrimPrefix(r.In.URL.Path, "/"), "/")
			r.SetURL(target)
			r.Out.URL.Path, r.Out.URL.RawPath = "/"+rest, ""
			r.Out = r.Out.WithContext(context.WithValue(r.Out.Context(), account{}, name))
		},
		ModifyResponse: func(r *http.Response) error {
			name, _ := r.Request.Context().Value(account{}).(string)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.seen[name] = append(w.seen[name], seenCall{line: r.Request.Method + " " + r.Request.URL.RequestURI(), status: r.StatusCode})
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {}, // the client left
	}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		// The body is read before anything is sent: net/http takes it away once an answer begins, and the proxy's transport, if it has not seen the
		// body's end by then, breaks the stream off.
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.Close)
	return w
}

func (w *witness) of(account string) (lines []string, statuses []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.seen[account] {
		lines, statuses = append(lines, c.line), append(statuses, c.status)
	}
	return lines, statuses
}

// clientGateway is a gateway before a scripted provider of both kinds, and the echo for prompts.
func clientGateway(t *testing.T, up *scripted) (*process, *witness) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "promptgate.yaml")
	require.NoError(t, os.WriteFile(name, fmt.Appendf(nil, "providers:\n  - {name: echo, kind: echo, models: [\"gpt-*\", echo]}\n"+
		"  - {name: openai, kind: openai, base_url: %q, api_key: sk-upstream, models: [\"up-*\"], allow_private: true}\n"+
		"  - {name: claude, kind: anthropic, base_url: %q, api_key: sk-ant-upstream, models: [\"an-*\"], allow_private: true}\n", up.URL+"/v1", up.URL+"/v1"), 0o600))
	p := startGateway(t, t.TempDir(), nil, "--demo", "--config", name)
	return p, newWitness(t, p.url)
}

// framework is a client, and what is its own.
type framework struct {
	command []string // the script last
	apis    []string
	objects []string            // its ways of structured output
	expect  func(c *clientCase) // which error it raises where the gateway refuses
}

func frameworks(cache string) map[string]framework {
	python := filepath.Join(cache, "clients-venv", "bin", "python")
	sdks := func(c *clientCase) { // they let the official SDK's errors through
		c.raises = map[int]string{400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError", 429: "RateLimitError", 502: "InternalServerError"}[last(c.statuses)]
	}
	agents := framework{apis: []string{"chat", "responses"}, objects: []string{"object"}, expect: sdks}
	node := agents
	agents.command, node.command = []string{python, "openai_agents.py"}, []string{"node", "openai_agents.mjs"}
	return map[string]framework{
		"openai-agents for Python": agents,
		"openai-agents for Node":   node,
		"LangChain": {command: []string{python, "langchain.py"}, apis: []string{"chat", "responses", "messages"}, objects: []string{"object", "object-schema"}, expect: func(c *clientCase) {
			vendor := map[bool]string{true: "Anthropic", false: "OpenAI"}[c.API == "messages"]
			c.raises = vendor + map[int]string{400: "InvalidRequestError", 401: "AuthenticationError", 404: "ModelNotFoundError", 429: "RateLimitError", 502: "APIError"}[last(c.statuses)]
		}},
		"Vercel": {command: []string{"node", "vercel.mjs"}, apis: []string{"chat", "responses", "messages"}, objects: []string{"object"}, expect: func(c *clientCase) {
			c.raises = "AI_APICallError"
			// It tries 429 and 5xx again whatever the answer says of that, after seconds.
			if status := last(c.statuses); status == 429 || status > 499 {
				c.Retries = new(int)
			}
		}},
	}
}

func last(statuses []int) int { return statuses[len(statuses)-1] }

const (
	hello    = "Hello from upstream."
	toolSaid = "The tool said: 7 degrees in Oslo"
	rendered = "user 21 bytes" // the prompt with its variable, as the echo tells of it
	object   = `{"city":"Oslo","degrees":7}`
)

// clientCases are what every framework has to do in one shape.
func clientCases(f framework, api string) []clientCase {
	prefix := "up-"
	if api == "messages" {
		prefix = "an-"
	}
	vars := map[string]string{"x-promptgate-variables": `{"ticket":"charged twice"}`}
	const managed = "prompt/support/triage@production"
	cases := []clientCase{
		{Name: "call", Op: "call", Model: "text", text: hello, statuses: []int{200}},
		{Name: "stream", Op: "stream", Model: "text", text: hello, statuses: []int{200}},
		{Name: "tools", Op: "tools", Model: "tool", text: toolSaid, statuses: []int{200, 200}},
		{Name: "tools in a stream", Op: "tools-stream", Model: "tool", text: toolSaid, statuses: []int{200, 200}},
		{Name: "cancel", Op: "cancel", Model: "forever", statuses: []int{200}},
		{Name: "prompt by model", Op: "call", Model: managed, Headers: vars, text: rendered, statuses: []int{200}},
		{Name: "prompt by model in a stream", Op: "stream", Model: managed, Headers: vars, text: rendered, statuses: []int{200}},
		{Name: "400", Op: "call", Model: managed, code: "missing_variable", statuses: []int{400}},
		{Name: "400 of the provider", Op: "call", Model: "400", code: "up_400", statuses: []int{400}},
		{Name: "400 of the provider in a stream", Op: "stream", Model: "400", code: "up_400", statuses: []int{400}},
		{Name: "401", Op: "call", Model: "text", Key: "pg_wrong", code: "invalid_api_key", statuses: []int{401}},
		{Name: "404", Op: "call", Model: "prompt/support/none@production", code: "prompt_not_found", statuses: []int{404}},
		{Name: "429 not worth a retry", Op: "call", Model: "429", code: "up_429", statuses: []int{429}},
		{Name: "502 credential", Op: "call", Model: "401", code: "provider_auth", statuses: []int{502}},
	}
	for _, op := range f.objects {
		cases = append(cases, clientCase{Name: op, Op: op, Model: "json", text: object, statuses: []int{200}})
	}
	if f.command[1] == "vercel.mjs" { // the others make their agents' history themselves
		cases = append(cases, clientCase{Name: "a second turn", Op: "again", Model: "text", text: hello, statuses: []int{200, 200}})
	}
	if strings.HasPrefix(f.command[1], "openai_agents") && api == "responses" {
		prompt := map[string]any{"id": "support/triage", "variables": map[string]any{"ticket": "charged twice"}}
		cases = append(cases, clientCase{Name: "a prompt object", Op: "call", Model: "default", Prompt: prompt, text: rendered, statuses: []int{200}},
			clientCase{Name: "a prompt object in a stream", Op: "stream", Model: "default", Prompt: prompt, text: rendered, statuses: []int{200}})
	}
	for i := range cases {
		c := &cases[i]
		c.API = api
		if api == "messages" && strings.HasPrefix(c.code, "up_") {
			c.code = "" // Anthropic's errors have none
		}
		if !strings.Contains(c.Model, "/") && c.Model != "default" {
			c.Model = prefix + c.Model
		}
		if last(c.statuses) != 200 {
			f.expect(c)
		}
	}
	return cases
}

// TestClients: frameworks that speak to models work with nothing changed but the base URL and the key: calls, streams, loops of tools, structured
// output, cancelling, prompts; errors are their own and are not tried again for nothing.
func TestClients(t *testing.T) {
	cache, err := filepath.Abs("../../.cache")
	require.NoError(t, err)
	up := newScripted(t)
	p, seen := clientGateway(t, up)
	all := frameworks(cache)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := all[name]
		t.Run(name, func(t *testing.T) {
			var cases []clientCase
			for _, api := range f.apis {
				cases = append(cases, clientCases(f, api)...)
			}
			for i := range cases {
				c := &cases[i]
				c.BaseURL = seen.URL + "/" + account(name, i)
				if c.API != "messages" || name == "Vercel" {
					c.BaseURL += "/v1"
				}
				if c.Key == "" {
					c.Key = p.key
				}
			}
			up.take()
			results := runClients(t, cases, filepath.Join(cache, "clients"), f.command)
			require.Len(t, results, len(cases))
			for i, c := range cases {
				t.Run(c.API+" "+c.Name, func(t *testing.T) {
					checkClient(t, c, results[i])
					lines, statuses := seen.of(account(name, i))
					assert.Equal(t, c.statuses, statuses, "what the gateway answered: %v", lines)
				})
			}
			up.left(t, cases)
			if name == "Vercel" {
				refersToItems(t, up.take())
			}
		})
	}
}

func account(name string, i int) string {
	return strings.ReplaceAll(name, " ", "-") + "-" + strconv.Itoa(i)
}

// refersToItems: Vercel's SDK sends the items of earlier answers as references, where the provider keeps them.
func refersToItems(t *testing.T, asked []sentTo) {
	t.Helper()
	require.True(t, slices.ContainsFunc(asked, func(a sentTo) bool { return strings.Contains(a.body, `"item_reference"`) }), "references to items were tried")
}

// left waits until the provider's streams of what was cancelled were left.
func (s *scripted) left(t *testing.T, cases []clientCase) {
	t.Helper()
	want := map[string]int{}
	for _, c := range cases {
		if c.Op == "cancel" {
			want[c.Model]++
		}
	}
	got := map[string]int{}
	for deadline := time.After(10 * time.Second); !maps.Equal(want, got); {
		select {
		case model := <-s.gone:
			got[model]++
		case <-deadline:
			require.Equal(t, want, got, "the provider was left working")
		}
	}
}

func checkClient(t *testing.T, c clientCase, r clientResult) {
	t.Helper()
	require.Equal(t, c.Name, r.Name)
	require.Equal(t, c.raises, r.Error, "%+v", r)
	if c.raises != "" {
		assert.Equal(t, c.code, r.Code)
		assert.Equal(t, last(c.statuses), r.Status)
		assert.NotEmpty(t, r.Message)
		assert.NotContains(t, r.Message, "sk-")
		return
	}
	if strings.HasPrefix(c.Op, "object") {
		require.JSONEq(t, c.text, r.Text)
	} else {
		require.Contains(t, r.Text, c.text)
	}
	if strings.HasPrefix(c.Op, "tools") {
		require.Equal(t, []string{"Oslo"}, r.Tools)
	}
	if strings.HasSuffix(c.Op, "stream") || c.Op == "cancel" {
		require.Greater(t, r.Chunks, 2)
	}
}

// runClients gives all cases to a script and reads one result a line. Scripts for Node find their packages beside them.
func runClients(t *testing.T, cases []clientCase, packages string, command []string) (results []clientResult) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/clients")))
	require.NoError(t, os.Symlink(filepath.Join(packages, "node_modules"), filepath.Join(dir, "node_modules")))
	in, err := json.Marshal(cases)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(in)
	cmd.Env = cleanEnv("LANGSMITH_TRACING=false", "OPENAI_AGENTS_DISABLE_TRACING=1", "AI_SDK_LOG_WARNINGS=false")
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	require.NoError(t, err, "run `make tools` when a package is missing\n%s\n%s", out, &errOut)
	for line := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n") {
		var r clientResult
		require.NoError(t, json.Unmarshal([]byte(line), &r), line)
		results = append(results, r)
	}
	return results
}
