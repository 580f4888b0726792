package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/tmaxmax/go-sse"
)

type callCmd struct {
	remote
	Prompt  string            `arg:"" help:"name@label, name@version, or a name alone for the project's default label." placeholder:"NAME@LABEL"`
	Var     map[string]string `help:"A variable, name=value; @file reads the value from a file. May be repeated." mapsep:"none" placeholder:"NAME=VALUE"`
	JSONVar map[string]string `name:"json-var" help:"A variable whose value is JSON, e.g. items=[1,2]." mapsep:"none" placeholder:"NAME=JSON"`
	Message string            `short:"m" help:"A user message to send along."`
	Model   string            `help:"Another model than the version's; the key must be allowed to use it."`
	Stream  bool              `help:"Print the answer as it comes."`
	Raw     bool              `help:"Print the answer's JSON (with --stream: each event)."`
}

// Help implements kong's detailed help.
func (callCmd) Help() string {
	return "Example: promptgate call support/triage@production --var ticket=\"My card was charged twice\" --stream"
}

// Run calls the data plane as any application does.
func (c callCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	body, err := c.body()
	if err != nil {
		return errUsage{err}
	}
	resp, err := cl.send(ctx, http.MethodPost, "/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return failure(resp)
	}
	fmt.Fprintf(io.err, "%s version %s by %s, call %s\n", resp.Header.Get("X-Promptgate-Prompt"), resp.Header.Get("X-Promptgate-Version"),
		resp.Header.Get("X-Promptgate-Model"), resp.Header.Get("X-Promptgate-Call-Id"))
	if c.Stream {
		return c.printStream(resp.Body, io.exact)
	}
	return c.printAnswer(resp.Body, io.exact)
}

func (c callCmd) body() ([]byte, error) {
	name, selector := splitRef(c.Prompt)
	if strings.HasSuffix(c.Prompt, "@") {
		return nil, fmt.Errorf("%s names an empty label; write %s@production, or %s alone for the project's default label", c.Prompt, name, name)
	}
	ref := map[string]any{"id": name}
	if n, err := strconv.Atoi(selector); err == nil {
		ref["version"] = n
	} else if selector != "" {
		ref["label"] = selector
	}
	vars, err := c.variables()
	if err != nil {
		return nil, err
	}
	if len(vars) > 0 {
		ref["variables"] = vars
	}
	body := map[string]any{"prompt": ref}
	if c.Message != "" {
		body["messages"] = []map[string]string{{"role": "user", "content": c.Message}}
	}
	if c.Model != "" {
		body["model"] = c.Model
	}
	if c.Stream {
		body["stream"] = true
	}
	return json.Marshal(body)
}

func (c callCmd) variables() (map[string]any, error) {
	vars := map[string]any{}
	for name, v := range c.Var {
		if file, ok := strings.CutPrefix(v, "@"); ok {
			b, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("--var %s: %w", name, err)
			}
			v = string(b)
		}
		vars[name] = v
	}
	for name, v := range c.JSONVar {
		if !json.Valid([]byte(v)) {
			return nil, fmt.Errorf("--json-var %s: %q is not JSON; quote strings, or use --var", name, v)
		}
		vars[name] = json.RawMessage(v)
	}
	return vars, nil
}

// piece is what an answer or a chunk may hold for a reader.
type piece struct {
	Choices []struct {
		Message struct{ Content string } `json:"message"`
		Delta   struct{ Content string } `json:"delta"`
	} `json:"choices"`
	Error *struct{ Message, Code string } `json:"error"`
}

func (c callCmd) printAnswer(r io.Reader, out io.Writer) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("the answer was cut: %w", err)
	}
	var p piece
	if err := json.Unmarshal(b, &p); err != nil || c.Raw || len(p.Choices) == 0 {
		_, err := fmt.Fprintln(out, string(bytes.TrimSpace(b)))
		return err
	}
	_, err = fmt.Fprintln(out, p.Choices[0].Message.Content)
	return err
}

func (c callCmd) printStream(r io.Reader, out io.Writer) error {
	w := bufio.NewWriter(out)
	defer w.Flush()
	done := false
	for ev, err := range sse.Read(r, &sse.ReadConfig{MaxEventSize: 32 << 20}) {
		if err != nil {
			return fmt.Errorf("the stream was cut: %w", err)
		}
		if done = ev.Data == "[DONE]"; done {
			continue
		}
		var p piece
		if err := json.Unmarshal([]byte(ev.Data), &p); err != nil {
			return fmt.Errorf("an event of the stream is not JSON: %w", err)
		}
		switch {
		case p.Error != nil:
			return &statusError{Status: http.StatusBadGateway, Code: p.Error.Code, Message: p.Error.Message}
		case c.Raw:
			fmt.Fprintln(w, ev.Data)
		case len(p.Choices) > 0:
			fmt.Fprint(w, p.Choices[0].Delta.Content)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if !done {
		return fmt.Errorf("the stream ended without [DONE]: the answer may be incomplete")
	}
	if !c.Raw {
		fmt.Fprintln(w)
	}
	return nil
}
