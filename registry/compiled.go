package registry

import (
	"context"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

// compiledVersion is an immutable version, ready to render.
type compiledVersion struct {
	version  Version
	included []Version
	template *template.Compiled
	weight   uint32 // rough bytes
}

// version compiles a version, once.
func (r *Resolver) version(ctx context.Context, key versionKey, fresh bool) (*compiledVersion, error) {
	if c, ok := r.compiled.Get(key); ok {
		return c, nil
	}
	return r.compiled.Load(ctx, key, fresh, func(ctx context.Context) (*compiledVersion, error) {
		v, err := r.src.VersionOf(ctx, key.project, key.prompt, key.number)
		if err != nil {
			return nil, sourceFault(err)
		}
		return compileVersion(ctx, r.src, v)
	})
}

// compileVersion compiles v with what it includes. It is what every version passes before it is served, wherever it was read from: one
// that is not what was saved ends here.
func compileVersion(ctx context.Context, src versionSource, v Version) (*compiledVersion, error) {
	if err := v.Verify(); err != nil {
		return nil, err
	}
	in := gather(src, v.Project, v.PromptID)
	_, err := in.add(ctx, v.Content.References, 1)
	var t *template.Compiled
	if err == nil {
		t, err = template.Compile(v.Content, in.byHash)
	}
	switch {
	case fault.Is(err, fault.RegistryUnavailable), fault.Is(err, fault.ClientClosed):
		return nil, sourceFault(err)
	case err != nil:
		return nil, fault.Wrap(err, fault.Internal, "Version %d of this prompt does not compile: save it again.", v.Number)
	}
	c := &compiledVersion{version: v, included: in.found, template: t, weight: weigh(v.Content)}
	for _, included := range in.found {
		c.weight += weigh(included.Content)
	}
	return c, nil
}

// weigh is roughly what a compiled version takes in memory.
func weigh(c template.Content) uint32 {
	n := 2048 + len(c.Tools) + len(c.ResponseFormat)
	for _, m := range c.Messages {
		n += 256 + len(m.Text) + len(m.ToolCalls)
		for _, p := range m.Parts {
			n += 128 + len(p.Text) + len(p.Value)
		}
	}
	for _, v := range c.Variables {
		n += 512 + 4*len(v.Schema) + len(v.Default)
	}
	for _, p := range c.Parameters {
		n += 64 + len(p)
	}
	return uint32(min(n, 1<<30))
}

func (c *compiledVersion) resolved(p *Identified, label string, revision int64) *Resolved {
	return &Resolved{
		Prompt: &p.Prompt, of: p, Version: c.version.Number, Label: label, Digest: c.version.Digest, Template: c.template,
		weight: c.weight, moved: revision,
	}
}
