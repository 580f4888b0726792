package interchange

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/promptgate/promptgate/internal/names"
	"github.com/promptgate/promptgate/registry/template"
)

// Base says what a file was made from, so that pushing it cannot undo what somebody else saved since. It names what the version says
// and what the prompt's metadata were, not ids: the same library in another installation fits as well.
type Base struct {
	Version  int    // for people; 0 in a Base that says nothing
	Content  string // of ContentSum
	Metadata string // of Metadata.MetadataSum
}

// sumDigits is how many hex digits of a SHA-256 a file shows: a base is compared with one other, so that 48 bits are plenty.
const sumDigits = 12

// String is the form of a file: "v3 9f2ce0a1b7d4 77aa01995b1c", or "" for the zero Base.
func (b Base) String() string {
	if b == (Base{}) {
		return ""
	}
	return fmt.Sprintf("v%d %s %s", b.Version, b.Content, b.Metadata)
}

func readBase(key, n *yaml.Node, into *Base) error {
	text := ""
	if err := readText(key, n, &text); err != nil {
		return err
	}
	words := strings.Fields(text)
	if len(words) == 3 && isSum(words[1]) && isSum(words[2]) {
		number, err := strconv.Atoi(strings.TrimPrefix(words[0], "v"))
		if err == nil && number > 0 && strings.HasPrefix(words[0], "v") {
			*into = Base{Version: number, Content: words[1], Metadata: words[2]}
			return nil
		}
	}
	return wrong(n, "the base is written by pull and push and looks like v3 9f2ce0a1b7d4 77aa01995b1c; pull the prompt again, or remove the line")
}

func isSum(s string) bool {
	return len(s) == sumDigits && strings.Trim(s, "0123456789abcdef") == ""
}

// Stripped is content as its author wrote it: without what is computed when it is saved, inferred variables and pinned references, and with names in
// the one form in which they are saved.
func Stripped(c template.Content) template.Content {
	if normal, err := c.Normal(); err == nil { // two variables that are one are refused when they are saved
		c = normal
	}
	c.References = nil
	c.Variables = maps.Clone(c.Variables)
	maps.DeleteFunc(c.Variables, func(_ string, v template.Variable) bool { return v.Inferred })
	if len(c.Variables) == 0 {
		c.Variables = nil
	}
	for _, fields := range []*[]string{&c.Locked, &c.Ignored} {
		*fields = slices.Compact(slices.Sorted(slices.Values(*fields)))
		if len(*fields) == 0 {
			*fields = nil
		}
	}
	if len(c.Parameters) == 0 {
		c.Parameters = nil
	}
	return c
}

// ContentSum names what an author wrote; two contents with the same sum would be saved as the same. It fails as template.Content.Digest does.
func ContentSum(c template.Content) (string, error) {
	digest, err := Stripped(c).Digest()
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(digest, "sha256:")[:sumDigits], nil
}

// MetadataSum names the metadata.
func (d Metadata) MetadataSum() string {
	lists := func(p *[]string) []string {
		if p == nil {
			return nil
		}
		return slices.Sorted(slices.Values(*p))
	}
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	raw, err := json.Marshal([]any{text(d.Description), text(d.Category), text(d.Owner), lists(d.Tags), lists(d.Aliases)})
	if err != nil { // texts always encode
		return ""
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])[:sumDigits]
}

// Differing names the fields that d sets to something else than have does. Texts that differ only in how Unicode spells them are the same: the registry
// keeps one form (names.Normal), an editor another.
func (d Metadata) Differing(have Metadata) []string {
	var fields []string
	for _, f := range []struct {
		name      string
		want, got *string
	}{{"description", d.Description, have.Description}, {"category", d.Category, have.Category}, {"owner", d.Owner, have.Owner}} {
		if f.want != nil && (f.got == nil || names.Normal(*f.want) != names.Normal(*f.got)) {
			fields = append(fields, f.name)
		}
	}
	for _, f := range []struct {
		name      string
		want, got *[]string
	}{{"tags", d.Tags, have.Tags}, {"aliases", d.Aliases, have.Aliases}} {
		if f.want != nil && (f.got == nil || !sameSet(*f.want, *f.got)) {
			fields = append(fields, f.name)
		}
	}
	return fields
}

func sameSet(a, b []string) bool {
	set := func(list []string) []string {
		list = slices.Clone(list)
		for i, s := range list {
			list[i] = names.Normal(s)
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	return slices.Equal(set(a), set(b))
}

// WithBase returns the text of a file with its line "base" put in or replaced, and every other byte as it was. ok is false when the text has
// no front matter.
func WithBase(text []byte, b Base) (out []byte, ok bool) {
	s := string(text)
	start := len(s) - len(strings.TrimPrefix(s, "\ufeff"))
	front, _, ok := cutFront(s[start:])
	if !ok {
		return nil, false
	}
	first := strings.IndexByte(s, '\n') + 1
	end := "\n"
	if strings.HasSuffix(s[:first], "\r\n") {
		end = "\r\n"
	}
	line, at, until := "base: "+b.String()+end, first, first
	offset := first
	for l := range strings.Lines(front) {
		if strings.HasPrefix(l, "base:") {
			at, until = offset, offset+len(l)
			break
		}
		if strings.HasPrefix(l, "name:") {
			at, until = offset+len(l), offset+len(l)
		}
		offset += len(l)
	}
	return []byte(s[:at] + line + s[until:]), true
}
