package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/interchange"
	"github.com/promptgate/promptgate/registry/template"
)

// pusher brings files into the registry.
type pusher struct {
	pushCmd
	client *client
	out    *streams
	pushed map[string]bool // names of the prompts that are pushed together
}

// pushPlan is what pushing one file comes to.
type pushPlan struct {
	file     *promptFile
	prompt   admin.Prompt   // as it is now; zero when it is to be created
	changed  []string       // what a new version would change; none: no new version
	metadata []string       // fields of the prompt that would change
	labels   []string       // that shall point at the version
	labelled map[string]int // where labels point now
}

func (p *pushPlan) creates() bool { return p.prompt.ID == "" }

// errStale tells how to go on when a file and the registry have parted.
func errStale(what string, args ...any) error {
	return fmt.Errorf(what+": pull it beside this file and merge, or push with --overwrite (409 conflict)", args...)
}

// plan compares a file with what the registry holds, and refuses what would undo somebody else's change.
func (p *pusher) plan(ctx context.Context, f *promptFile) (*pushPlan, error) {
	plan := &pushPlan{file: f, labelled: map[string]int{}}
	if p.Labels {
		plan.labels = append(plan.labels, f.Labels...)
	}
	if p.Label != "" && !slices.Contains(plan.labels, p.Label) {
		plan.labels = append(plan.labels, p.Label)
	}
	err := p.client.call(ctx, http.MethodGet, promptPath(f.Name), nil, &plan.prompt)
	var missing *statusError
	if errors.As(err, &missing) && missing.Status == http.StatusNotFound {
		plan.prompt = admin.Prompt{}
		if err := p.checkAlone(f); err != nil || p.Insist {
			return plan, err
		}
		return plan, template.Misspelt(f.Content, nil)
	}
	if err != nil {
		return plan, err
	}
	switch {
	case plan.prompt.Name != f.Name:
		return plan, fmt.Errorf("this prompt is called %q now: correct the name in %s", plan.prompt.Name, f.path)
	case plan.prompt.Archived:
		return plan, errors.New("this prompt is archived: restore it first, or leave the file out")
	case plan.prompt.Kind != string(f.Kind):
		return plan, fmt.Errorf("this prompt is of kind %s, the file's of kind %s: a prompt keeps its kind", plan.prompt.Kind, f.Kind)
	}
	if len(plan.labels) > 0 {
		labels, err := p.client.labels(ctx, f.Name)
		if err != nil {
			return plan, err
		}
		for _, l := range labels {
			plan.labelled[l.Name] = l.Version
		}
	}
	if err := p.planVersion(ctx, plan); err != nil {
		return plan, err
	}
	return plan, p.planMetadata(plan)
}

// planVersion says what a new version would change against the latest.
func (p *pusher) planVersion(ctx context.Context, plan *pushPlan) error {
	f, latest := plan.file, plan.prompt.LatestVersion
	if latest == 0 {
		plan.changed = []string{"messages"}
		_, err := p.check(ctx, f)
		return err
	}
	var v admin.Version
	if err := p.client.call(ctx, http.MethodGet, promptPath(f.Name, "versions", strconv.Itoa(latest)), nil, &v); err != nil {
		return err
	}
	if v.Content == nil {
		return errors.New("the gateway sent a version without content")
	}
	have, err := v.Content.Template()
	if err != nil {
		return err
	}
	is, err := interchange.ContentSum(have)
	if err != nil {
		return err
	}
	want, err := interchange.ContentSum(f.Content)
	if err != nil {
		return err
	}
	if want == is {
		if !p.Adopt || len(v.Content.References) == 0 {
			return nil
		}
		digest, err := p.check(ctx, f)
		if digest != v.Digest {
			plan.changed = []string{"references"}
		}
		return err
	}
	switch {
	case p.Overwrite || f.Base.Content == is:
	case f.Base.Content == "":
		return errStale("it does not say which version it was made from, and differs from version %d of %s", latest, v.Author)
	default:
		return errStale("it was made from version %d, and the latest is version %d of %s", f.Base.Version, latest, v.Author)
	}
	plan.changed = registry.Compare(
		registry.Version{Content: interchange.Stripped(have)}, registry.Version{Content: interchange.Stripped(f.Content)}).Changed
	_, err = p.check(ctx, f)
	return err
}

func (p *pusher) planMetadata(plan *pushPlan) error {
	have := metadataOf(plan.prompt)
	if plan.metadata = plan.file.Differing(have); len(plan.metadata) == 0 || p.Overwrite || plan.file.Base.Metadata == have.MetadataSum() {
		return nil
	}
	if plan.file.Base.Metadata == "" {
		return errStale("it does not say what it was made from, and its %s differs", strings.Join(plan.metadata, ", "))
	}
	return errStale("its %s differs, and the prompt's description, category, owner, tags or aliases were changed since it was pulled", strings.Join(plan.metadata, ", "))
}

// check asks the registry whether it would save this content, and under which digest. What includes a prompt that is pushed with it can only
// be judged once that one is there: its digest is "".
func (p *pusher) check(ctx context.Context, f *promptFile) (digest string, err error) {
	names, err := f.includes()
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(names, func(name string) bool { return p.pushed[name] }) {
		return "", p.checkAlone(f)
	}
	var would admin.VersionSaved
	in := admin.VersionCreate{Content: admin.ContentOf(f.Content), Note: f.Note, Insist: p.Insist, DryRun: true}
	err = p.client.call(ctx, http.MethodPost, promptPath(f.Name, "versions"), in, &would)
	return would.Digest, err
}

// checkAlone is what can be judged of a file without the registry.
func (p *pusher) checkAlone(f *promptFile) error {
	if err := registry.CheckName(f.Name); err != nil {
		return err
	}
	if names, err := f.includes(); err != nil || len(names) > 0 {
		return err
	}
	c := f.Content
	var err error
	if c.Variables, err = template.Infer(c, nil); err != nil {
		return err
	}
	return template.Check(c)
}

// tell says what apply would do.
func (p *pushPlan) tell(s *streams) {
	say := func(format string, args ...any) { fmt.Fprintf(s.out, p.file.Name+": "+format+"\n", args...) }
	next := p.prompt.LatestVersion + 1
	switch {
	case p.creates():
		say("would be created, version 1")
	case len(p.changed) > 0:
		say("would save version %d: %s", next, strings.Join(p.changed, ", "))
	default:
		next--
	}
	if len(p.metadata) > 0 {
		say("would change its %s", strings.Join(p.metadata, ", "))
	}
	moves := 0
	for _, label := range p.labels {
		if from := p.labelled[label]; from != next {
			moves++
			say("would move %s from %s to version %d", label, orDash(from), next)
		}
	}
	if !p.creates() && len(p.changed)+len(p.metadata)+moves == 0 {
		say("unchanged, version %d", p.prompt.LatestVersion)
	}
}

// apply makes the changes of a plan, and notes in the file what it is made from now.
func (p *pusher) apply(ctx context.Context, plan *pushPlan) error {
	version, err := p.save(ctx, plan)
	if err != nil {
		return err
	}
	if err := p.note(plan, version); err != nil { // before anything else can fail: what is saved is what the file is made from
		return err
	}
	return p.moveLabels(ctx, plan, version)
}

func (p *pusher) note(plan *pushPlan, version int) error {
	f := plan.file
	sum, err := interchange.ContentSum(f.Content)
	if err != nil {
		return err
	}
	base := interchange.Base{Version: version, Content: sum, Metadata: metadataOf(plan.prompt).MetadataSum()}
	if base == f.Base {
		return nil
	}
	if err := noteBase(f, base); err != nil {
		fmt.Fprintf(p.out.err, "%s could not be told that it is version %d now (%v): pull it before you push it again, or push with --overwrite\n", f.path, version, err)
	}
	return nil
}

// save brings the prompt and its text into the registry, and answers with the version that says what the file says.
func (p *pusher) save(ctx context.Context, plan *pushPlan) (version int, err error) {
	f := plan.file
	content := admin.ContentOf(f.Content)
	say := func(format string, args ...any) { fmt.Fprintf(p.out.out, f.Name+": "+format+"\n", args...) }
	latest := plan.prompt.LatestVersion // as the plan saw it: what was saved since is a conflict
	if plan.creates() {
		in := admin.PromptCreate{
			Name: f.Name, Kind: string(f.Kind), Content: &content, Note: f.Note, Insist: p.Insist, Description: valueOf(f.Description), Category: valueOf(f.Category),
			Owner: valueOf(f.Owner), Tags: valueOf(f.Tags), Aliases: valueOf(f.Aliases),
		}
		if err := p.client.call(ctx, http.MethodPost, "/api/v1/prompts", in, &plan.prompt); err != nil {
			return 0, err
		}
		say("created, version %d", plan.prompt.LatestVersion)
		if len(f.Differing(metadataOf(plan.prompt))) > 0 { // an owner that the file leaves empty
			return plan.prompt.LatestVersion, p.patch(ctx, plan)
		}
		return plan.prompt.LatestVersion, nil
	}
	if len(plan.metadata) > 0 {
		if err := p.patch(ctx, plan); err != nil {
			return 0, err
		}
		say("%s changed", strings.Join(plan.metadata, ", "))
	}
	if len(plan.changed) == 0 {
		if len(plan.metadata) == 0 {
			say("unchanged, version %d", latest)
		}
		return latest, nil
	}
	var saved admin.VersionSaved
	in := admin.VersionCreate{Content: content, Note: f.Note, Insist: p.Insist, Latest: &latest}
	if err := p.client.call(ctx, http.MethodPost, promptPath(f.Name, "versions"), in, &saved); err != nil {
		return 0, err
	}
	if saved.Unchanged {
		say("unchanged, version %d", saved.Number)
	} else {
		say("version %d", saved.Number)
	}
	return saved.Number, nil
}

// patch brings the file's metadata into the registry, unless somebody changed the prompt's since the plan saw it.
func (p *pusher) patch(ctx context.Context, plan *pushPlan) error {
	f := plan.file
	in := admin.PromptPatch{Description: f.Description, Category: f.Category, Owner: f.Owner, Tags: f.Tags, Aliases: f.Aliases}
	return p.client.call(ctx, http.MethodPatch, promptPath(f.Name), in, &plan.prompt, "If-Match", fmt.Sprintf(`"%d"`, plan.prompt.Revision))
}

// noteBase writes the base into a file, and nothing else.
func noteBase(f *promptFile, b interchange.Base) error {
	text, ok := interchange.WithBase(f.text, b)
	if !ok {
		return errors.New("it has no front matter")
	}
	again, err := interchange.Parse(strings.NewReader(string(text)), f.name)
	if err != nil || again.Base != b {
		return errors.New("its front matter has an unusual form")
	}
	if now, err := os.ReadFile(f.path); err != nil || string(now) != string(f.text) {
		return errors.New("it was changed meanwhile")
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	return os.WriteFile(f.path, text, info.Mode().Perm()) // in place: it may be a link, and keeps its owner
}

// metadataOf is what a prompt's file says of it beside its text.
func metadataOf(p admin.Prompt) interchange.Metadata {
	return interchange.Metadata{Description: &p.Description, Category: &p.Category, Owner: &p.Owner, Tags: &p.Tags, Aliases: &p.Aliases}
}

func valueOf[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
