// Command skips runs a `go test -json …` that follows its first argument, shows what failed as `go test` would, and ends with every test that was
// skipped and why. It fails when a test failed, and when one was skipped that the list in the first argument does not name: what does not run
// proves nothing, and nobody notices.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sort"
	"strings"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: skips LIST go test -json PACKAGES")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(list string, command []string) error {
	raw, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	cmd := exec.Command(command[0], command[1:]...) //nolint:gosec,noctx // what the Makefile says; interrupts reach both
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	seen := read(out, os.Stdout)
	failed := cmd.Wait()
	return errors.Join(failed, seen.judge(allowed(string(raw)), os.Stdout))
}

// event is a line of `go test -json`.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// result is what a run came to.
type result struct {
	packages int
	skipped  map[string]string // reasons by "package Test"
}

// read follows a run. It shows each package's outcome, and all that a failed test printed.
func read(in io.Reader, show io.Writer) result {
	r := result{skipped: map[string]string{}}
	printed := map[string]*strings.Builder{}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if len(line) > 0 && json.Unmarshal(line, &e) != nil {
			_, _ = show.Write(line) // not of the tests: a build that failed
		}
		key := e.Package + " " + e.Test
		switch {
		case e.Action == "output" || e.Action == "build-output":
			if printed[key] == nil {
				printed[key] = &strings.Builder{}
			}
			printed[key].WriteString(e.Output)
			if e.Action == "build-output" {
				fmt.Fprint(show, e.Output)
			}
		case e.Action == "fail":
			fmt.Fprint(show, text(printed[key]))
			if e.Test == "" {
				fmt.Fprintf(show, "FAIL\t%s\t%.1fs\n", e.Package, e.Elapsed)
			}
		case e.Action == "pass" && e.Test == "":
			r.packages++
			fmt.Fprintf(show, "ok\t%s\t%.1fs\n", e.Package, e.Elapsed)
		case e.Action == "skip" && e.Test != "":
			r.skipped[key] = reason(text(printed[key]))
		}
		if e.Action == "pass" || e.Action == "fail" || e.Action == "skip" {
			delete(printed, key)
		}
		if err != nil {
			return r
		}
	}
}

func text(b *strings.Builder) string {
	if b == nil {
		return ""
	}
	return b.String()
}

// reason is what a skipped test said, without the lines of the tool.
func reason(output string) string {
	var said []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			said = append(said, line)
		}
	}
	return strings.Join(said, " ")
}

// allowed reads the list: a package and a test a line, # begins a comment.
func allowed(list string) map[string]bool {
	out := map[string]bool{}
	for line := range strings.Lines(list) {
		line, _, _ = strings.Cut(line, "#")
		if fields := strings.Fields(line); len(fields) == 2 {
			out[fields[0]+" "+fields[1]] = true
		}
	}
	return out
}

// judge shows what was skipped and refuses what the list does not name.
func (r result) judge(may map[string]bool, show io.Writer) error {
	if r.packages == 0 {
		return errors.New("no package passed")
	}
	names := make([]string, 0, len(r.skipped))
	for name := range r.skipped {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintf(show, "\n%d tests skipped\n", len(names))
	var wrong []string
	for _, name := range names {
		fmt.Fprintf(show, "  %s: %s\n", name, r.skipped[name])
		if !may[name] {
			wrong = append(wrong, name)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("skipped and not in the list of what may be: %s", strings.Join(wrong, ", "))
	}
	return nil
}
