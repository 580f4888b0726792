package policy

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/promptgate/promptgate/internal/fault"
)

// Reserved labels: they are granted by their own name only, no "*" implies them.
const labelLatest = "latest" // the implicit label of the newest version

// LabelModel is the label of a call that names no prompt. "*" implies it, a list of other labels does not.
const LabelModel = "@model"

// anyLabel stands for every label, the reserved ones too. Roles and denials hold it; nobody can write it in a grant.
const anyLabel = "**"

// anyLabelPattern is every label but the reserved ones.
const anyLabelPattern = "*"

const (
	maxPatternBytes = 256
	maxLabelBytes   = 36
	maxModelBytes   = 200
)

// MatchPrompt reports whether a prompt's name falls under a pattern: an exact name, "folder/*" (direct children) or
// "folder/**" (any depth below it, never the folder's own name); "*" and "**" are the same at the root. A name with an empty
// segment is no prompt's name and falls under nothing.
func MatchPrompt(pattern, name string) bool {
	if !segmented(name) {
		return false
	}
	folder, deep, wild := splitPattern(pattern)
	if !wild {
		return pattern == name
	}
	rest := name
	if folder != "" {
		if len(name) <= len(folder)+1 || name[:len(folder)] != folder || name[len(folder)] != '/' {
			return false
		}
		rest = name[len(folder)+1:]
	}
	return deep || strings.IndexByte(rest, '/') < 0
}

// splitPattern takes a wildcard pattern apart: the folder ("" for the root) and whether it reaches below direct children.
func splitPattern(pattern string) (folder string, deep, wild bool) {
	switch {
	case pattern == "**":
		return "", true, true
	case pattern == "*":
		return "", false, true
	case strings.HasSuffix(pattern, "/**"):
		return pattern[:len(pattern)-3], true, true
	case strings.HasSuffix(pattern, "/*"):
		return pattern[:len(pattern)-2], false, true
	}
	return "", false, false
}

// segmented reports whether a name is made of segments that are not empty.
func segmented(name string) bool {
	return name != "" && name[0] != '/' && name[len(name)-1] != '/' && !strings.Contains(name, "//")
}

// coversPrompt reports whether every name under the pattern need is under have as well.
func coversPrompt(have, need string) bool {
	nf, nDeep, nWild := splitPattern(need)
	if !nWild {
		return MatchPrompt(have, need)
	}
	hf, hDeep, hWild := splitPattern(have)
	if !hWild {
		return false
	}
	if hDeep {
		return within(hf, nf)
	}
	return !nDeep && hf == nf
}

// overlapsPrompt reports whether some name is under both patterns.
func overlapsPrompt(a, b string) bool {
	af, aDeep, aWild := splitPattern(a)
	bf, bDeep, bWild := splitPattern(b)
	switch {
	case !aWild:
		return MatchPrompt(b, a)
	case !bWild:
		return MatchPrompt(a, b)
	case aDeep && bDeep:
		return within(af, bf) || within(bf, af)
	case aDeep:
		return within(af, bf)
	case bDeep:
		return within(bf, af)
	}
	return af == bf
}

// within reports whether folder is outer or below it; the root ("") holds all.
func within(outer, folder string) bool {
	return outer == "" || folder == outer || (len(folder) > len(outer) && folder[:len(outer)] == outer && folder[len(outer)] == '/')
}

// MatchModel reports whether a model's name fits a pattern in which every "*" stands for any run of characters, "/" included
// (models of some providers are named "vendor/model"). Letters of A to Z count as a to z: providers read names so, and a denial that does
// not is none.
func MatchModel(pattern, name string) bool {
	if name == "" {
		return false
	}
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && lower(pattern[p]) == lower(name[n]):
			p++
			n++
		case star >= 0: // let the last star take one more byte
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// coversModel reports whether every name that fits need fits have. A star of need is matched as a character that only a star
// of have can take: sound, and exact for patterns over an open alphabet.
func coversModel(have, need string) bool { return need != "" && MatchModel(have, need) }

// overlapsModel reports whether some name fits both patterns.
func overlapsModel(a, b string) bool {
	// reach[j]: a prefix of a and b[:j] fit a common string.
	reach := make([]bool, len(b)+1)
	reach[0] = true
	for j := 1; j <= len(b); j++ {
		reach[j] = reach[j-1] && b[j-1] == '*'
	}
	for i := 1; i <= len(a); i++ {
		diagonal := reach[0]
		reach[0] = reach[0] && a[i-1] == '*'
		for j := 1; j <= len(b); j++ {
			up := reach[j]
			switch {
			case a[i-1] == '*' || b[j-1] == '*':
				reach[j] = up && a[i-1] == '*' || reach[j-1] && b[j-1] == '*' || diagonal || up && b[j-1] == '*' || reach[j-1] && a[i-1] == '*'
			default:
				reach[j] = diagonal && lower(a[i-1]) == lower(b[j-1])
			}
			diagonal = up
		}
	}
	return reach[len(b)]
}

// MatchLabel reports whether a label fits a label pattern: itself, or "*" for every label but the reserved ones (@version and
// latest), which count only where they are written out.
func MatchLabel(pattern, label string) bool {
	switch pattern {
	case label:
		return label != ""
	case anyLabel:
		return true
	case "*":
		return label != LabelVersion && label != labelLatest && label != anyLabel && label != ""
	}
	return false
}

// coversLabel reports whether every label that fits need fits have as well.
func coversLabel(have, need string) bool {
	return have == anyLabel || have == need || MatchLabel(have, need)
}

// CheckPromptPattern says what is wrong with a prompt pattern (InvalidRequest).
func CheckPromptPattern(pattern string) error { return validPromptPattern(pattern) }

// CheckLabelName says what is wrong with the name of one label, a reserved one among them (InvalidRequest).
func CheckLabelName(label string) error {
	if label == anyLabelPattern {
		return fault.New(fault.InvalidRequest, "%q is every label: write one", label)
	}
	return validLabelPattern(label)
}

// validPromptPattern says what is wrong with a prompt pattern.
func validPromptPattern(pattern string) error {
	if pattern == "" || len(pattern) > maxPatternBytes {
		return fault.New(fault.InvalidRequest, "a prompt pattern must have 1 to %d bytes", maxPatternBytes)
	}
	segments := strings.Split(pattern, "/")
	for i, s := range segments {
		if last := i == len(segments)-1; last && (s == "*" || s == "**") {
			continue
		}
		if !validSegment(s) {
			return fault.New(fault.InvalidRequest, "%q is no prompt pattern: write an exact name, folder/* for what is directly in a folder, or folder/** for all below it", pattern)
		}
	}
	return nil
}

func validSegment(s string) bool {
	for i := range len(s) {
		c := s[i]
		letterOrDigit := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !letterOrDigit && (i == 0 || (c != '_' && c != '.' && c != '-')) {
			return false
		}
	}
	return s != ""
}

// validLabelPattern says what is wrong with a label pattern.
func validLabelPattern(label string) error {
	if label == "*" || label == LabelVersion || label == LabelModel {
		return nil
	}
	if !validSegment(label) || len(label) > maxLabelBytes || label[0] < 'a' {
		return fault.New(fault.InvalidRequest, "%q is no label pattern: write a label, *, %s or %s", label, LabelVersion, LabelModel)
	}
	return nil
}

// validModelPattern says what is wrong with a model pattern.
func validModelPattern(pattern string) error {
	bad := strings.ContainsFunc(pattern, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) })
	if pattern == "" || len(pattern) > maxModelBytes || bad || !utf8.ValidString(pattern) {
		return fault.New(fault.InvalidRequest, "%q is no model pattern: write a model's name in which * stands for anything", pattern)
	}
	return nil
}

// ParseNetwork reads a CIDR ("10.0.0.0/8") or one address ("10.1.2.3") and clears the host bits.
func ParseNetwork(s string) (netip.Prefix, error) {
	refuse := func() (netip.Prefix, error) {
		return netip.Prefix{}, fault.New(fault.InvalidRequest, "%q is no network: write a CIDR such as 10.0.0.0/8 or 2001:db8::/32", s)
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		if addr.Zone() != "" {
			return refuse()
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() { // a mapped prefix would never match: addresses are unmapped before the comparison
		return refuse()
	}
	return p.Masked(), nil
}
