package configs

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
)

// EnvPrefix starts the name of every environment variable that sets something.
const EnvPrefix = "PROMPTGATE_"

// clientEnv are the variables of the command line's client side and of the tests: no settings of the server.
var clientEnv = []string{"PROMPTGATE_URL", "PROMPTGATE_KEY", "PROMPTGATE_CONFIG"} //nolint:gochecknoglobals // a constant

// Sources is where Load reads. Flags holds what the command line set, by YAML path ("log_level").
type Sources struct {
	File  string
	Env   []string // as os.Environ gives it
	Flags map[string]any
}

// Load reads defaults, file, environment and flags, in that order, and validates the result. Its error joins every fault that was
// found, one a line, each saying where it is and what to do.
func Load(s Sources) (Config, error) {
	k := koanf.New(".")
	var faults []error
	if s.File != "" {
		if err := k.Load(file.Provider(s.File), yaml.Parser()); err != nil {
			faults = append(faults, unreadable(s.File, err))
		}
	}
	env, err := fromEnv(s.Env)
	if err != nil {
		faults = append(faults, err)
	}
	for _, layer := range []map[string]any{env, s.Flags} {
		if err := k.Load(confmap.Provider(layer, "."), nil); err != nil {
			faults = append(faults, err)
		}
	}
	faults = append(faults, unknown(k.Raw())...)
	c := Default()
	wrong, err := decode(k, &c)
	if err != nil {
		faults = append(faults, err)
	}
	if err := c.expand(s.Env); err != nil {
		faults = append(faults, err)
	}
	for _, f := range parts(c.Validate()) {
		if !about(f, wrong) {
			faults = append(faults, f)
		}
	}
	return c, errors.Join(faults...)
}

// fromEnv maps PROMPTGATE_… variables to YAML paths. A name that is no setting is a fault: a misspelt one would be silently ignored.
func fromEnv(environ []string) (map[string]any, error) {
	byName := map[string]string{}
	for _, p := range Paths() {
		byName[EnvName(p)] = p
	}
	out := map[string]any{}
	var faults []error
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, EnvPrefix) || slices.Contains(clientEnv, name) || strings.HasPrefix(name, EnvPrefix+"TEST_") {
			continue
		}
		path, ok := byName[name]
		if !ok {
			faults = append(faults, fmt.Errorf("environment: %s is no setting; `promptgate help config` lists them", name))
			continue
		}
		out[path] = value
	}
	return out, errors.Join(faults...)
}

// EnvName is the environment variable that sets a YAML path.
func EnvName(path string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// Paths lists the YAML paths of all settings that hold one value, in the order of Config; lists of structs (providers) are set in
// YAML only.
func Paths() []string {
	return paths(reflect.TypeFor[Config](), "")
}

func paths(t reflect.Type, prefix string) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		p := prefix + f.Tag.Get("koanf")
		switch {
		case f.Type.Kind() == reflect.Struct:
			out = append(out, paths(f.Type, p+".")...)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
		default:
			out = append(out, p)
		}
	}
	return out
}

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expand replaces ${NAME} in the settings that hold secrets, and only there: elsewhere a dollar sign is a dollar sign.
func (c *Config) expand(environ []string) error {
	values := map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		values[name] = value
	}
	secrets := map[string]*string{
		"database.url": &c.Database.URL, "redis.password": &c.Redis.Password,
		"redis.sentinel_password": &c.Redis.SentinelPassword, "encryption.master_key": &c.Encryption.MasterKey,
		"encryption.vault.token": &c.Encryption.Vault.Token,
		"smtp.password":          &c.SMTP.Password,
		"webhook.secret":         &c.Webhook.Secret,
	}
	for i := range c.Providers {
		secrets[fmt.Sprintf("providers[%d].api_key", i)] = &c.Providers[i].APIKey
	}
	var faults []error
	for path, at := range secrets {
		text, missing := *at, false
		*at = variable.ReplaceAllStringFunc(*at, func(m string) string {
			value, ok := values[m[2:len(m)-1]]
			if !ok {
				missing = true
				faults = append(faults, fmt.Errorf("%s: names %s, which is not in the environment; export it", path, m))
			}
			return value
		})
		if *at == "" && text != "" && !missing {
			faults = append(faults, fmt.Errorf("%s: %s is empty in the environment; set it, or leave the setting out", path, text))
		}
	}
	return errors.Join(faults...)
}

// FromProcess loads with this process's environment.
func FromProcess(file string, flags map[string]any) (Config, error) {
	return Load(Sources{File: file, Env: os.Environ(), Flags: flags}) //nolint:forbidigo // what it is for
}
