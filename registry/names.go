package registry

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/names"
)

// Bounds of what people write about prompts.
const (
	MaxAliases          = 20
	MaxTags             = 50
	MaxTagBytes         = 64
	MaxDescriptionBytes = 4 << 10
	MaxNoteBytes        = 4 << 10
	MaxCategoryBytes    = 100
	MaxOwnerBytes       = 200
	MaxProjectNameBytes = 100
)

// Prefixes of ids: no segment of a name starts with one, so a name is never taken for an id.
const (
	PromptIDPrefix  = "pmpt_"
	DraftIDPrefix   = "drf_"
	ProjectIDPrefix = "prj_"
)

var (
	segmentPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]*$`)
	foreignPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:-]*$`)
	labelPattern   = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,35}$`)
)

// CheckName says what is wrong with a prompt's name: an InvalidRequest fault whose Param is "name", or nil.
func CheckName(name string) error {
	return checkName("name", name)
}

func checkName(param, name string) error {
	switch {
	case name == "":
		return invalid(param, "A prompt needs a name, e.g. support/triage.")
	case len(name) > MaxNameBytes:
		return invalid(param, "A prompt's name has at most %d bytes; this one has %d.", MaxNameBytes, len(name))
	}
	for segment := range strings.SplitSeq(name, "/") {
		switch {
		case segment == "":
			return invalid(param, "The segments of a prompt's name are parted by one slash, with none at either end.")
		case !segmentPattern.MatchString(segment):
			return invalid(param, "The segments of a prompt's name start with a-z or 0-9 and go on with a-z, 0-9, '_', '.' or '-'.")
		case strings.HasPrefix(segment, PromptIDPrefix), strings.HasPrefix(segment, DraftIDPrefix):
			return invalid(param, "No segment of a prompt's name may start with %q or %q: those are ids.", PromptIDPrefix, DraftIDPrefix)
		}
	}
	return nil
}

// CheckAlias says what is wrong with a further handle: it is a name, or an id of another system such as OpenAI's "pmpt_abc123".
func CheckAlias(alias string) error {
	const param = "aliases"
	switch {
	case len(alias) > MaxNameBytes:
		return invalid(param, "An alias has at most %d bytes; this one has %d.", MaxNameBytes, len(alias))
	case strings.HasPrefix(alias, DraftIDPrefix):
		return invalid(param, "An alias may not start with %q: those are the ids of drafts.", DraftIDPrefix)
	case foreignPattern.MatchString(alias):
		return nil
	}
	return checkName(param, alias)
}

// CheckLabel says what is wrong with the name of a label that is to be set, moved or removed.
func CheckLabel(label string) error {
	switch {
	case label == LabelLatest:
		return invalid("label", "The label %q always stands for the newest version and cannot be moved.", LabelLatest)
	case !labelPattern.MatchString(label):
		return invalid("label", "A label starts with a-z and goes on with up to 35 of a-z, 0-9, '_', '.' or '-'.")
	}
	return nil
}

// CheckProjectName says what is wrong with a project's name.
func CheckProjectName(name string) error {
	if !segmentPattern.MatchString(name) || len(name) > MaxProjectNameBytes || strings.HasPrefix(name, ProjectIDPrefix) {
		return invalid("name", "A project's name starts with a-z or 0-9, goes on with a-z, 0-9, '_', '.' or '-', has at most %d bytes"+
			" and does not start with %q.", MaxProjectNameBytes, ProjectIDPrefix)
	}
	return nil
}

// normalText is free text in the one form in which it is kept, compared and looked for (names.Normal), checked as checkText does.
func normalText(param string, s *string, limit int) error {
	*s = names.Normal(*s) // first: it may become longer, and what is kept must pass again
	return checkText(param, *s, limit)
}

// checkText bounds free text and refuses what cannot be stored everywhere: invalid UTF-8 and NUL.
func checkText(param, s string, limit int) error {
	switch {
	case len(s) > limit:
		return invalid(param, "%s has at most %d bytes; this has %d.", param, limit, len(s))
	case !utf8.ValidString(s):
		return invalid(param, "%s must be valid UTF-8.", param)
	case strings.ContainsRune(s, 0):
		return invalid(param, "%s must not hold NUL characters.", param)
	}
	return nil
}

// normalTags returns the tags sorted and once each, or says what is wrong with them.
func normalTags(tags []string) ([]string, error) {
	if len(tags) > MaxTags {
		return nil, invalid("tags", "A prompt has at most %d tags.", MaxTags)
	}
	tags = slices.Clone(tags)
	for i, tag := range tags {
		if tag == "" || strings.TrimSpace(tag) != tag {
			return nil, invalid("tags", "A tag is neither empty nor does it start or end with a space.")
		}
		if err := normalText("tags", &tags[i], MaxTagBytes); err != nil {
			return nil, err
		}
	}
	return sortedUnique(tags), nil
}

func normalAliases(aliases []string, name string) ([]string, error) {
	if len(aliases) > MaxAliases {
		return nil, invalid("aliases", "A prompt has at most %d aliases.", MaxAliases)
	}
	for _, alias := range aliases {
		if err := CheckAlias(alias); err != nil {
			return nil, err
		}
	}
	out := sortedUnique(aliases)
	return slices.DeleteFunc(out, func(a string) bool { return a == name }), nil
}

// sortedUnique returns a sorted copy without repetitions, never nil.
func sortedUnique(in []string) []string {
	out := make([]string, 0, len(in))
	out = append(out, in...)
	slices.Sort(out)
	return slices.Compact(out)
}

func invalid(param, format string, args ...any) error {
	return fault.New(fault.InvalidRequest, format, args...).WithParam(param)
}

// paramOf is the field that an error names.
func paramOf(err error) string {
	if f := asFault(err); f != nil {
		return f.Param
	}
	return ""
}

// asFault is the first fault in err's chain, nil when there is none.
func asFault(err error) *fault.Error {
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	return nil
}
