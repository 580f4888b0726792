package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/registry/interchange"
	"github.com/promptgate/promptgate/registry/template"
)

type pushCmd struct {
	remote
	Paths     []string `arg:"" name:"path" help:"Prompt files, or folders of them." type:"path"`
	Label     string   `help:"Then point this label at what was pushed."`
	Labels    bool     `help:"Then point the labels that each file names at what was pushed."`
	Note      string   `help:"Why; instead of the file's own note."`
	Overwrite bool     `help:"The files win, whatever was saved since they were pulled: for a repository that is the only source."`
	Adopt     bool     `help:"Save a version as well where only an included prompt has moved."`
	Insist    bool     `help:"Save what looks misspelt, such as a parameter temprature."`
	DryRun    bool     `help:"Say what would change; change nothing."`
}

// Run parses every file and compares it with the registry before it sends the first change: a fault or a conflict in one pushes none.
func (c pushCmd) Run(ctx context.Context, s *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	files, err := c.files()
	if err != nil {
		return err
	}
	p := pusher{pushCmd: c, client: cl, out: s, pushed: map[string]bool{}}
	for _, f := range files {
		p.pushed[f.Name] = true
	}
	var faults []error
	plans := make([]*pushPlan, 0, len(files))
	for _, f := range files {
		plan, err := p.plan(ctx, f)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", f.Name, err))
		}
		plans = append(plans, plan)
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	for _, plan := range plans {
		if c.DryRun {
			plan.tell(s)
			continue
		}
		if err := p.apply(ctx, plan); err != nil {
			return fmt.Errorf("%s: %w", plan.file.Name, err)
		}
	}
	return nil
}

// promptFile is where a prompt file is, what its path says that the prompt is called, and what it holds.
type promptFile struct {
	path, name string
	alone      bool // named on the command line: nobody knows which folders belong to its prompt's name
	text       []byte
	interchange.File
}

// files reads every file, included prompts before those that include them.
func (c pushCmd) files() ([]*promptFile, error) {
	found, err := promptFiles(c.Paths)
	if err != nil {
		return nil, err
	}
	var faults []error
	at := map[string]string{}
	for _, f := range found {
		if err := f.read(); err != nil {
			faults = append(faults, err)
			continue
		}
		if other, twice := at[f.Name]; twice {
			faults = append(faults, fmt.Errorf("%s and %s both hold the prompt %q: push one of them", other, f.path, f.Name))
		}
		at[f.Name] = f.path
		if c.Note != "" {
			f.Note = c.Note
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return inOrderOfInclusion(found)
}

func promptFiles(paths []string) ([]*promptFile, error) {
	var found []*promptFile
	for _, p := range paths {
		before := len(found)
		err := filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if name == p {
				found = append(found, &promptFile{path: name, name: filepath.Base(name), alone: true})
				return nil
			}
			if !strings.HasSuffix(name, interchange.Extension) {
				return nil
			}
			// Opening a pipe would wait for ever, and a link that leads nowhere is no prompt that somebody meant to leave out.
			if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
				return fmt.Errorf("%s is no file that can be read (%s): remove it, or push the files one by one", name, whatElse(info, err))
			}
			rel, err := filepath.Rel(p, name)
			if err != nil {
				return err
			}
			found = append(found, &promptFile{path: name, name: filepath.ToSlash(rel)})
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(found) == before {
			return nil, fmt.Errorf("%s: there is no *%s file in it", p, interchange.Extension)
		}
	}
	return found, nil
}

func whatElse(info fs.FileInfo, err error) string {
	if err != nil {
		return "a link that leads nowhere"
	}
	if info.Mode()&fs.ModeNamedPipe != 0 {
		return "a pipe"
	}
	return "a " + info.Mode().Type().String()
}

func (f *promptFile) read() error {
	r, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer r.Close()
	var text bytes.Buffer
	if f.File, err = interchange.Parse(io.TeeReader(r, &text), f.name); err != nil {
		return err
	}
	if f.alone && f.Unnamed {
		return fmt.Errorf("%s does not say its prompt's name: write name: in its front matter, or push the folder that it is in", f.path)
	}
	if f.Aliases != nil { // a prompt's own name is none of its aliases: the registry keeps it out
		*f.Aliases = slices.DeleteFunc(*f.Aliases, func(alias string) bool { return alias == f.Name })
	}
	f.text = text.Bytes()
	return nil
}

// includes are the names of the prompts that a file's texts include, without their versions and labels.
func (f *promptFile) includes() ([]string, error) {
	spellings, err := template.References(f.Content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	for i, s := range spellings {
		spellings[i], _ = splitRef(s)
	}
	return spellings, nil
}

// inOrderOfInclusion sorts files so that what is included is there, and labelled, when what includes it is saved. Otherwise they keep the
// order of their names.
func inOrderOfInclusion(files []*promptFile) ([]*promptFile, error) {
	slices.SortStableFunc(files, func(a, b *promptFile) int { return strings.Compare(a.Name, b.Name) })
	byName := map[string]*promptFile{}
	for _, f := range files {
		byName[f.Name] = f
		if f.Aliases != nil {
			for _, alias := range *f.Aliases {
				byName[alias] = f
			}
		}
	}
	sorted := make([]*promptFile, 0, len(files))
	const entered, left = 1, 2
	state := map[*promptFile]int{}
	var enter func(f *promptFile, by string) error
	enter = func(f *promptFile, by string) error {
		switch state[f] {
		case entered:
			return fmt.Errorf("%s and %s include each other: take one of the includes out", by, f.Name)
		case left:
			return nil
		}
		state[f] = entered
		names, err := f.includes()
		if err != nil {
			return err
		}
		for _, name := range names {
			if included := byName[name]; included != nil {
				if err := enter(included, f.Name); err != nil {
					return err
				}
			}
		}
		state[f] = left
		sorted = append(sorted, f)
		return nil
	}
	for _, f := range files {
		if err := enter(f, f.Name); err != nil {
			return nil, err
		}
	}
	return sorted, nil
}

// moveLabels points the asked-for labels at a version, unless they point there; each by compare-and-set against what the plan saw.
func (p *pusher) moveLabels(ctx context.Context, plan *pushPlan, version int) error {
	name := plan.file.Name
	for _, label := range plan.labels {
		from := plan.labelled[label]
		if from == version {
			continue
		}
		move := admin.LabelMove{Version: version, From: &from}
		if err := p.client.call(ctx, http.MethodPut, promptPath(name, "labels", label), move, nil, "X-Promptgate-Why", p.Note); err != nil {
			return err
		}
		fmt.Fprintf(p.out.out, "%s: %s is version %d\n", name, label, version)
	}
	return nil
}
