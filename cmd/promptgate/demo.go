package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/interchange"
)

// demoFiles holds the demo's prompts: demo/1 their first versions, which production points at, demo/2 their second, which staging does.
//
//go:embed demo
var demoFiles embed.FS

const (
	demoProject = "demo"
	demoEmail   = "demo@example.com"
)

// demoLabels says which label points at which version.
var demoLabels = map[int]string{1: registry.DefaultLabel, 2: "staging"} //nolint:gochecknoglobals // a constant

// seedDemo makes the demo project once: where it exists, nothing is changed. It returns the demo's key, which is kept in
// <data>/demo.key so that the next start can print it again, and a link to sign in once.
func (a *App) seedDemo(ctx context.Context) (key, link string, err error) {
	by := journal.Origin{Actor: journal.Actor{Kind: policy.KindSystem, ID: "demo", Name: "demo"}, Why: "demo project"}
	p, err := a.stores.service.Project(ctx, demoProject)
	if fault.Is(err, fault.NotFound) {
		if p, err = a.stores.service.CreateProject(ctx, by, registry.ProjectInput{Name: demoProject, Description: "To try things out"}); err == nil {
			err = a.seedPrompts(ctx, by, p.ID)
		}
	}
	if err != nil {
		return "", "", err
	}
	if key, err = a.demoKey(ctx, by, p.ID); err != nil {
		return "", "", err
	}
	link, err = a.demoLink(ctx, by, p.ID)
	return key, link, err
}

func (a *App) seedPrompts(ctx context.Context, by journal.Origin, project string) error {
	for _, number := range []int{1, 2} {
		root := path.Join("demo", fmt.Sprint(number))
		err := fs.WalkDir(demoFiles, root, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			r, err := demoFiles.Open(name)
			if err != nil {
				return err
			}
			defer r.Close()
			f, err := interchange.Parse(r, strings.TrimPrefix(name, root+"/"))
			if err != nil {
				return err
			}
			return a.seedVersion(ctx, by, project, f)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *App) seedVersion(ctx context.Context, by journal.Origin, project string, f interchange.File) error {
	s := a.stores.service
	p, err := s.Prompt(ctx, project, f.Name)
	if fault.Is(err, fault.PromptNotFound) {
		p, err = s.CreatePrompt(ctx, by, registry.PromptInput{
			Project: project, Name: f.Name, Kind: f.Kind, Description: valueOf(f.Description), Category: valueOf(f.Category), Tags: valueOf(f.Tags), Owner: "demo",
		})
	}
	if err != nil {
		return err
	}
	saved, err := s.SaveVersion(ctx, by, registry.VersionInput{Project: project, PromptID: p.ID, Content: f.Content, Note: f.Note})
	if err != nil {
		return err
	}
	_, err = s.MoveLabel(ctx, by, registry.LabelMove{
		Project: project, PromptID: p.ID, Label: demoLabels[saved.Version.Number], To: saved.Version.Number,
	})
	return err
}

// demoKey is the key in <data>/demo.key while it works, else a new one. It may do everything in the demo project.
func (a *App) demoKey(ctx context.Context, by journal.Origin, project string) (string, error) {
	file := filepath.Join(a.cfg.Data, "demo.key")
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if key := strings.TrimSpace(string(text)); key != "" && a.works(ctx, key, project) {
		return key, nil
	}
	call := []policy.Action{policy.ActionCall, policy.ActionFeedback}
	key, _, err := a.stores.createKey(ctx, by, project, admin.KeyCreate{Name: "demo", Roles: []string{policy.RoleAdmin}, Grants: []policy.Grant{
		{Actions: call, Prompts: []string{"**"}},
		{Actions: call, Prompts: []string{"**"}, Labels: []string{policy.LabelVersion, registry.LabelLatest}},
		{Actions: call, Models: []string{"*"}},
	}})
	if err != nil {
		return "", err
	}
	return key, writeFileWhole(file, []byte(key+"\n"))
}

func (a *App) works(ctx context.Context, key, project string) bool {
	p, err := a.authn.Authenticate(ctx, key)
	return err == nil && p.Project == project
}
