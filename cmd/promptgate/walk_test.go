package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"
)

// walkStep is a command that a document shows, and what it says that the command prints.
type walkStep struct {
	command string
	prints  []string
}

// fenced returns the text of each ```<kind> block.
func fenced(text, kind string) (blocks []string) {
	var b []string
	inside := false
	for line := range strings.Lines(text) {
		mark := strings.TrimSpace(line)
		switch {
		case !inside && mark == "```"+kind:
			inside, b = true, nil
		case inside && mark == "```":
			inside = false
			blocks = append(blocks, strings.Join(b, ""))
		case inside:
			b = append(b, line)
		}
	}
	return blocks
}

// consoleSteps reads a block: lines that start with "$ " are commands, one that ends with a backslash goes on in the next line, and
// lines beneath are output. A line of "…" alone stands for any number of lines.
func consoleSteps(block string) (steps []walkStep) {
	lines := strings.Split(strings.TrimRight(block, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		command, ok := strings.CutPrefix(lines[i], "$ ")
		if !ok {
			if shown := strings.TrimSpace(lines[i]); shown != "" && shown != "…" && shown != "..." && len(steps) > 0 {
				last := &steps[len(steps)-1]
				last.prints = append(last.prints, lines[i])
			}
			continue
		}
		for strings.HasSuffix(command, `\`) && i+1 < len(lines) {
			i++
			command += "\n" + strings.TrimPrefix(lines[i], "> ")
		}
		steps = append(steps, walkStep{command: command})
	}
	return steps
}

// indentedSteps reads the commands of a manual page: lines indented by four spaces that call the program.
func indentedSteps(text string) (steps []walkStep) {
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(line, "    bin/promptgate "); ok {
			steps = append(steps, walkStep{command: "bin/promptgate " + strings.TrimSpace(command)})
		}
	}
	return steps
}

var (
	elided     = regexp.MustCompile(`…|\.\.\.`)
	whitespace = regexp.MustCompile(`\s+`)
)

// shows reports whether a line of output is the one that a document shows: white space counts as one space, and "…" for anything.
func shows(shown, line string) bool {
	pattern := "^"
	for i, part := range elided.Split(whitespace.ReplaceAllString(strings.TrimSpace(shown), " "), -1) {
		if i > 0 {
			pattern += ".*"
		}
		pattern += regexp.QuoteMeta(part)
	}
	return regexp.MustCompile(pattern + "$").MatchString(whitespace.ReplaceAllString(strings.TrimSpace(line), " "))
}

// checkOutput demands the shown lines, in their order; there may be more between them.
func checkOutput(t *testing.T, step walkStep, output string) {
	t.Helper()
	lines := strings.Split(output, "\n")
	for _, shown := range step.prints {
		for len(lines) > 0 && !shows(shown, lines[0]) {
			lines = lines[1:]
		}
		require.NotEmpty(t, lines, "the document says that `%s` prints\n  %s\nand it prints\n%s", step.command, shown, output)
		lines = lines[1:]
	}
}

// walker runs commands as a reader of the README does: in a checkout with bin/promptgate, against the demo.
type walker struct {
	p   *process
	dir string
	env []string
}

func newWalker(t *testing.T) *walker {
	t.Helper()
	name, err := binary()
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o700))
	require.NoError(t, os.Symlink(name, filepath.Join(dir, "bin", "promptgate")))
	p := startGateway(t, filepath.Join(dir, "data"), nil, "--demo")
	return &walker{p: p, dir: dir, env: cleanEnv("PROMPTGATE_URL="+p.url, "PROMPTGATE_KEY="+p.key)}
}

// run gives a command to the shell; it must succeed.
func (w *walker) run(command string) string {
	w.p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Dir, cmd.Env = w.dir, w.env
	out, err := cmd.CombinedOutput()
	require.NoError(w.p.t, err, "%s\n%s", command, out)
	return string(out)
}

func (w *walker) walk(t *testing.T, steps []walkStep) {
	t.Helper()
	for _, step := range steps {
		out := w.run(step.command)
		require.NotEmpty(t, strings.TrimSpace(out), "%s prints nothing", step.command)
		checkOutput(t, step, out)
	}
}

// TestReadmeWalk: what the README shows works when it is typed, and prints what the README says.
func TestReadmeWalk(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	t.Run("commands", func(t *testing.T) {
		w := newWalker(t)
		var steps []walkStep
		for _, b := range fenced(string(readme), "console") {
			steps = append(steps, consoleSteps(b)...)
		}
		require.Greater(t, len(steps), 5, "the README shows hardly any command: the parser looks for the wrong thing")
		w.walk(t, steps)
		t.Logf("%d commands of the README work and print what it says", len(steps))
	})
	t.Run("curl", func(t *testing.T) { walkCurl(t) })
	t.Run("python", func(t *testing.T) { walkPython(t, string(readme)) })
}

// TestTourWalk: so does the manual's tour.
func TestTourWalk(t *testing.T) {
	tour, err := os.ReadFile("manual/tour.md")
	require.NoError(t, err)
	steps := indentedSteps(string(tour))
	require.Greater(t, len(steps), 4)
	newWalker(t).walk(t, steps)
}

// walkCurl pastes what `serve --demo` prints: the export, then the curl.
func walkCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		require.NoError(t, err, "the README's reader has curl; install it")
	}
	w := newWalker(t)
	var export, curl string
	var responses string
	for line := range strings.Lines(w.p.out.String()) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "export "):
			export = line
		case strings.HasPrefix(line, "curl ") && strings.Contains(line, "/v1/responses"):
			responses = line
		case strings.HasPrefix(line, "curl "):
			curl = line
		}
	}
	require.NotEmpty(t, export, "%s", w.p.out)
	require.NotEmpty(t, curl, "%s", w.p.out)
	var answer struct {
		Choices []struct {
			Message struct{ Content string }
		}
	}
	out := w.run(curl)
	require.NoError(t, json.Unmarshal([]byte(out), &answer), out)
	require.Len(t, answer.Choices, 1, out)
	require.Contains(t, answer.Choices[0].Message.Content, "charged twice")
	out = w.run(responses)
	require.Contains(t, gjson.Get(out, "output.0.content.0.text").String(), "charged twice", out)
	w.env = cleanEnv()
	require.Contains(t, w.run(export+"; bin/promptgate prompt list"), "support/triage")
}

// walkPython runs the README's Python with the address and the key put in.
func walkPython(t *testing.T, readme string) {
	blocks := fenced(readme, "python")
	require.NotEmpty(t, blocks)
	python, err := filepath.Abs("../../.cache/venv/bin/python")
	require.NoError(t, err)
	_, err = os.Stat(python)
	require.NoError(t, err, "run `make tools`: it installs the SDKs into .cache")
	w := newWalker(t)
	for _, b := range blocks {
		code := strings.NewReplacer("http://127.0.0.1:8080", w.p.url, "pg_…", w.p.key, "pg_...", w.p.key).Replace(b)
		require.NotEqual(t, b, code, "the example has no address or key to replace")
		cmd := exec.Command(python, "-")
		cmd.Stdin, cmd.Env = strings.NewReader(code), cleanEnv()
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		out, err := cmd.Output()
		require.NoError(t, err, "%s", &errOut)
		require.Contains(t, string(out), "charged twice")
	}
}

func TestWalkReadsDocuments(t *testing.T) {
	text := "a\n```console\n$ one\nout …\n…\n\n$ two \\\n> three\n```\n```sh\n$ no\n```\n"
	blocks := fenced(text, "console")
	require.Len(t, blocks, 1)
	require.Equal(t, []walkStep{{"one", []string{"out …"}}, {"two \\\nthree", nil}}, consoleSteps(blocks[0]))
	require.True(t, shows("pg_… is  it", "  pg_abc is it"))
	require.False(t, shows("pg_…", "xpg_abc"))
	require.False(t, shows("version 2", "version 22"))
	require.Equal(t, []walkStep{{"bin/promptgate x", nil}}, indentedSteps("t\n    export A\n    bin/promptgate x\n"))
}
