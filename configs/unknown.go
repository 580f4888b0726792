package configs

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// unknown lists what a tree of settings has and Config has not, one fault each, with the setting that was probably meant.
func unknown(tree map[string]any) []error {
	var faults []error
	for _, path := range unknownIn(tree, reflect.TypeFor[Config](), "") {
		hint := "`promptgate help config` lists them"
		if meant := nearest(path); meant == path {
			hint = "indent it below its section instead of writing a dot"
		} else if meant != "" {
			hint = fmt.Sprintf("did you mean %q?", meant)
		}
		faults = append(faults, fmt.Errorf("unknown setting %q (%s)", path, hint))
	}
	return faults
}

func unknownIn(tree map[string]any, t reflect.Type, prefix string) (out []string) {
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		at := prefix + key
		f, ok := fieldOf(t, key)
		if !ok {
			out = append(out, at)
			continue
		}
		switch value := tree[key].(type) {
		case map[string]any:
			if f.Kind() == reflect.Struct {
				out = append(out, unknownIn(value, f, at+".")...)
			}
		case []any:
			for i, entry := range value {
				if m, ok := entry.(map[string]any); ok && f.Kind() == reflect.Slice && f.Elem().Kind() == reflect.Struct {
					out = append(out, unknownIn(m, f.Elem(), fmt.Sprintf("%s[%d].", at, i))...)
				}
			}
		}
	}
	return out
}

func fieldOf(t reflect.Type, key string) (reflect.Type, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("koanf") == key {
			return f.Type, true
		}
	}
	return nil, false
}

// nearest is the setting whose path, or whose last name, is spelled most like one that is none; "" when nothing is like it.
func nearest(path string) string {
	section, name := "", path
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		section, name = path[:i+1], path[i+1:]
	}
	candidates := append(Paths(), "providers")
	if strings.HasPrefix(section, "providers[") {
		candidates = paths(reflect.TypeFor[Provider](), section)
	}
	best, least := "", len(path)
	for _, c := range candidates {
		last := c[strings.LastIndexByte(c, '.')+1:]
		d := edits(strings.ToLower(path), c)
		if byName := edits(strings.ToLower(name), last) + 1; byName < d { // in another section
			d = byName
		}
		if d < least && d <= 1+len(last)/3 {
			best, least = c, d
		}
	}
	return best
}

// edits is the Levenshtein distance of two short texts, in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
