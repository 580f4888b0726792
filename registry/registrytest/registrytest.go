// Package registrytest holds the conformance suites of the registry: what every Source and every Store has to do, whatever it is
// built on. An implementation's test calls Source or Store with a way to open it.
package registrytest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/template"
)

// Harness is an implementation under test. One is opened for a whole suite; each case works in projects of its own.
type Harness struct {
	// Store is what is tested, and what the cases of Source write with.
	Store registry.Store
	// Source is what the cases of Source read from; nil means Store.
	Source registry.Source
	// Subscribe registers for committed changes, before any is made.
	Subscribe func(func(journal.Change))
	// BreakJournal makes every append to the journal fail until the returned function is called.
	BreakJournal func(t *testing.T) (mend func())
}

func (h Harness) source() registry.Source {
	if h.Source != nil {
		return h.Source
	}
	return h.Store
}

// By is who the suites act as.
func By(why string) journal.Origin {
	return journal.Origin{Actor: journal.Actor{Kind: "user", ID: "usr_1", Name: "Ada"}, From: "192.0.2.7", Why: why}
}

// bench is what one case works with.
type bench struct {
	Harness
	t *testing.T
}

func (b bench) ctx() context.Context { return b.t.Context() }

// id returns a fresh id.
func id(prefix string) string { return prefix + strings.ToLower(rand.Text()) }

func (b bench) project() registry.Project {
	b.t.Helper()
	p, err := b.Store.CreateProject(b.ctx(), By(""), registry.Project{
		ID: id(registry.ProjectIDPrefix), Name: id("p-"), DefaultLabel: registry.DefaultLabel,
	})
	require.NoError(b.t, err)
	return p
}

func newPrompt(project, name string) registry.Prompt {
	return registry.Prompt{
		ID: id(registry.PromptIDPrefix), Project: project, Name: name, Kind: registry.KindChat, Tags: []string{}, Aliases: []string{},
	}
}

// prompt creates a prompt with n versions, whose texts are "<name> 1", "<name> 2", …
func (b bench) prompt(project, name string, n int) registry.Prompt {
	b.t.Helper()
	p, err := b.Store.CreatePrompt(b.ctx(), By(""), newPrompt(project, name), nil)
	require.NoError(b.t, err)
	for i := range n {
		_, err := b.Store.AddVersion(b.ctx(), By(""), Version(project, p.ID, name+" "+string(rune('1'+i))))
		require.NoError(b.t, err)
	}
	if n == 0 {
		return p
	}
	p, err = b.Store.PromptByHandle(b.ctx(), project, p.ID)
	require.NoError(b.t, err)
	return p
}

// Version is an unnumbered version with one user message, which declares the given variables as required.
func Version(project, promptID, text string, required ...string) registry.Version {
	c := template.Content{Messages: []template.Message{{Role: "user", Text: text}}}
	for _, name := range required {
		if c.Variables == nil {
			c.Variables = map[string]template.Variable{}
		}
		c.Variables[name] = template.Variable{Required: true, Schema: json.RawMessage(`{"type":"string"}`)}
	}
	digest, err := c.Digest()
	if err != nil {
		panic(err) // the content above always has one
	}
	return registry.Version{Project: project, PromptID: promptID, Digest: digest, Content: c, Note: "note on " + text, Author: "Ada"}
}

func (b bench) move(project, prompt, label string, to int) registry.Label {
	b.t.Helper()
	l, err := b.Store.MoveLabel(b.ctx(), By(""), registry.LabelMove{Project: project, PromptID: prompt, Label: label, To: to})
	require.NoError(b.t, err)
	return l
}

func requireCode(t *testing.T, code fault.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, fault.CodeOf(err), "%v", err)
}

func ptr[T any](v T) *T { return &v }
