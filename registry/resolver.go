package registry

import (
	"context"
	"time"
	"unique"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/pointers"
)

// Feed tells a Resolver what changed. journal.Journal is one.
type Feed interface {
	pointers.Feed
	// Revision is the newest revision that every subscriber has seen.
	Revision() int64
}

// ResolverOptions bound a Resolver; zero fields take the default in brackets.
type ResolverOptions struct {
	Handles      int           // handles kept [100,000]
	Absences     int           // references that do not exist, kept per kind [10,000]
	PointerBytes uint64        // rough bytes of labels' and versions' targets, their templates included [256 MiB]
	CompileBytes uint64        // rough bytes of compiled versions [256 MiB]
	StaleAfter   time.Duration // answers older than this say so [2 s]
	MaxStale     time.Duration // answers older than this are refused [24 h]
	LoadTimeout  time.Duration // one load from the source [800 ms]
	// Shredded reports whether a project's keys were destroyed: it is asked with each call, and its prompts are refused. nil: none ever is.
	Shredded func(project string) bool
	Clock    func() time.Time
}

func (o ResolverOptions) withDefaults() ResolverOptions {
	setDefault(&o.Handles, 100_000)
	setDefault(&o.Absences, 10_000)
	setDefault(&o.PointerBytes, 256<<20)
	setDefault(&o.CompileBytes, 256<<20)
	setDefault(&o.StaleAfter, 2*time.Second)
	setDefault(&o.MaxStale, 24*time.Hour)
	setDefault(&o.LoadTimeout, 800*time.Millisecond)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// The keys of what a Resolver remembers. Parts are fields, not joined text, so no spelling of one part reaches into another.
type (
	// handleKey holds a short handle itself: among many prompts the bytes of a text are never at hand.
	handleKey struct {
		project string
		long    string // the handle when it does not fit into short
		length  uint8  // of short
		short   [31]byte
	}
	promptKey struct{ project, id string }
	// labelKey holds the prompt as one word: each call hashes and compares it, and among many prompts the bytes of an id are
	// never at hand.
	labelKey struct {
		prompt unique.Handle[promptKey]
		label  string
	}
	// versionKey is apart from labelKey by type: version 3 and a label "v3" or "three" never meet.
	versionKey struct {
		project, prompt string
		number          int
	}
)

func keyOfHandle(project, handle string) (k handleKey) {
	k.project = project
	if len(handle) > len(k.short) {
		k.long = handle
	} else {
		k.length = uint8(copy(k.short[:], handle)) //nolint:gosec // at most 31
	}
	return k
}

func (k *handleKey) handle() string {
	if k.length > 0 {
		return string(k.short[:k.length])
	}
	return k.long
}

// Resolver answers which version of which prompt a call gets, from memory when it can. It is safe for concurrent use.
//
// What it remembers ends when the Feed says that it changed; versions never change and end only for room. A load that was under
// way when its key changed is not remembered. When the Feed cannot confirm that nothing changed, answers say how old they may be,
// absences are asked again, and past MaxStale answers are refused with RegistryUnavailable. An unreachable source is
// RegistryUnavailable, never an absence.
type Resolver struct {
	src  Source
	feed Feed
	o    ResolverOptions

	projects *pointers.Cache[string, *Project]
	handles  *pointers.Cache[handleKey, *Identified]
	labels   *pointers.Cache[labelKey, *Resolved]
	numbers  *pointers.Cache[versionKey, *Resolved]
	compiled *pointers.Cache[versionKey, *compiledVersion]

	freshness pointers.Freshness
	preloaded preloadedAt
	refreshes *pointers.Queue[pointer]
}

// NewResolver builds a Resolver and subscribes it to the feed.
func NewResolver(src Source, feed Feed, o ResolverOptions) (*Resolver, error) {
	if src == nil || feed == nil {
		return nil, fault.New(fault.Internal, "registry: a resolver needs a source and a feed")
	}
	r := &Resolver{src: src, feed: feed, o: o.withDefaults(), refreshes: pointers.NewQueue[pointer]()}
	r.freshness = pointers.Freshness{ConfirmedAt: r.confirmedAt, MaxStale: r.o.MaxStale, Clock: r.o.Clock, Name: "Prompts"}
	if err := r.build(); err != nil {
		return nil, err
	}
	feed.Subscribe(r.apply)
	return r, nil
}

func (r *Resolver) build() (err error) {
	o := r.o
	if r.projects, err = pointers.New(pointers.Options[string, *Project]{
		Name: "project", Size: o.Handles, Key: func(t journal.Touch) (string, bool) { return t.Key, t.Kind == TouchProject },
		Absences: o.Absences, Timeout: o.LoadTimeout,
	}); err != nil {
		return err
	}
	if r.handles, err = pointers.New(pointers.Options[handleKey, *Identified]{
		Name: "prompt", Size: o.Handles,
		Key: func(t journal.Touch) (handleKey, bool) { return keyOfHandle(t.Project, t.Key), t.Kind == TouchHandle },
		Ended: func(k handleKey, _ *Identified) {
			r.refreshes.Add(pointer{project: k.project, name: k.handle()})
		},
		Absences: o.Absences, Timeout: o.LoadTimeout,
	}); err != nil {
		return err
	}
	// A pointer keeps its template alive, so it is weighed with it. Labels are what calls name: they get three quarters.
	if r.labels, err = pointers.New(pointers.Options[labelKey, *Resolved]{
		Name: "label", Weight: o.PointerBytes / 4 * 3, Weigh: func(_ labelKey, v *Resolved) uint32 { return v.weight }, Gone: (*Resolved).end,
		Key: labelOf,
		Ended: func(k labelKey, old *Resolved) {
			r.refreshes.Add(pointer{project: old.of.Project, name: k.label, of: old.of})
		},
		Absences: o.Absences, Timeout: o.LoadTimeout,
	}); err != nil {
		return err
	}
	if r.numbers, err = pointers.New(pointers.Options[versionKey, *Resolved]{
		Name: "version", Weight: o.PointerBytes / 4, Weigh: func(_ versionKey, v *Resolved) uint32 { return v.weight }, Key: versionOf,
		Absences: o.Absences, Timeout: o.LoadTimeout,
	}); err != nil {
		return err
	}
	r.compiled, err = pointers.New(pointers.Options[versionKey, *compiledVersion]{
		Name: "version", Weight: o.CompileBytes, Weigh: func(_ versionKey, v *compiledVersion) uint32 { return v.weight }, Key: versionOf,
		Absences: o.Absences, Timeout: o.LoadTimeout,
	})
	return err
}

func labelOf(t journal.Touch) (k labelKey, ok bool) {
	prompt, label, ok := ParseLabelTouch(t)
	if !ok {
		return k, false
	}
	return labelKey{unique.Make(promptKey{t.Project, prompt}), label}, true
}

func versionOf(t journal.Touch) (versionKey, bool) {
	prompt, number, ok := ParseVersionTouch(t)
	return versionKey{t.Project, prompt, number}, ok
}

// apply forgets what a change made stale, and has what was in use read again.
func (r *Resolver) apply(c journal.Change) {
	r.projects.Apply(c)
	r.handles.Apply(c)
	r.compiled.Apply(c) // before what points at it
	r.numbers.Apply(c)
	r.labels.Apply(c)
}

// Forget takes all that is remembered of a project out of memory: its texts are not to be anywhere.
func (r *Resolver) Forget(project string) {
	r.projects.Forget(func(k string, _ *Project) bool { return k == project })
	r.handles.Forget(func(k handleKey, _ *Identified) bool { return k.project == project })
	r.compiled.Forget(func(k versionKey, _ *compiledVersion) bool { return k.project == project })
	r.numbers.Forget(func(k versionKey, _ *Resolved) bool { return k.project == project })
	r.labels.Forget(func(_ labelKey, v *Resolved) bool { return v.of.Project == project })
}

// MemoryReads counts what was found in memory so far, by kind of touch.
func (r *Resolver) MemoryReads() map[string]uint64 {
	return map[string]uint64{
		TouchProject: r.projects.Hits(),
		TouchHandle:  r.handles.Hits(),
		TouchLabel:   r.labels.Hits(),
		TouchVersion: r.numbers.Hits() + r.compiled.Hits(),
	}
}

// confirmedAt is when it was last known that what is remembered is what is stored, by the feed or, before it ever knew, by what was preloaded.
func (r *Resolver) confirmedAt() time.Time {
	if confirmed := r.feed.ConfirmedAt(); !confirmed.IsZero() {
		return confirmed
	}
	return r.preloaded.get()
}

// Identify finds a prompt by its name, an alias, its id or a foreign id; archived ones too. The result is shared: read only.
// Errors: PromptNotFound, RegistryUnavailable, ClientClosed.
func (r *Resolver) Identify(ctx context.Context, project, handle string) (*Identified, error) {
	age, err := r.freshness.Age()
	if err != nil {
		return nil, err
	}
	if r.o.Shredded != nil && r.o.Shredded(project) {
		return nil, ErrShredded()
	}
	key := keyOfHandle(project, handle)
	if p, ok := r.handles.Get(key); ok {
		return p, nil
	}
	if len(handle) > MaxNameBytes {
		return nil, ErrPromptNotFound() // no handle is that long: not worth a place among the absences
	}
	return r.handles.Load(ctx, key, age <= r.o.StaleAfter, func(ctx context.Context) (*Identified, error) {
		p, err := r.src.PromptByHandle(ctx, project, handle)
		if err != nil {
			return nil, sourceFault(err)
		}
		return identified(p), nil
	})
}

// Resolve picks a version of a prompt that this Resolver's Identify found. The result is shared: read only. An archived prompt is PromptNotFound.
// Other errors: VersionNotFound, LabelNotFound, RegistryUnavailable, ClientClosed, Internal (a stored version does not compile).
func (r *Resolver) Resolve(ctx context.Context, p *Identified, sel Selector) (*Resolved, error) {
	age, err := r.freshness.Age()
	if err != nil {
		return nil, err
	}
	if p.Archived {
		return nil, ErrPromptNotFound()
	}
	fresh := age <= r.o.StaleAfter
	var found *Resolved
	switch sel.Kind {
	case SelectVersion:
		found, err = r.byNumber(ctx, p, sel.Version, fresh)
	case SelectLabel:
		found, err = r.byLabel(ctx, p, sel.Label, fresh)
	default:
		var project *Project
		if project, err = r.project(ctx, p.Project, fresh); err == nil {
			found, err = r.byLabel(ctx, p, project.DefaultLabel, fresh)
		}
	}
	if err != nil || fresh {
		return found, err
	}
	return found.with(found.of, age), nil
}

// DefaultLabel is the label that a call of this project gets when it names neither version nor label: what Resolve takes for
// SelectDefault. Errors: NotFound, RegistryUnavailable, ClientClosed.
func (r *Resolver) DefaultLabel(ctx context.Context, project string) (string, error) {
	age, err := r.freshness.Age()
	if err != nil {
		return "", err
	}
	p, err := r.project(ctx, project, age <= r.o.StaleAfter)
	if err != nil {
		return "", err
	}
	return p.DefaultLabel, nil
}

func (r *Resolver) project(ctx context.Context, id string, fresh bool) (*Project, error) {
	if p, ok := r.projects.Get(id); ok {
		return p, nil
	}
	return r.projects.Load(ctx, id, fresh, func(ctx context.Context) (*Project, error) {
		p, err := r.src.ProjectByID(ctx, id)
		if err != nil {
			return nil, sourceFault(err)
		}
		return &p, nil
	})
}

func (r *Resolver) byLabel(ctx context.Context, p *Identified, label string, fresh bool) (*Resolved, error) {
	if found, ok := p.recently(label); ok {
		r.labels.Hit()
		return found, nil
	}
	key := labelKey{p.key, label}
	found, ok := r.labels.Get(key)
	switch {
	case ok:
		p.remember(found) // what was only loaded may be over already, and nobody would end it
	case !labelPattern.MatchString(label):
		return nil, fault.New(fault.LabelNotFound, "This prompt has no label of that name.").WithParam("label")
	default:
		var err error
		if found, err = r.labels.Load(ctx, key, fresh, r.labelLoader(p, label)); err != nil {
			return nil, err
		}
	}
	if sameRow(found.of, p) {
		return found, nil
	}
	return refit(r.labels, key, found, p), nil
}

// labelLoader is apart from byLabel so that the warm path allocates no closure.
func (r *Resolver) labelLoader(p *Identified, label string) func(context.Context) (*Resolved, error) {
	return func(ctx context.Context) (*Resolved, error) {
		l, err := r.src.LabelOf(ctx, p.Project, p.ID, label)
		if err != nil {
			return nil, sourceFault(err)
		}
		if l.Target != TargetVersion {
			return nil, fault.New(fault.Internal, "The label %q points at a %s, which this release cannot serve: upgrade it, or move the label.", label, l.Target)
		}
		c, err := r.version(ctx, versionKey{p.Project, p.ID, l.Version}, true)
		if fault.Is(err, fault.VersionNotFound) {
			return nil, fault.Wrap(err, fault.Internal, "The label %q points at a version that is gone: move it.", label)
		}
		if err != nil {
			return nil, err
		}
		return c.resolved(p, label, l.Revision), nil
	}
}

func (r *Resolver) byNumber(ctx context.Context, p *Identified, number int, fresh bool) (*Resolved, error) {
	key := versionKey{p.Project, p.ID, number}
	found, ok := r.numbers.Get(key)
	if !ok {
		var err error
		if found, err = r.numbers.Load(ctx, key, fresh, r.numberLoader(p, key, fresh)); err != nil {
			return nil, err
		}
	}
	if sameRow(found.of, p) {
		return found, nil
	}
	return refit(r.numbers, key, found, p), nil
}

func (r *Resolver) numberLoader(p *Identified, key versionKey, fresh bool) func(context.Context) (*Resolved, error) {
	return func(ctx context.Context) (*Resolved, error) {
		c, err := r.version(ctx, key, fresh)
		if err != nil {
			return nil, err
		}
		return c.resolved(p, "", 0), nil
	}
}

// sameRow reports whether two readings of one prompt are the same: every change of its row takes a revision of its own.
func sameRow(a, b *Identified) bool { return a == b || a.Revision == b.Revision }

// refit puts the caller's reading of the prompt into what is remembered. The caller was authorized by that reading, so it gets it
// even when it is the older one; only a newer one stays.
func refit[K comparable](t *pointers.Cache[K, *Resolved], key K, found *Resolved, p *Identified) *Resolved {
	fitted := found.with(p, 0)
	if p.Revision > found.Prompt.Revision {
		t.Replace(key, func(v *Resolved) bool { return v == found }, fitted)
	}
	return fitted
}

// sourceFault lets a source's absence and a caller's leaving through; everything else it could not answer is its unavailability.
func sourceFault(err error) error {
	if pointers.Absence(err) != nil {
		return err
	}
	switch fault.CodeOf(err) {
	case fault.RegistryUnavailable, fault.ClientClosed, fault.Internal:
		if asFault(err) != nil {
			return err
		}
	}
	return fault.Wrap(err, fault.RegistryUnavailable, "The registry cannot be reached now: try again shortly.")
}
