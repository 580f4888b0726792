package registry

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

// SelectorKind says how a call picks a version.
type SelectorKind uint8

// The ways to pick a version.
const (
	SelectDefault SelectorKind = iota // the project's default label
	SelectLabel
	SelectVersion
)

// Selector picks one version of a prompt. Version 3 and a label "v3" are different selectors by kind, not by spelling.
type Selector struct {
	Kind    SelectorKind
	Label   string
	Version int
}

// Resolved is a prompt at one version, ready to render. It is shared between calls: read only.
type Resolved struct {
	Prompt   *Prompt
	Version  int
	Label    string // "" when picked by number
	Digest   string
	Template *template.Compiled
	// Stale is how long ago the pointer was last confirmed when that is past the freshness bound; 0 when fresh.
	Stale time.Duration

	of     *Identified // whose Prompt it is
	weight uint32      // rough bytes, template included
	moved  int64       // the label's revision, 0 when picked by number
	gone   bool        // forgotten; under of.mu
}

// with is the same version with another reading of the prompt, or another age.
func (r *Resolved) with(of *Identified, stale time.Duration) *Resolved {
	return &Resolved{
		Prompt: &of.Prompt, Version: r.Version, Label: r.Label, Digest: r.Digest, Template: r.Template, Stale: stale,
		of: of, weight: r.weight, moved: r.moved,
	}
}

// end is what the labels' cache calls before it forgets a label.
func (r *Resolved) end() {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	r.gone = true
	r.of.recent.CompareAndSwap(r, nil)
}

// Identified is a prompt as a Resolver found it, with the label of it that was called first: that one is found without a look among a
// million others. It is shared between calls: read only.
type Identified struct {
	// What every call reads stands together: a cache line of a row that nothing else may have touched for long.
	key    unique.Handle[promptKey] // the prompt as one word
	recent atomic.Pointer[Resolved] // what label stands for, as long as the labels' cache holds it; of is this
	label  string                   // set once, before recent is for the first time
	Prompt

	mu sync.Mutex // held to change recent
}

func identified(p Prompt) *Identified {
	return &Identified{key: unique.Make(promptKey{p.Project, p.ID}), Prompt: p}
}

// labelCacheEvery is the share of calls, one in so many, that ask the labels' cache although the last answer is at hand. The cache keeps what is asked for often.
const labelCacheEvery = 16

// recently finds a label without the labels' cache.
func (p *Identified) recently(label string) (*Resolved, bool) {
	found := p.recent.Load()
	if found == nil || p.label != label || rand.Uint32()%labelCacheEvery == 0 { //nolint:gosec // no secret
		return nil, false
	}
	return found, true
}

// remember lets recently find what the labels' cache holds.
func (p *Identified) remember(found *Resolved) {
	if found.of != p || found.Label == "" || p.recent.Load() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.label == "" {
		p.label = unique.Make(found.Label).Value() // one text for all prompts is always at hand
	}
	if p.label == found.Label && !found.gone {
		p.recent.Store(found)
	}
}

// ErrArchived refuses (Conflict) a new version of an archived prompt: nobody would be served it, and whoever saved it would not notice.
func ErrArchived() *fault.Error {
	return fault.New(fault.Conflict, "This prompt is archived: restore it first (PATCH it with archived: false), then save.")
}

// ErrShredded is the answer of a project whose keys were destroyed, whatever is asked of its texts.
func ErrShredded() *fault.Error {
	return fault.New(fault.ProjectShredded, "This project was shredded: its keys were destroyed, and its texts are gone for good. Create another project.")
}

// ErrVersionNotFound is the answer for a version that is not there, or not this caller's to read.
func ErrVersionNotFound(number int) *fault.Error {
	return fault.New(fault.VersionNotFound, "This prompt has no version %d.", number).WithParam("version")
}

// ErrPromptNotFound is the one answer for a prompt that is not there, is archived, or is not this caller's to know of.
func ErrPromptNotFound() *fault.Error {
	return fault.New(fault.PromptNotFound, "There is no such prompt, or this key may not use it. Check the spelling and the key's grants.").
		WithParam("prompt")
}
