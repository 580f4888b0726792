package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/interchange"
)

type pushCmd struct {
	remote
	Paths  []string `arg:"" name:"path" help:"Prompt files, or folders of them." type:"path"`
	Label  string   `help:"Then point this label at what was pushed."`
	Note   string   `help:"Why; instead of the file's own note."`
	DryRun bool     `help:"Check only; change nothing."`
}

// Run parses every file before it sends the first: a fault in one pushes none.
func (c pushCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	found, err := promptFiles(c.Paths)
	if err != nil {
		return err
	}
	var files []interchange.File
	var faults []error
	for _, at := range found {
		f, err := readPrompt(at)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if c.Note != "" {
			f.Note = c.Note
		}
		files = append(files, f)
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	for _, f := range files {
		if err := c.push(ctx, cl, f, io); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}

// promptFile is where a prompt file is, and what its path says that the prompt is called.
type promptFile struct{ path, name string }

func promptFiles(paths []string) ([]promptFile, error) {
	var found []promptFile
	for _, p := range paths {
		before := len(found)
		err := filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			switch {
			case name == p:
				found = append(found, promptFile{name, filepath.Base(name)})
			case strings.HasSuffix(name, interchange.Extension):
				rel, err := filepath.Rel(p, name)
				if err != nil {
					return err
				}
				found = append(found, promptFile{name, filepath.ToSlash(rel)})
			}
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

func readPrompt(at promptFile) (interchange.File, error) {
	r, err := os.Open(at.path)
	if err != nil {
		return interchange.File{}, err
	}
	defer r.Close()
	return interchange.Parse(r, at.name)
}

func (c pushCmd) push(ctx context.Context, cl *client, f interchange.File, io *streams) error {
	content := admin.ContentOf(f.Content)
	var found admin.Prompt
	err := cl.call(ctx, http.MethodGet, promptPath(f.Name), nil, &found)
	var missing *statusError
	switch {
	case errors.As(err, &missing) && missing.Status == http.StatusNotFound:
		if c.DryRun {
			fmt.Fprintf(io.out, "%s: would be created\n", f.Name)
			return nil
		}
		in := admin.PromptCreate{
			Name: f.Name, Kind: string(f.Kind), Description: f.Description, Category: f.Category, Tags: f.Tags, Content: &content, Note: f.Note,
		}
		if err := cl.call(ctx, http.MethodPost, "/api/v1/prompts", in, &found); err != nil {
			return err
		}
		fmt.Fprintf(io.out, "%s: created, version %d\n", f.Name, found.LatestVersion)
		return c.moveLabel(ctx, cl, f.Name, found.LatestVersion, io)
	case err != nil:
		return err
	}
	in := admin.VersionCreate{Content: content, Note: f.Note, Latest: &found.LatestVersion, DryRun: c.DryRun}
	var saved admin.VersionSaved
	if err := cl.call(ctx, http.MethodPost, promptPath(f.Name, "versions"), in, &saved); err != nil {
		return err
	}
	switch {
	case c.DryRun:
		fmt.Fprintf(io.out, "%s: valid, %s\n", f.Name, saved.Digest)
		return nil
	case saved.Unchanged:
		fmt.Fprintf(io.out, "%s: unchanged, version %d\n", f.Name, saved.Number)
	default:
		fmt.Fprintf(io.out, "%s: version %d\n", f.Name, saved.Number)
	}
	return c.moveLabel(ctx, cl, f.Name, saved.Number, io)
}

func (c pushCmd) moveLabel(ctx context.Context, cl *client, name string, version int, io *streams) error {
	if c.Label == "" {
		return nil
	}
	err := cl.call(ctx, http.MethodPut, promptPath(name, "labels", c.Label), admin.LabelMove{Version: version}, nil, "X-Promptgate-Why", c.Note)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: %s is version %d\n", name, c.Label, version)
	return err
}

type pullCmd struct {
	remote
	Names []string `arg:"" optional:"" name:"prompt" help:"name, name@label or name@version; all prompts without any." placeholder:"NAME@LABEL"`
	Dir   string   `short:"d" help:"Folder to write to." default:"."`
	Force bool     `help:"Overwrite files that differ."`
}

// Run writes each prompt to <dir>/<name>.prompt.md. A file that differs is left alone without --force.
func (c pullCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	names := c.Names
	if len(names) == 0 {
		all, err := cl.prompts(ctx, url.Values{"limit": {"200"}})
		if err != nil {
			return err
		}
		for _, p := range all {
			if p.LatestVersion > 0 {
				names = append(names, p.Name)
			}
		}
	}
	kept := 0
	for _, ref := range names {
		f, err := cl.pull(ctx, ref)
		if err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
		path, wrote, err := c.write(f)
		if err != nil {
			return err
		}
		if !wrote {
			kept++
			fmt.Fprintf(io.err, "%s: differs and is kept; --force overwrites it\n", path)
			continue
		}
		fmt.Fprintln(io.out, path)
	}
	if kept > 0 {
		return fmt.Errorf("%d file(s) were not written", kept)
	}
	return nil
}

func (c *client) pull(ctx context.Context, ref string) (interchange.File, error) {
	name, selector := splitRef(ref)
	if selector == "" {
		selector = registry.LabelLatest
	}
	var p admin.Prompt
	if err := c.call(ctx, http.MethodGet, promptPath(name), nil, &p); err != nil {
		return interchange.File{}, err
	}
	number, err := c.version(ctx, name, selector)
	if err != nil {
		return interchange.File{}, err
	}
	var v admin.Version
	if err := c.call(ctx, http.MethodGet, promptPath(name, "versions", fmt.Sprint(number)), nil, &v); err != nil {
		return interchange.File{}, err
	}
	if v.Content == nil {
		return interchange.File{}, errors.New("the gateway sent a version without content")
	}
	content, err := v.Content.Template()
	if err != nil {
		return interchange.File{}, err
	}
	return interchange.File{
		Name: p.Name, Kind: registry.Kind(p.Kind), Description: p.Description, Category: p.Category, Tags: p.Tags, Note: v.Note, Content: content,
	}, nil
}

func (c pullCmd) write(f interchange.File) (path string, wrote bool, err error) {
	var text bytes.Buffer
	if err := interchange.Write(&text, f); err != nil {
		return "", false, err
	}
	path = filepath.Join(c.Dir, filepath.FromSlash(f.Name)+interchange.Extension)
	if !filepath.IsLocal(filepath.FromSlash(f.Name)) {
		return path, false, fmt.Errorf("%s: the name leads out of the folder", f.Name)
	}
	old, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(old, text.Bytes()):
		return path, true, nil
	case err == nil && !c.Force:
		return path, false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return path, false, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return path, false, err
	}
	return path, true, os.WriteFile(path, text.Bytes(), 0o600)
}
