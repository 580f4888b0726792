package configs

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/v2"
)

// decode writes the settings into c. It returns the paths of those whose values are of another type than theirs, which stay as they were, and
// one fault for each.
func decode(k *koanf.Koanf, c *Config) (wrong []string, err error) {
	err = k.UnmarshalWithConf("", c, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			mapstructure.DecodeHookFuncType(strict),
			mapstructure.StringToTimeDurationHookFunc(),
			mapstructure.StringToSliceHookFunc(","),
		),
		WeaklyTypedInput: true, // environment variables are strings
		TagName:          "koanf",
		Result:           c,
	}})
	var faults []error
	for _, f := range parts(err) {
		var at *mapstructure.DecodeError
		if !errors.As(f, &at) {
			faults = append(faults, fmt.Errorf("configuration: %w", f))
			continue
		}
		wrong = append(wrong, at.Name())
		faults = append(faults, fmt.Errorf("%s: must be %s", at.Name(), expected(typeAt(at.Name()))))
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) }) // the decoder's order changes
	return wrong, errors.Join(faults...)
}

// parts are the errors that were joined, however often.
func parts(err error) (out []error) {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		if err != nil {
			out = append(out, err)
		}
		return out
	}
	for _, e := range joined.Unwrap() {
		out = append(out, parts(e)...)
	}
	return out
}

// about says whether a fault is about one of the settings, or about what stands below one: its value is then none that anybody wrote.
func about(fault error, settings []string) bool {
	for _, s := range settings {
		if rest, ok := strings.CutPrefix(fault.Error(), s); ok && rest != "" && strings.ContainsRune(":.[", rune(rest[0])) {
			return true
		}
	}
	return false
}

var (
	errType  = errors.New("is of another type")
	duration = reflect.TypeFor[time.Duration]() //nolint:gochecknoglobals // a constant
	moment   = reflect.TypeFor[Moment]()        //nolint:gochecknoglobals // a constant
)

// strict refuses what the decoder would bend until it fits: 5 would be five nanoseconds, 1.5 would be 1, a password 0123 would be 83.
func strict(from, to reflect.Type, value any) (any, error) {
	ok := from.Kind() == reflect.String || from == to
	switch {
	case to == duration:
	case to == moment:
		if t, ok := value.(time.Time); ok { // YAML reads a day that nobody quoted as one
			return t.Format(time.RFC3339), nil
		}
	case to.Kind() == reflect.Pointer: // what it points at is asked about next
		ok = true
	case to.Kind() == reflect.Float64:
		ok = ok || from.Kind() == reflect.Int
	case to.Kind() == reflect.Struct:
		ok = from.Kind() == reflect.Map
	case to.Kind() == reflect.Slice:
		ok = from.Kind() == reflect.Slice || ok && (to.Elem().Kind() == reflect.String || to.Elem().Kind() == reflect.Int)
	case to.Kind() == reflect.Int || to.Kind() == reflect.Int64:
		if n, float := value.(float64); float && n == math.Trunc(n) && math.Abs(n) < 1<<53 { // tools write large numbers so: 1e+09
			return int64(n), nil
		}
		ok = ok || from.Kind() == reflect.Int
	}
	if !ok {
		return nil, errType
	}
	return value, nil
}

// expected says what the value of a setting must be.
func expected(t reflect.Type) string {
	switch {
	case t == duration:
		return "a duration with its unit, such as 30s"
	case t.Kind() == reflect.Struct:
		return "a section: write its settings below it, indented"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return fmt.Sprintf(`a list of sections, each starting with "- %s: "`, t.Elem().Field(0).Tag.Get("koanf"))
	case t.Kind() == reflect.Slice:
		return "a list, such as [a, b]"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Pointer:
		return "a number"
	case t.Kind() == reflect.String:
		return "text; put it in quotes"
	}
	return "a whole number"
}

// typeAt is the type of what stands at a path, as the decoder spells them: providers[0].models[1].
func typeAt(path string) reflect.Type {
	t := reflect.TypeFor[Config]()
	for _, step := range strings.Split(path, ".") {
		name, index, _ := strings.Cut(step, "[")
		f, ok := fieldOf(t, name)
		if !ok {
			return t
		}
		if t = f; index != "" {
			t = t.Elem()
		}
	}
	return t
}

// unreadable is the fault of a file that holds no settings at all.
func unreadable(name string, err error) error {
	if strings.HasSuffix(err.Error(), "into map[string]interface {}") {
		return fmt.Errorf("%s: must be settings by name, one a line, such as \"addr: 127.0.0.1:8080\"", name)
	}
	return fmt.Errorf("%s: cannot be read: %w", name, err)
}
