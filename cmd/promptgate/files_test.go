package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/interchange"
	"github.com/promptgate/promptgate/registry/template"
)

// folder is a checkout of one project's prompts.
type folder struct {
	t        *testing.T
	h        *house
	key, dir string
}

// shelf is a new project with an admin's key, and a folder beside it.
func (h *house) shelf(name string) (project string, f folder) {
	h.t.Helper()
	p, err := h.app.stores.service.CreateProject(h.t.Context(), stage, registry.ProjectInput{Name: name})
	require.NoError(h.t, err)
	key, _ := h.key(p.ID, []string{"admin"})
	return p.ID, folder{h.t, h, key, h.t.TempDir()}
}

// run is a command about prompts, from the folder.
func (f folder) run(command string, args ...string) (out, errOut string, code int) {
	f.t.Helper()
	return runHere(f.t, append([]string{"prompt", command, "--url", f.h.url, "--key", f.key}, args...)...)
}

func (f folder) must(command string, args ...string) string {
	f.t.Helper()
	out, errOut, code := f.run(command, args...)
	require.Zero(f.t, code, "prompt %s %v\n%s%s", command, args, out, errOut)
	require.Empty(f.t, errOut)
	return out
}

func (f folder) refused(command string, args ...string) string {
	f.t.Helper()
	out, errOut, code := f.run(command, args...)
	require.NotZero(f.t, code, "prompt %s %v\n%s", command, args, out)
	require.Empty(f.t, out, "something was done all the same")
	return errOut
}

func (f folder) path(name string) string { return filepath.Join(f.dir, name+interchange.Extension) }

func (f folder) write(name, text string) {
	f.t.Helper()
	require.NoError(f.t, os.MkdirAll(filepath.Dir(f.path(name)), 0o700))
	require.NoError(f.t, os.WriteFile(f.path(name), []byte(text), 0o600))
}

func (f folder) read(name string) string {
	f.t.Helper()
	text, err := os.ReadFile(f.path(name))
	require.NoError(f.t, err)
	return string(text)
}

// edit replaces one text in a file, which must be there.
func (f folder) edit(name, old, with string) {
	f.t.Helper()
	text := f.read(name)
	require.Contains(f.t, text, old)
	f.write(name, strings.Replace(text, old, with, 1))
}

// library is all that a project's prompts are, by name, as the management API tells it. What belongs to one installation is left out.
func (f folder) library() map[string]any {
	f.t.Helper()
	cl, err := remote{URL: f.h.url, Key: f.key}.client()
	require.NoError(f.t, err)
	found, err := cl.prompts(f.t.Context(), map[string][]string{"archived": {"true"}})
	require.NoError(f.t, err)
	out := map[string]any{}
	for _, p := range found {
		labels, err := cl.labels(f.t.Context(), p.Name)
		require.NoError(f.t, err)
		var marks []string
		for _, l := range labels {
			if l.Version == p.LatestVersion {
				marks = append(marks, l.Name)
			}
		}
		var v admin.Version
		require.NoError(f.t, cl.call(f.t.Context(), "GET", promptPath(p.Name, "versions", fmt.Sprint(p.LatestVersion)), nil, &v))
		for i := range v.Content.References {
			v.Content.References[i].PromptID, v.Content.References[i].Digest, v.Content.References[i].Version = "", "", 0
		}
		raw, err := json.Marshal([]any{p.Kind, p.Description, p.Category, p.Owner, p.Archived, p.Tags, p.Aliases, marks, v.Content, v.Note})
		require.NoError(f.t, err)
		var plain any
		require.NoError(f.t, json.Unmarshal(raw, &plain))
		out[p.Name] = plain
	}
	return out
}

const triageFile = "---\nname: support/triage\ndescription: Sorts\ntags: [a]\nmodel: echo\n---\n=== user ===\n{{ticket}}\n"

const unnamedFile = "---\nmodel: echo\n---\n=== user ===\n{{ticket}}\n"

// TestPushUndoesNothing: what somebody else saved since a file was pulled is never overwritten by pushing it, text and metadata alike; and
// one's own pushes do not stand in one's way.
func TestPushUndoesNothing(t *testing.T) {
	h := newHouse(t)
	_, mine := h.shelf("one")
	theirs := folder{t, h, mine.key, t.TempDir()}
	mine.write("support/triage", triageFile)
	require.Equal(t, "support/triage: created, version 1\n", mine.must("push", mine.dir))
	mine.edit("support/triage", "{{ticket}}", "Ticket: {{ticket}}")
	require.Equal(t, "support/triage: version 2\n", mine.must("push", mine.dir), "my own push stands in my way")
	require.Equal(t, "support/triage: unchanged, version 2\n", mine.must("push", mine.dir))

	theirs.must("pull", "-d", theirs.dir)
	mine.edit("support/triage", "Ticket:", "The ticket:")
	theirs.edit("support/triage", "Ticket:", "Theirs:")
	theirs.edit("support/triage", "description: Sorts", "description: Sorts quickly")
	require.Equal(t, "support/triage: description changed\nsupport/triage: version 3\n", theirs.must("push", theirs.dir))
	theirs.must("push", theirs.dir)

	before := mine.library()
	for _, args := range [][]string{{mine.dir}, {mine.path("support/triage")}, {"--dry-run", mine.dir}, {"--label", "production", mine.dir}} {
		require.Contains(t, mine.refused("push", args...), "made from version 2, and the latest is version 3")
		require.Equal(t, before, mine.library())
	}
	// The same text, but other metadata: their description must stay.
	mine.edit("support/triage", "The ticket:", "Theirs:")
	require.Contains(t, mine.refused("push", mine.dir), "409")
	require.Equal(t, before, mine.library())
	mine.write("support/triage", strings.Replace(triageFile, "name: support/triage\n", "", 1))
	require.Contains(t, mine.refused("push", mine.path("support/triage")), "does not say its prompt's name")
	// A file that says nothing of where it comes from overwrites nothing either.
	mine.write("support/triage", "---\nname: support/triage\n---\n=== user ===\nAnew {{ticket}}\n")
	require.Contains(t, mine.refused("push", mine.dir), "does not say which version it was made from")
	mine.write("support/triage", "---\nname: support/triage\ncategory: x\nmodel: echo\n---\n=== user ===\nTheirs: {{ticket}}\n")
	require.Contains(t, mine.refused("push", mine.dir), "its category differs")
	require.Equal(t, before, mine.library())
	require.Equal(t, "support/triage: category changed\n", mine.must("push", "--overwrite", mine.dir))
	require.Contains(t, mine.read("support/triage"), "base: v3 ")
	require.Equal(t, "Sorts quickly", mine.library()["support/triage"].([]any)[1], "a key that a file does not have says nothing")
}

// TestPushOfOneFaultPushesNothing: everything is looked at before the first change.
func TestPushOfOneFaultPushesNothing(t *testing.T) {
	h := newHouse(t)
	_, f := h.shelf("one")
	for name, c := range map[string]struct{ text, says string }{
		"no front matter":   {"=== user ===\nx\n", "must start with front matter"},
		"a malformed tag":   {"---\n---\n=== user ===\n{{x\n", "z/last"},
		"an unknown name":   {"---\nname: Z Z\n---\n=== user ===\nx\n", "segments of a prompt's name"},
		"another's alias":   {"---\nname: a/first\n---\n=== user ===\nx\n", "both hold the prompt"},
		"includes itself":   {"---\n---\n=== user ===\n{{> z/last@production}}\n", "include each other"},
		"a circle of two":   {"---\n---\n=== user ===\n{{> a/first@production}}\n", "include each other"},
		"an unknown schema": {"---\nvariables:\n  x: {schema: {type: nothing}}\n---\n=== user ===\n{{x}}\n", "z/last"},
	} {
		t.Run(name, func(t *testing.T) {
			f.write("a/first", "---\nkind: text\n---\nfirst {{> z/last@production}}\n")
			if name != "a circle of two" {
				f.write("a/first", "---\nkind: text\n---\nfirst\n")
			}
			f.write("z/last", c.text)
			for _, args := range [][]string{{f.dir}, {"--dry-run", f.dir}} {
				require.Contains(t, f.refused("push", args...), c.says)
			}
			require.Empty(t, f.library())
		})
	}
}

// TestFoldersMayHoldAnything: what is no prompt is left alone, and what cannot be read is named instead of waited for.
func TestFoldersMayHoldAnything(t *testing.T) {
	h := newHouse(t)
	_, f := h.shelf("one")
	f.write("a/real", unnamedFile)
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, "README.md"), []byte("no prompt"), 0o600))
	require.NoError(t, os.Symlink(f.path("a/real"), filepath.Join(f.dir, "linked")))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(f.dir, "dangling")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(f.dir, "pipe"), 0o600))
	require.Equal(t, "a/real: created, version 1\n", f.must("push", f.dir))

	require.NoError(t, os.Symlink("nowhere", f.path("dangling")))
	require.Contains(t, f.refused("push", f.dir), "a link that leads nowhere")
	require.NoError(t, os.Remove(f.path("dangling")))
	require.NoError(t, syscall.Mkfifo(f.path("pipe"), 0o600))
	require.Contains(t, f.refused("push", f.dir), "a pipe")
	require.NoError(t, os.Remove(f.path("pipe")))

	// Pulling writes into the folder only, and waits for no pipe either.
	require.NoError(t, os.Remove(f.path("a/real")))
	require.NoError(t, syscall.Mkfifo(f.path("a/real"), 0o600))
	require.Contains(t, f.refused("pull", "-d", f.dir, "--force"), "a pipe")
	require.NoError(t, os.RemoveAll(filepath.Join(f.dir, "a")))
	outside := t.TempDir()
	require.NoError(t, os.Symlink(outside, filepath.Join(f.dir, "a")))
	f.refused("pull", "-d", f.dir)
	left, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestPushFollowsRenames: a file of a prompt that has another name now is refused rather than saved under a name that it does not say.
func TestPushFollowsRenames(t *testing.T) {
	h := newHouse(t)
	_, f := h.shelf("one")
	f.write("a/real", unnamedFile)
	f.must("push", f.dir)
	cl, err := remote{URL: h.url, Key: f.key}.client()
	require.NoError(t, err)
	require.NoError(t, cl.call(t.Context(), "PATCH", promptPath("a/real"), map[string]string{"name": "b/real"}, nil, "If-Match", "*"))
	require.Contains(t, f.refused("push", f.dir), `is called "b/real" now`)
}

// TestDryRunIsWhatPushDoes: it names each change that the push then makes, and makes none.
func TestDryRunIsWhatPushDoes(t *testing.T) {
	h := newHouse(t)
	_, f := h.shelf("one")
	f.write("a/uses", "---\nname: a/uses\ntags: [x]\nlabels: [staging]\n---\n=== user ===\n{{> z/part@production}}: {{x}}\n")
	f.write("z/part", "---\nname: z/part\nkind: text\nlabels: [production]\n---\nBe kind.\n")
	require.Equal(t, "z/part: would be created, version 1\nz/part: would move production from - to version 1\n"+
		"a/uses: would be created, version 1\na/uses: would move staging from - to version 1\n", f.must("push", "--labels", "--dry-run", f.dir))
	require.Empty(t, f.library())
	require.Equal(t, "z/part: created, version 1\nz/part: production is version 1\na/uses: created, version 1\na/uses: staging is version 1\n",
		f.must("push", "--labels", f.dir))

	f.edit("a/uses", "tags: [x]", "tags: [y]\nmodel: echo")
	require.Equal(t, "z/part: unchanged, version 1\na/uses: would save version 2: model\na/uses: would change its tags\n"+
		"a/uses: would move staging from 1 to version 2\n", f.must("push", "--labels", "--dry-run", f.dir))
	require.Equal(t, "z/part: unchanged, version 1\na/uses: tags changed\na/uses: version 2\na/uses: staging is version 2\n", f.must("push", "--labels", f.dir))

	// An include that moved changes no text: only --adopt saves it.
	f.edit("z/part", "Be kind.", "Be brief.")
	f.must("push", "--labels", f.path("z/part"))
	require.Equal(t, "a/uses: unchanged, version 2\n", f.must("push", f.path("a/uses")))
	require.Equal(t, "a/uses: version 3\n", f.must("push", "--adopt", f.path("a/uses")))
	require.Equal(t, "a/uses: unchanged, version 3\n", f.must("push", "--adopt", f.path("a/uses")))
}

// TestPushSeesNoChangeInSpelling: an editor that types accents in two characters where the registry keeps one has changed nothing.
func TestPushSeesNoChangeInSpelling(t *testing.T) {
	h := newHouse(t)
	_, f := h.shelf("one")
	f.write("menu", "---\nname: menu\ndescription: caf\u00e9\ncategory: caf\u00e9\nowner: Jos\u00e9\ntags: [caf\u00e9, x]\naliases: [menu, card]\nmodel: echo\n"+
		"variables:\n  caf\u00e9:\n    required: true\n---\n=== user ===\n{{caf\u00e9}}\n\n=== placeholder h\u00e9 ===\n")
	f.must("push", f.dir)
	require.Equal(t, "menu: unchanged, version 1\n", f.must("push", f.dir))
	f.write("menu", strings.Replace(strings.ReplaceAll(f.read("menu"), "\u00e9", "e\u0301"), "{{cafe\u0301}}", "{{caf\u00e9}}", 1)) // texts are as they are written
	require.Equal(t, "menu: unchanged, version 1\n", f.must("push", "--dry-run", f.dir))
	require.Equal(t, "menu: unchanged, version 1\n", f.must("push", f.dir))
	f.edit("menu", "{{caf\u00e9}}", "Eat {{caf\u00e9}}")
	require.Equal(t, "menu: would save version 2: messages\n", f.must("push", "--dry-run", f.dir))
	require.Equal(t, "menu: version 2\n", f.must("push", f.dir), "its base is not what it was made from")
	require.Equal(t, "menu: unchanged, version 2\n", f.must("push", f.dir))
	f.edit("menu", "x]", "y]")
	require.Equal(t, "menu: tags changed\n", f.must("push", f.dir), "its base is not what it was made from")
}

// newest is the revision of a project's newest change: others, such as notices of what ends soon, come when they come.
func (h *house) newest(project string) int64 {
	h.t.Helper()
	found, _, err := h.app.stores.feed.List(h.t.Context(), journal.Query{Project: project, Limit: 1})
	require.NoError(h.t, err)
	require.NotEmpty(h.t, found)
	return found[0].Revision
}

// TestFilesAreInverse: pull, edit nothing, push: nothing changes; pull here, push there: all that a file can hold is equal. In its long form
// for 1,000 random libraries.
func TestFilesAreInverse(t *testing.T) {
	libraries := 40
	if os.Getenv("PROMPTGATE_TEST_LONG") != "" {
		libraries = 1000
	}
	h := newHouse(t)
	for i := range libraries {
		r := rand.New(rand.NewPCG(uint64(i), 20))
		project, here := h.shelf(fmt.Sprintf("here-%d", i))
		_, there := h.shelf(fmt.Sprintf("there-%d", i))
		stock(t, h, project, r)
		want := here.library()
		here.must("pull", "--labels", "-d", here.dir)

		revision := h.newest(project)
		out := here.must("push", "--labels", here.dir)
		require.Equal(t, len(want), strings.Count(out, "unchanged"), out)
		require.Equal(t, revision, h.newest(project), "library %d: a push of nothing is in the journal", i)

		there.must("push", "--labels", here.dir)
		require.Equal(t, want, there.library(), "library %d", i)
		there.must("pull", "--labels", "-d", there.dir)
		for name := range want {
			require.Equal(t, here.read(name), there.read(name), "library %d", i)
		}
	}
}

// stock fills a project with a few prompts that use what a prompt can have.
func stock(t *testing.T, h *house, project string, r *rand.Rand) {
	t.Helper()
	service, ctx := h.app.stores.service, t.Context()
	pieces := []string{"a", " ", "\n", "\n\n", "é", "日本", "=== user ===", "\n=== x ===\n", "\\=== y", "---", "\n---\n", "{{x}}", "{{y.z}}", "{{#list}}{{.}},{{/list}}", "#", ": ", "'", `"`, "\t", "yes", "null", "- "}
	text := func(most int) string {
		var b strings.Builder
		for range r.IntN(most + 1) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		return b.String()
	}
	plain := func() string { return strings.NewReplacer("{", "(", "}", ")").Replace(text(5)) }
	var parts []string
	for i := range 1 + r.IntN(4) {
		in := registry.PromptInput{
			Project: project, Name: fmt.Sprintf("f%d/p%d", r.IntN(2), i), Description: plain(), Category: strings.TrimSpace(plain()), Owner: plain(),
			Tags: []string{"tag", "x" + strings.TrimSpace(plain())}[:r.IntN(3)], Aliases: []string{fmt.Sprintf("other-%d", i), fmt.Sprintf("pmpt_Abc%d", i)}[:r.IntN(3)],
		}
		c := template.Content{Messages: []template.Message{{Role: "user", Text: "t" + text(8)}}}
		if in.Kind = registry.KindText; r.IntN(2) == 0 {
			in.Kind = registry.KindChat
			c = richContent(r, text)
			if len(parts) > 0 {
				c.Messages[0].Text += " {{> " + parts[r.IntN(len(parts))] + "@production}}"
			}
		}
		p, err := service.CreatePrompt(ctx, stage, registry.PromptInput{Project: project, Name: in.Name, Kind: in.Kind, Owner: in.Owner, Description: in.Description,
			Category: in.Category, Tags: in.Tags, Aliases: in.Aliases, First: &registry.FirstVersion{Content: c, Note: plain()}})
		require.NoError(t, err)
		labels := []string{"production", "staging"}[:r.IntN(3)]
		if in.Kind == registry.KindText {
			labels = append(labels, "production")
			parts = append(parts, p.Name)
		}
		for _, l := range labels {
			_, err := service.MoveLabel(ctx, stage, registry.LabelMove{Project: project, PromptID: p.ID, Label: l, To: 1})
			require.NoError(t, err)
		}
	}
}

func richContent(r *rand.Rand, text func(int) string) template.Content {
	c := template.Content{Messages: []template.Message{{Role: "system", Text: "t" + text(8)}}}
	if r.IntN(2) == 0 {
		c.Messages = append(c.Messages, template.Message{Type: template.TypePlaceholder, Name: "history"},
			template.Message{Role: "user", Parts: []template.Part{{Type: "text", Text: "t" + text(4)}, {Type: "image_url", Value: json.RawMessage(`{"url": "https://example.com/a.png"}`)}}},
			template.Message{Role: "assistant", ToolCalls: json.RawMessage(`[{"id":"c1","type":"function","function":{"name":"find","arguments":"{}"}}]`)},
			template.Message{Role: "tool", ToolCallID: "c1", Text: "t" + text(3)})
	}
	if r.IntN(2) == 0 {
		c.Model = "echo"
		c.Parameters = map[string]json.RawMessage{"temperature": json.RawMessage("0.20"), "stop": json.RawMessage(`["---","null","1"]`)}
		c.Tools = json.RawMessage(`[{"type":"function","function":{"name":"find","parameters":{"type":"object"}}}]`)
		c.ResponseFormat = json.RawMessage(`{"type":"json_object"}`)
		c.Locked = []string{"model", "temperature"}[:r.IntN(3)]
		c.Ignored = []string{"seed", "top_p"}[:r.IntN(3)]
		c.Variables = map[string]template.Variable{"declared": {Schema: json.RawMessage(`{"type":"string","minLength":0}`), Default: json.RawMessage(`"- d"`)}}
	}
	slices.Sort(c.Locked)
	return c
}

// TestFilesPage: what the manual shows of files is read, written and saved as it says, and its commands work.
func TestFilesPage(t *testing.T) {
	page, err := os.ReadFile("manual/files.md")
	require.NoError(t, err)
	blocks := fenced(string(page), "prompt")
	require.Len(t, blocks, 3)
	h := newHouse(t)
	_, f := h.shelf("one")
	seen := ""
	for i, text := range blocks {
		_, err := interchange.Parse(strings.NewReader(text), "page.prompt.md")
		require.NoError(t, err, text)
		f.write(fmt.Sprint(i), text)
		seen += text
	}
	require.Equal(t, 3, strings.Count(f.must("push", "--overwrite", "--label", "staging", f.dir), "created, version 1"))
	for _, key := range interchange.Keys() {
		require.Contains(t, string(page), key, "the page does not tell of a key that files have")
	}
	for _, separator := range []string{"system", "user", "assistant", "tool", "placeholder", "part", "tool_calls"} {
		require.Contains(t, seen, "=== "+separator)
	}
	newWalker(t).walk(t, indentedSteps(string(page)))
}
