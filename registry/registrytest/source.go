package registrytest

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry"
)

// Naughty are texts that no handle or label ever is, and that no implementation may choke on.
var naughty = []string{
	"", " ", "\x00", "a\x00b", "\xff\xfe", "%", "_", "%%", "a%", "' OR '1'='1", `"; DROP TABLE registry_prompts; --`, "$1", "?", "?0",
	`\`, `\\`, "latest\x00", "ünïcode", "🦊", "../../etc/passwd", strings.Repeat("a", 10_000), "{{x}}", "NULL", "\u202etxet",
}

// Source runs the conformance suite of a registry.Source.
func Source(t *testing.T, open func(t *testing.T) Harness) {
	h := open(t)
	for name, test := range map[string]func(bench){
		"handles":           sourceHandles,
		"absences":          sourceAbsences,
		"naughty":           sourceNaughty,
		"labels":            sourceLabels,
		"versions":          sourceVersions,
		"no key collides":   sourceCollisions,
		"projects apart":    sourceIsolation,
		"sees every change": sourceFollows,
		"cancelled":         sourceCancelled,
	} {
		t.Run(name, func(t *testing.T) { test(bench{h, t}) })
	}
}

func sourceHandles(b bench) {
	project := b.project()
	p := newPrompt(project.ID, "support/triage")
	p.Aliases, p.Tags, p.Description = []string{"old/triage", "pmpt_Foreign-1"}, []string{"a", "b"}, "Sorts tickets – schön"
	created, err := b.Store.CreatePrompt(b.ctx(), By(""), p, nil)
	require.NoError(b.t, err)
	for _, handle := range []string{p.ID, "support/triage", "old/triage", "pmpt_Foreign-1"} {
		found, err := b.source().PromptByHandle(b.ctx(), project.ID, handle)
		require.NoError(b.t, err, handle)
		require.Equal(b.t, created, found, handle)
	}
	created.Archived = true
	archived, err := b.Store.UpdatePrompt(b.ctx(), By(""), created)
	require.NoError(b.t, err)
	found, err := b.source().PromptByHandle(b.ctx(), project.ID, "support/triage")
	require.NoError(b.t, err, "archived prompts are found")
	require.Equal(b.t, archived, found)
}

func sourceAbsences(b bench) {
	project := b.project()
	p := b.prompt(project.ID, "x", 1)
	_, err := b.source().PromptByHandle(b.ctx(), project.ID, "y")
	requireCode(b.t, fault.PromptNotFound, err)
	_, err = b.source().LabelOf(b.ctx(), project.ID, p.ID, "production")
	requireCode(b.t, fault.LabelNotFound, err)
	_, err = b.source().VersionOf(b.ctx(), project.ID, p.ID, 2)
	requireCode(b.t, fault.VersionNotFound, err)
	_, err = b.source().ProjectByID(b.ctx(), "prj_none")
	requireCode(b.t, fault.NotFound, err)
	empty := b.prompt(project.ID, "empty", 0)
	_, err = b.source().LabelOf(b.ctx(), project.ID, empty.ID, registry.LabelLatest)
	requireCode(b.t, fault.LabelNotFound, err)
}

func sourceNaughty(b bench) {
	project := b.project()
	p := b.prompt(project.ID, "a", 1)
	for _, s := range naughty {
		_, err := b.source().PromptByHandle(b.ctx(), project.ID, s)
		requireCode(b.t, fault.PromptNotFound, err)
		_, err = b.source().PromptByHandle(b.ctx(), s, "a")
		requireCode(b.t, fault.PromptNotFound, err)
		_, err = b.source().LabelOf(b.ctx(), project.ID, p.ID, s)
		requireCode(b.t, fault.LabelNotFound, err)
		_, err = b.source().VersionOf(b.ctx(), project.ID, s, 1)
		requireCode(b.t, fault.VersionNotFound, err)
		_, err = b.source().ProjectByID(b.ctx(), s)
		requireCode(b.t, fault.NotFound, err)
	}
	for _, n := range []int{0, -1, 1 << 31, -1 << 62, 1<<63 - 1} {
		_, err := b.source().VersionOf(b.ctx(), project.ID, p.ID, n)
		requireCode(b.t, fault.VersionNotFound, err)
	}
}

func sourceLabels(b bench) {
	project := b.project()
	p := b.prompt(project.ID, "p", 3)
	set := b.move(project.ID, p.ID, "production", 2)
	got, err := b.source().LabelOf(b.ctx(), project.ID, p.ID, "production")
	require.NoError(b.t, err)
	require.Equal(b.t, set, got)
	require.Equal(b.t, 2, got.Version)
	latest, err := b.source().LabelOf(b.ctx(), project.ID, p.ID, registry.LabelLatest)
	require.NoError(b.t, err)
	require.Equal(b.t, 3, latest.Version)
	require.Equal(b.t, registry.LabelLatest, latest.Name)
	require.Positive(b.t, latest.Revision)
}

func sourceVersions(b bench) {
	project := b.project()
	p := b.prompt(project.ID, "p", 0)
	want, err := b.Store.AddVersion(b.ctx(), By(""), Version(project.ID, p.ID, "Grüße\n\"quoted\" {{x}} \\ ' ; 🦊", "x"))
	require.NoError(b.t, err)
	got, err := b.source().VersionOf(b.ctx(), project.ID, p.ID, 1)
	require.NoError(b.t, err)
	require.Equal(b.t, want, got)
	digest, err := got.Content.Digest()
	require.NoError(b.t, err)
	require.Equal(b.t, got.Digest, digest, "the content survived")
}

func sourceCollisions(b bench) {
	project := b.project()
	p := b.prompt(project.ID, "p", 4)
	b.move(project.ID, p.ID, "v3", 1)
	b.move(project.ID, p.ID, "three", 2)
	b.move(project.ID, p.ID, "three.", 4)
	for label, version := range map[string]int{"v3": 1, "three": 2, "three.": 4} {
		got, err := b.source().LabelOf(b.ctx(), project.ID, p.ID, label)
		require.NoError(b.t, err)
		require.Equal(b.t, version, got.Version, label)
	}
	_, err := b.source().LabelOf(b.ctx(), project.ID, p.ID, "3")
	requireCode(b.t, fault.LabelNotFound, err)
	v, err := b.source().VersionOf(b.ctx(), project.ID, p.ID, 3)
	require.NoError(b.t, err)
	require.Equal(b.t, "p 3", v.Content.Messages[0].Text)

	names := []string{"sup", "support", "support/t", "support/triage", "t/support", "support.t", "support-t", "support_t", "s/u/p"}
	ids := map[string]string{}
	for _, name := range names {
		ids[name] = b.prompt(project.ID, name, 0).ID
	}
	for _, name := range names {
		got, err := b.source().PromptByHandle(b.ctx(), project.ID, name)
		require.NoError(b.t, err)
		require.Equal(b.t, ids[name], got.ID, name)
	}
}

func sourceIsolation(b bench) {
	one, two := b.project(), b.project()
	p1, p2 := b.prompt(one.ID, "same", 2), b.prompt(two.ID, "same", 1)
	b.move(one.ID, p1.ID, "production", 2)
	b.move(two.ID, p2.ID, "production", 1)
	got, err := b.source().PromptByHandle(b.ctx(), two.ID, "same")
	require.NoError(b.t, err)
	require.Equal(b.t, p2.ID, got.ID)
	_, err = b.source().PromptByHandle(b.ctx(), two.ID, p1.ID)
	requireCode(b.t, fault.PromptNotFound, err)
	_, err = b.source().LabelOf(b.ctx(), two.ID, p1.ID, "production")
	requireCode(b.t, fault.LabelNotFound, err)
	_, err = b.source().LabelOf(b.ctx(), two.ID, p1.ID, registry.LabelLatest)
	requireCode(b.t, fault.LabelNotFound, err)
	_, err = b.source().VersionOf(b.ctx(), two.ID, p1.ID, 1)
	requireCode(b.t, fault.VersionNotFound, err)
}

// sourceFollows reads before each change, so that a cache has something to be wrong about.
func sourceFollows(b bench) {
	project := b.project()
	label := func(p registry.Prompt, name string) (int, error) {
		l, err := b.source().LabelOf(b.ctx(), project.ID, p.ID, name)
		return l.Version, err
	}
	_, err := b.source().PromptByHandle(b.ctx(), project.ID, "name")
	requireCode(b.t, fault.PromptNotFound, err)
	p := b.prompt(project.ID, "name", 1)
	got, err := b.source().PromptByHandle(b.ctx(), project.ID, "name")
	require.NoError(b.t, err, "an absence ends when the prompt is created")
	require.Equal(b.t, 1, got.LatestVersion)

	_, err = label(p, "production")
	requireCode(b.t, fault.LabelNotFound, err)
	_, err = b.source().VersionOf(b.ctx(), project.ID, p.ID, 2)
	requireCode(b.t, fault.VersionNotFound, err)
	_, err = b.Store.AddVersion(b.ctx(), By(""), Version(project.ID, p.ID, "second", "ticket"))
	require.NoError(b.t, err)
	_, err = b.source().VersionOf(b.ctx(), project.ID, p.ID, 2)
	require.NoError(b.t, err)
	got, err = b.source().PromptByHandle(b.ctx(), project.ID, "name")
	require.NoError(b.t, err)
	require.Equal(b.t, 2, got.LatestVersion)
	require.Equal(b.t, []string{"ticket"}, got.Variables)
	latest, err := label(p, registry.LabelLatest)
	require.NoError(b.t, err)
	require.Equal(b.t, 2, latest)

	for _, to := range []int{1, 2, 1} {
		b.move(project.ID, p.ID, "production", to)
		at, err := label(p, "production")
		require.NoError(b.t, err)
		require.Equal(b.t, to, at)
	}
	b.move(project.ID, p.ID, "production", 0)
	_, err = label(p, "production")
	requireCode(b.t, fault.LabelNotFound, err)

	got.Name, got.Aliases = "renamed", []string{"name"}
	_, err = b.Store.UpdatePrompt(b.ctx(), By(""), got)
	require.NoError(b.t, err)
	for _, handle := range []string{"name", "renamed", p.ID} {
		got, err = b.source().PromptByHandle(b.ctx(), project.ID, handle)
		require.NoError(b.t, err)
		require.Equal(b.t, "renamed", got.Name, handle)
	}
	got.Aliases = []string{}
	_, err = b.Store.UpdatePrompt(b.ctx(), By(""), got)
	require.NoError(b.t, err)
	_, err = b.source().PromptByHandle(b.ctx(), project.ID, "name")
	requireCode(b.t, fault.PromptNotFound, err)

	was, err := b.source().ProjectByID(b.ctx(), project.ID)
	require.NoError(b.t, err)
	was.DefaultLabel = "stable"
	_, err = b.Store.UpdateProject(b.ctx(), By(""), was)
	require.NoError(b.t, err)
	now, err := b.source().ProjectByID(b.ctx(), project.ID)
	require.NoError(b.t, err)
	require.Equal(b.t, "stable", now.DefaultLabel)
}

func sourceCancelled(b bench) {
	project := b.project()
	ctx, cancel := context.WithCancel(b.ctx())
	cancel()
	_, err := b.source().PromptByHandle(ctx, project.ID, "never/asked/before")
	requireCode(b.t, fault.ClientClosed, err)
}
