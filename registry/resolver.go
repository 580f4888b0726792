package registry

import (
	"context"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
)

// Feed tells a Resolver what changed. journal.Journal is one.
type Feed interface {
	// Subscribe calls f for each change, in the order of revisions and without gaps, before Revision reaches it.
	Subscribe(f func(journal.Change))
	// Revision is the newest revision that subscribers have seen.
	Revision() int64
	// ConfirmedAt is when this process last knew that it had seen every committed change; the zero time: never.
	ConfirmedAt() time.Time
}

// ResolverOptions bound a Resolver; zero fields take the default in brackets.
type ResolverOptions struct {
	Handles      int           // handles kept [100,000]
	Absences     int           // references that do not exist, kept per kind [10,000]
	PointerBytes uint64        // rough bytes of labels' and versions' targets [128 MiB]
	CompileBytes uint64        // rough bytes of compiled versions [256 MiB]
	StaleAfter   time.Duration // answers older than this say so [2 s]
	MaxStale     time.Duration // answers older than this are refused [24 h]
	LoadTimeout  time.Duration // one load from the source [800 ms]
	Clock        func() time.Time
}

// Resolver answers which version of which prompt a call gets, from memory when it can. It is safe for concurrent use.
//
// What it remembers ends when the Feed says that it changed; versions never change and end only for room. A load that was under
// way when its key changed is not remembered. When the Feed cannot confirm that nothing changed, answers say how old they may be, and
// past MaxStale they are refused with RegistryUnavailable. An unreachable source is RegistryUnavailable, never an absence.
type Resolver struct {
	src Source
	o   ResolverOptions
}

// NewResolver builds a Resolver and subscribes it to the feed.
func NewResolver(src Source, feed Feed, o ResolverOptions) (*Resolver, error) {
	return nil, errUnwritten
}

// Identify finds a prompt by its name, an alias, its id or a foreign id; archived ones too. The result is shared: read only.
// Errors: PromptNotFound, RegistryUnavailable, ClientClosed.
func (r *Resolver) Identify(ctx context.Context, project, handle string) (*Prompt, error) {
	return nil, errUnwritten
}

// Resolve picks a version of a prompt that Identify found. The result is shared: read only. An archived prompt is PromptNotFound.
// Other errors: VersionNotFound, LabelNotFound, RegistryUnavailable, ClientClosed, Internal (a stored version does not compile).
func (r *Resolver) Resolve(ctx context.Context, p *Prompt, sel Selector) (*Resolved, error) {
	return nil, errUnwritten
}

// Served is a copy of what the Resolver holds, for the last-known-good file.
func (r *Resolver) Served() Snapshot { return Snapshot{} }

// Preload gives the Resolver what an earlier process served. It is used only until the Feed confirms for the first time: from
// then on the source is asked, for changes between the snapshot and the start were never seen.
func (r *Resolver) Preload(s Snapshot) {}

// Snapshot is what a Resolver served, to start from when the database is down.
type Snapshot struct {
	ConfirmedAt time.Time // how fresh it is
	Projects    []Project
	Handles     []ServedHandle
	Labels      []Label // LabelLatest included
	Versions    []Version
}

// ServedHandle is a handle that calls used, and what it stood for.
type ServedHandle struct {
	Handle string
	Prompt Prompt
}

// ErrPromptNotFound is the one answer for a prompt that is not there, is archived, or is not this caller's to know of.
func ErrPromptNotFound() *fault.Error {
	return fault.New(fault.PromptNotFound, "There is no such prompt, or this key may not use it. Check the spelling and the key's grants.").
		WithParam("prompt")
}
