package registry

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

// Bounds of included texts.
const (
	MaxReferenceDepth = 5   // a text that includes one that … : so many levels below the version itself
	MaxReferences     = 100 // distinct versions, those of included texts too
)

// includes gathers what a version includes, directly and below, by digest: as template.Compile takes it.
type includes struct {
	src     versionSource
	project string
	self    string // the including prompt: none of its own versions may be among them
	byHash  map[string]template.Content
	depth   map[string]int // levels that a text adds: 1 for one that includes nothing
	found   []Version
}

// versionSource is the part of a Source that included texts come from.
type versionSource interface {
	VersionOf(ctx context.Context, project, promptID string, number int) (Version, error)
}

func gather(src versionSource, project, self string) *includes {
	return &includes{src: src, project: project, self: self, byHash: map[string]template.Content{}, depth: map[string]int{}}
}

// add takes pinned references and everything below them.
func (in *includes) add(ctx context.Context, refs []template.Reference, level int) (depth int, err error) {
	for _, ref := range refs {
		v, err := in.version(ctx, ref)
		if err != nil {
			return 0, err
		}
		d, err := in.take(ctx, ref, v, level)
		if err != nil {
			return 0, err
		}
		depth = max(depth, d)
	}
	return depth, nil
}

// version reads what a reference is pinned to.
func (in *includes) version(ctx context.Context, ref template.Reference) (Version, error) {
	if content, ok := in.byHash[ref.Digest]; ok && in.depth[ref.Digest] > 0 {
		return Version{PromptID: ref.PromptID, Number: ref.Version, Digest: ref.Digest, Content: content}, nil
	}
	v, err := in.src.VersionOf(ctx, in.project, ref.PromptID, ref.Version)
	switch {
	case fault.Is(err, fault.VersionNotFound):
		return v, fault.Wrap(err, fault.Internal, "The included text %q is pinned to a version that is gone.", ref.Spelling)
	case err != nil:
		return v, err
	case v.Digest != ref.Digest:
		return v, fault.New(fault.Internal, "The included text %q is not what was pinned: restore it from a backup.", ref.Spelling)
	}
	return v, v.Verify()
}

// take adds one version and what it includes, and returns the levels it adds.
func (in *includes) take(ctx context.Context, ref template.Reference, v Version, level int) (int, error) {
	if v.PromptID == in.self {
		return 0, badReference(ref.Spelling, "it leads back to this prompt.")
	}
	if level > MaxReferenceDepth {
		return 0, badReference(ref.Spelling, "texts may include each other %d levels deep; this would be one more.", MaxReferenceDepth)
	}
	below, known := in.depth[v.Digest]
	if !known {
		if len(in.byHash) >= MaxReferences {
			return 0, badReference(ref.Spelling, "a version includes at most %d others.", MaxReferences)
		}
		in.byHash[v.Digest] = v.Content
		in.found = append(in.found, v)
		deepest, err := in.add(ctx, v.Content.References, level+1)
		if err != nil {
			return 0, err
		}
		below = deepest + 1
		in.depth[v.Digest] = below
	}
	if level-1+below > MaxReferenceDepth {
		return 0, badReference(ref.Spelling, "texts may include each other %d levels deep; this would be %d.", MaxReferenceDepth, level-1+below)
	}
	return below, nil
}

// pin resolves the spellings that a new version of p uses to exact versions.
func (s *Service) pin(ctx context.Context, p Prompt, in VersionInput) ([]template.Reference, map[string]template.Content, error) {
	spellings, err := template.References(in.Content)
	if err != nil {
		return nil, nil, err
	}
	found := gather(s.store, p.Project, p.ID)
	var refs []template.Reference
	for _, spelling := range spellings {
		v, err := s.lookUp(ctx, p.Project, spelling, in.AllowReference)
		if err != nil {
			return nil, nil, err
		}
		ref := template.Reference{Spelling: spelling, PromptID: v.PromptID, Version: v.Number, Digest: v.Digest}
		if _, err := found.take(ctx, ref, v, 1); err != nil {
			return nil, nil, err
		}
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b template.Reference) int { return strings.Compare(a.Spelling, b.Spelling) })
	return refs, found.byHash, nil
}

// lookUp finds what "name@label" or "name@3" means now.
func (s *Service) lookUp(ctx context.Context, project, spelling string, allow func(context.Context, Prompt, string) error) (Version, error) {
	at := strings.LastIndexByte(spelling, '@')
	if at < 1 || at == len(spelling)-1 {
		return Version{}, badReference(spelling, "write {{> name@label}} or {{> name@3}}.")
	}
	handle, target := spelling[:at], spelling[at+1:]
	p, err := s.store.PromptByHandle(ctx, project, handle)
	switch {
	case fault.Is(err, fault.PromptNotFound) || err == nil && p.Archived:
		return Version{}, badReference(spelling, "there is no such prompt.")
	case err != nil:
		return Version{}, err
	}
	number, isNumber := 0, target[0] >= '0' && target[0] <= '9'
	if isNumber {
		if number, err = strconv.Atoi(target); err != nil {
			return Version{}, badReference(spelling, "write {{> name@label}} or {{> name@3}}.")
		}
		target = ""
	}
	if allow != nil {
		switch err := allow(ctx, p, target); {
		case fault.Is(err, fault.PromptNotFound): // not this author's to know of
			return Version{}, badReference(spelling, "there is no such prompt.")
		case err != nil:
			return Version{}, err
		}
	}
	if p.Kind != KindText {
		return Version{}, badReference(spelling, "only prompts of kind %q can be included.", KindText)
	}
	if !isNumber {
		label, err := s.store.LabelOf(ctx, project, p.ID, target)
		if err != nil {
			return Version{}, notThere(err, spelling)
		}
		number = label.Version
	}
	v, err := s.store.VersionOf(ctx, project, p.ID, number)
	return v, notThere(err, spelling)
}

// notThere says an absence in the words of the template; other errors stay.
func notThere(err error, spelling string) error {
	if fault.Is(err, fault.LabelNotFound) || fault.Is(err, fault.VersionNotFound) {
		return badReference(spelling, "that prompt has no such label or version.")
	}
	return err
}

func badReference(spelling, format string, args ...any) error {
	f := fault.New(fault.InvalidTemplate, format, args...)
	f.Message = "The text {{> " + spelling + "}} cannot be included: " + f.Message
	return f.WithParam("messages")
}
