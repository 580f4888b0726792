package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/interchange"
)

type pullCmd struct {
	remote
	Names  []string `arg:"" optional:"" name:"prompt" help:"name, name@label or name@version; all prompts without any." placeholder:"NAME@LABEL"`
	Dir    string   `short:"d" help:"Folder to write to." default:"."`
	Labels bool     `help:"Note in each file the labels that point at its version, for push --labels."`
	Force  bool     `help:"Overwrite files that differ."`
}

// Run writes each prompt to <dir>/<name>.prompt.md. A file that differs is left alone without --force.
func (c pullCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	names := c.Names
	if len(names) == 0 {
		all, err := cl.prompts(ctx, nil)
		if err != nil {
			return err
		}
		for _, p := range all {
			if p.LatestVersion > 0 {
				names = append(names, p.Name)
			}
		}
	}
	if err := os.MkdirAll(c.Dir, 0o750); err != nil {
		return err
	}
	root, err := os.OpenRoot(c.Dir) // whatever a name or a link says, nothing is written outside
	if err != nil {
		return err
	}
	defer root.Close()
	kept := 0
	for _, ref := range names {
		f, err := c.pull(ctx, cl, ref)
		if err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
		path, wrote, err := c.write(root, f)
		if err != nil {
			return err
		}
		if !wrote {
			kept++
			fmt.Fprintf(io.err, "%s: differs and is kept; --force overwrites it\n", path)
			continue
		}
		fmt.Fprintf(io.out, "%s@%d: %s\n", f.Name, f.Base.Version, path)
	}
	if kept > 0 {
		return fmt.Errorf("%d file(s) were not written", kept)
	}
	return nil
}

// pull reads one version as a file says it.
func (c pullCmd) pull(ctx context.Context, cl *client, ref string) (f interchange.File, err error) {
	name, selector := splitRef(ref)
	if strings.HasSuffix(ref, "@") {
		return f, fmt.Errorf("it names an empty label; write %s@production, or %s alone for the latest version", name, name)
	}
	if selector == "" {
		selector = registry.LabelLatest
	}
	var p admin.Prompt
	if err := cl.call(ctx, http.MethodGet, promptPath(name), nil, &p); err != nil {
		return f, err
	}
	number, err := cl.version(ctx, name, selector)
	if err != nil {
		return f, err
	}
	var v admin.Version
	if err := cl.call(ctx, http.MethodGet, promptPath(name, "versions", fmt.Sprint(number)), nil, &v); err != nil {
		return f, err
	}
	if v.Content == nil {
		return f, errors.New("the gateway sent a version without content")
	}
	f = interchange.File{Name: p.Name, Kind: registry.Kind(p.Kind), Metadata: metadataOf(p), Note: v.Note, Base: interchange.Base{Version: number}}
	if f.Content, err = v.Content.Template(); err != nil {
		return f, err
	}
	f.Base.Metadata = f.MetadataSum()
	if f.Base.Content, err = interchange.ContentSum(f.Content); err != nil || !c.Labels {
		return f, err
	}
	labels, err := cl.labels(ctx, name)
	for _, l := range labels {
		if l.Version == number {
			f.Labels = append(f.Labels, l.Name)
		}
	}
	return f, err
}

// write writes a file whole or not at all, and says where.
func (c pullCmd) write(root *os.Root, f interchange.File) (path string, wrote bool, err error) {
	var text bytes.Buffer
	if err := interchange.Write(&text, f); err != nil {
		return "", false, err
	}
	name := filepath.FromSlash(f.Name) + interchange.Extension
	path = filepath.Join(c.Dir, name)
	if !filepath.IsLocal(name) {
		return path, false, fmt.Errorf("%s: the name leads out of the folder", f.Name)
	}
	switch info, err := root.Lstat(name); {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return path, false, err
	case err == nil && !info.Mode().IsRegular() && info.Mode()&fs.ModeSymlink == 0:
		return path, false, fmt.Errorf("%s: %s stands where this file belongs; remove it", path, whatElse(info, nil))
	case err == nil:
		old, err := root.ReadFile(name)
		if err == nil && bytes.Equal(old, text.Bytes()) {
			return path, true, nil
		}
		if !c.Force {
			return path, false, err
		}
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		return path, false, err
	}
	part := name + ".part"
	if err := root.WriteFile(part, text.Bytes(), 0o600); err != nil {
		return path, false, err
	}
	return path, true, root.Rename(part, name)
}
