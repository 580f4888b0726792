package configs_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/promptgate/promptgate/configs"
)

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "promptgate.yaml")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func TestExampleIsTheDefaults(t *testing.T) {
	c, err := configs.Load(configs.Sources{File: "example.yaml"})
	require.NoError(t, err)
	require.Equal(t, configs.Default(), c)

	text, err := os.ReadFile("example.yaml")
	require.NoError(t, err)
	var tree map[string]any
	require.NoError(t, yaml.Unmarshal(text, &tree))
	for _, p := range configs.Paths() {
		at := any(tree)
		for _, name := range strings.Split(p, ".") {
			m, ok := at.(map[string]any)
			require.True(t, ok, "%s: not in example.yaml", p)
			require.Contains(t, m, name, "%s: not in example.yaml", p)
			at = m[name]
		}
	}
}

// Flags, environment and YAML mean the same thing: each setting, set to a value that is not its default through each source,
// gives the same Config.
func TestEverySourceMeansTheSame(t *testing.T) {
	for _, p := range configs.Paths() {
		value := otherValue(t, p)
		tree := map[string]any{}
		at := tree
		names := strings.Split(p, ".")
		for _, n := range names[:len(names)-1] {
			next := map[string]any{}
			at[n] = next
			at = next
		}
		at[names[len(names)-1]] = value
		text, err := yaml.Marshal(tree)
		require.NoError(t, err)
		fromFile, errFile := configs.Load(configs.Sources{File: write(t, string(text))})
		fromEnv, errEnv := configs.Load(configs.Sources{Env: []string{configs.EnvName(p) + "=" + value}})
		fromFlag, errFlag := configs.Load(configs.Sources{Flags: map[string]any{p: value}})
		require.Equal(t, fromFile, fromEnv, p)
		require.Equal(t, fromFile, fromFlag, p)
		require.Equal(t, errFile, errEnv, p)
		require.Equal(t, errFile, errFlag, p)
		require.NotEqual(t, configs.Default(), fromEnv, "%s: the value did not arrive", p)
	}
}

func otherValue(t *testing.T, path string) string {
	t.Helper()
	v := reflect.ValueOf(configs.Default())
	for _, name := range strings.Split(path, ".") {
		i := 0
		for v.Type().Field(i).Tag.Get("koanf") != name {
			i++
		}
		v = v.Field(i)
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		return "37ms"
	case v.Kind() == reflect.Bool:
		if v.Bool() {
			return "false"
		}
		return "true"
	case v.CanInt():
		return "1234567"
	case v.Type() == reflect.TypeFor[[]int]():
		return "30,3"
	case v.Kind() == reflect.Slice:
		return "127.0.0.1:7001,127.0.0.1:7002"
	}
	return "127.0.0.1:9999"
}

func TestEnvironmentNamesAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, p := range configs.Paths() {
		require.Empty(t, seen[configs.EnvName(p)], "%s and another setting share a variable", p)
		seen[configs.EnvName(p)] = p
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	name := write(t, `
adr: 1.2.3.4:80
log_level: loud
server: {max_in_flight: 0, drain_grace: soon}
redis: {addrs: ["nowhere"], cluster: true, master_name: m, password: p, password_file: /p, sentinel_password: p, sentinel_password_file: /p, cert_file: /c}
providers: [{name: "Bad Name", kind: gemini}, {name: o, kind: openai, base_url: "http://10.0.0.1/v1"}]
`)
	_, err := configs.Load(configs.Sources{File: name, Env: []string{"PROMPTGATE_LOGLEVEL=debug", "PROMPTGATE_URL=http://x"}})
	require.Error(t, err)
	for _, want := range []string{
		"adr", "log_level: is \"loud\"", "server.max_in_flight: is 0", "drain_grace", "redis.addrs[0]", "redis.cluster: excludes", "redis: sets password and password_file",
		"redis: sets sentinel_password and", "redis.cert_file: is set without", "redis: sets one of cert_file and key_file",
		"providers[0].name", "providers[0].kind", "providers[1].base_url", "providers[1].api_key", "PROMPTGATE_LOGLEVEL is no setting",
	} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "PROMPTGATE_URL")
}

func TestSentinelSettingsNeedSentinels(t *testing.T) {
	for _, setting := range []string{"sentinel_username: u, sentinel_password: p", "sentinel_password: p", "sentinel_password_file: /p"} {
		_, err := configs.Load(configs.Sources{File: write(t, "allow_plaintext: [redis]\nredis: {addrs: ['a:1'], "+setting+"}")})
		require.ErrorContains(t, err, "without redis.master_name")
		_, err = configs.Load(configs.Sources{File: write(t, "allow_plaintext: [redis]\nredis: {addrs: ['a:1'], master_name: m, "+setting+"}")})
		require.NoError(t, err)
	}
}

// requireFault requires an error that says want; none for "".
func requireFault(t *testing.T, want string, err error, about string) {
	t.Helper()
	if want == "" {
		require.NoError(t, err, about)
	} else {
		require.ErrorContains(t, err, want, about)
	}
}

// All of them are told at once, in whatever order they are looked at.
func TestEmptyAndMissingVariables(t *testing.T) {
	name := write(t, "redis: {addrs: ['a:1'], password: '${EMPTY}'}\ndatabase: {url: '${MISSING}'}")
	for range 20 {
		_, err := configs.Load(configs.Sources{File: name, Env: []string{"EMPTY="}})
		require.ErrorContains(t, err, "redis.password: ${EMPTY} is empty")
		require.ErrorContains(t, err, "${MISSING}, which is not in the environment")
		require.NotContains(t, err.Error(), "database.url: ${MISSING} is empty")
	}
}

// What would connect as somebody else than was meant is refused.
func TestUsersNeedPasswords(t *testing.T) {
	for setting, want := range map[string]string{
		"username: u":                                   "redis.username: is set without a password",
		"master_name: m, sentinel_username: u":          "redis.sentinel_username: is set without a password",
		"password: '${EMPTY}'":                          "redis.password: ${EMPTY} is empty",
		"master_name: m, sentinel_password: '${EMPTY}'": "redis.sentinel_password: ${EMPTY} is empty",
		"password: 'p${EMPTY}', username: u":            "",
	} {
		_, err := configs.Load(configs.Sources{File: write(t, "allow_plaintext: [redis]\nredis: {addrs: ['a:1'], "+setting+"}"), Env: []string{"EMPTY="}})
		requireFault(t, want, err, setting)
	}
}

func TestVariablesExpandInSecretsOnly(t *testing.T) {
	name := write(t, `
data: ./${HOME}
providers: [{name: o, kind: openai, base_url: "https://api.example.com/v1", api_key: "${THE_KEY}"}]
`)
	c, err := configs.Load(configs.Sources{File: name, Env: []string{"THE_KEY=sk-1", "HOME=/root"}})
	require.NoError(t, err)
	require.Equal(t, "sk-1", c.Providers[0].APIKey)
	require.Equal(t, "./${HOME}", c.Data)

	_, err = configs.Load(configs.Sources{File: name})
	require.ErrorContains(t, err, "${THE_KEY}, which is not in the environment")
}

func TestPriceListsAreRead(t *testing.T) {
	const before = `providers: [{name: o, kind: openai, base_url: "https://api.example.com/v1", api_key: k, price_list: {catalogue: none, prices: [{model: gpt-*, `
	c, err := configs.Load(configs.Sources{File: write(t, before+`from: 2026-01-31, until: "2026-07-01T08:00:00Z", input: 2.5, output: 10}]}}]`)})
	require.NoError(t, err)
	l := c.Providers[0].PriceList
	require.Equal(t, "none", l.Catalogue)
	require.Equal(t, []any{"gpt-*", configs.Moment("2026-01-31T00:00:00Z"), configs.Moment("2026-07-01T08:00:00Z"), 2.5, 10.0},
		[]any{l.Prices[0].Model, l.Prices[0].From, l.Prices[0].Until, *l.Prices[0].Input, *l.Prices[0].Output})
	require.Nil(t, l.Prices[0].CachedInput)
	for text, want := range map[string]string{
		"from: soon":  `providers[0].price_list.prices[0].from: is "soon"; write a day such as 2026-01-31`,
		"input: dear": "providers[0].price_list.prices[0].input: must be a number",
		"inputs: 1":   `unknown setting "providers[0].price_list.prices[0].inputs"`,
	} {
		_, err := configs.Load(configs.Sources{File: write(t, before+text+"}]}}]")})
		require.ErrorContains(t, err, want)
	}
}

func TestPostgresNeedsAMasterKey(t *testing.T) {
	_, err := configs.Load(configs.Sources{Env: []string{"PROMPTGATE_DATABASE_URL=postgres://h/db"}})
	require.ErrorContains(t, err, "no master key")
	c, err := configs.Load(configs.Sources{Env: []string{"PROMPTGATE_DATABASE_URL=postgres://h/db?sslmode=require", "PROMPTGATE_ENCRYPTION_MASTER_KEY_FILE=/k"}})
	require.NoError(t, err)
	require.Equal(t, c.Database.URL, c.LedgerURL())
}

func TestUnknownSettingsAreNamed(t *testing.T) {
	_, err := configs.Load(configs.Sources{File: write(t, `
adr: 127.0.0.1:8080
Data: ./x
max_body_bytes: 5
log_level: loud
server: {drain_grase: 3s, quux: 1}
server.idle_timeout: 3s
providers: [{name: a, kind: echo, latenzy: 1s}]
`)})
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	for _, want := range []string{
		`unknown setting "adr" (did you mean "addr"?)`,
		`unknown setting "Data" (did you mean "data"?)`,
		`unknown setting "max_body_bytes" (did you mean "server.max_body_bytes"?)`,
		`unknown setting "server.drain_grase" (did you mean "server.drain_grace"?)`,
		"unknown setting \"server.quux\" (`promptgate help config` lists them)",
		`unknown setting "server.idle_timeout" (indent it below its section instead of writing a dot)`,
		`unknown setting "providers[0].latenzy" (did you mean "providers[0].latency"?)`,
		`log_level: is "loud"; use one of debug, info, warn, error`,
	} {
		require.Contains(t, lines, want)
	}
	require.Len(t, lines, 8, "nothing twice: %s", err)
}

func TestWrongTypesAreNamed(t *testing.T) {
	_, err := configs.Load(configs.Sources{File: write(t, `
adr: 127.0.0.1:8080
addr: 5
demo: maybe
log_level: loud
encryption: c2VjcmV0
server: {max_in_flight: many, max_body_bytes: 1.5, drain_grace: soon, idle_timeout: 5, ping_interval: 1h}
redis: {addrs: {a: b}, password: 0123}
feedback: {allowed_origins: [x, [y]]}
spool: {max_bytes: 1e+09}
providers: [5, {name: [1], kind: gemini, latency: 1}]
`), Env: []string{"PROMPTGATE_REDIS_DB=first", "PROMPTGATE_USAGE_INJECT=nope"}})
	require.Error(t, err)
	require.Equal(t, `unknown setting "adr" (did you mean "addr"?)
addr: must be text; put it in quotes
demo: must be true or false
encryption: must be a section: write its settings below it, indented
feedback.allowed_origins[1]: must be text; put it in quotes
providers[0]: must be a section: write its settings below it, indented
providers[1].latency: must be a duration with its unit, such as 30s
providers[1].name: must be text; put it in quotes
redis.addrs: must be a list, such as [a, b]
redis.db: must be a whole number
redis.password: must be text; put it in quotes
server.drain_grace: must be a duration with its unit, such as 30s
server.idle_timeout: must be a duration with its unit, such as 30s
server.max_body_bytes: must be a whole number
server.max_in_flight: must be a whole number
usage.inject: must be true or false
log_level: is "loud"; use one of debug, info, warn, error
feedback.allowed_origins[0]: "x" is no origin as browsers send it; write https://app.example.com, without a path, or "*"
providers[1].kind: is "gemini"; use one of openai, anthropic, echo`, err.Error())

	for text, want := range map[string]string{
		"server: 5":                         "server: must be a section: write its settings below it, indented",
		"providers: 5":                      `providers: must be a list of sections, each starting with "- name: "`,
		"redis: {db: 99999999999999999999}": "redis.db: must be a whole number",
	} {
		_, err := configs.Load(configs.Sources{File: write(t, text)})
		require.EqualError(t, err, want)
	}
	for _, text := range []string{"- addr", "addr", "5"} {
		name := write(t, text)
		_, err := configs.Load(configs.Sources{File: name})
		require.EqualError(t, err, name+`: must be settings by name, one a line, such as "addr: 127.0.0.1:8080"`)
	}
}

func TestOriginsAreAsBrowsersSendThem(t *testing.T) {
	for origins, want := range map[string]string{
		"https://app.example.com,http://localhost:3000": "",
		"*":                         "",
		"*,https://app.example.com": "beside others",
		"https://app.example.com/":  "allowed_origins[0]",
		"https://App.example.com":   "allowed_origins[0]",
		"app.example.com":           "allowed_origins[0]",
		"ftp://app.example.com":     "allowed_origins[0]",
		"https://a.com,null":        "allowed_origins[1]",
		"https://u:p@a.com":         "allowed_origins[0]",
		"https://*.example.com":     "allowed_origins[0]",
	} {
		_, err := configs.Load(configs.Sources{Env: []string{"PROMPTGATE_FEEDBACK_ALLOWED_ORIGINS=" + origins}})
		requireFault(t, want, err, origins)
	}
}

// TestWhatBrowsersAndMailNeed refuses what would send a session or a link in plaintext, be believed by anybody, or not work.
func TestWhatBrowsersAndMailNeed(t *testing.T) {
	load := func(text string) error {
		_, err := configs.Load(configs.Sources{File: write(t, text)})
		return err
	}
	for text, want := range map[string]string{
		`server: {trusted_proxies: [10.0.0.1]}`:                                                 "server.trusted_proxies",
		`server: {trusted_proxies: [0.0.0.0/0]}`:                                                "server.trusted_proxies",
		`server: {trusted_proxies: ["::/0"]}`:                                                   "server.trusted_proxies",
		`console: {url: "http://promptgate.example.com"}`:                                       "unencrypted",
		`console: {url: "promptgate.example.com"}`:                                              "console.url",
		`console: {url: "https://promptgate.example.com/deep"}`:                                 "console.url",
		`console: {url: "https://a:b@promptgate.example.com"}`:                                  "console.url",
		`console: {session_idle: 200h}`:                                                         "console.session_idle",
		`smtp: {from: a@example.com}`:                                                           "smtp.addr",
		`smtp: {addr: "mail.example.com:587"}`:                                                  "smtp.from",
		`smtp: {addr: "mail.example.com:587", from: "A <a@example.com>"}`:                       "smtp.from",
		`smtp: {addr: "mail.example.com:587", from: a@example.com, username: u}`:                "one of username and password",
		`smtp: {addr: "mail.example.com:25", from: a@example.com, tls: none}`:                   "plaintext",
		`smtp: {addr: "mail.example.com:25", from: a@example.com, tls: maybe}`:                  "smtp.tls",
		`smtp: {addr: mail.example.com, from: a@example.com}`:                                   "smtp.addr",
		`smtp: {addr: "m:1", from: a@example.com, username: u, password: p, password_file: /p}`: "set one",
	} {
		require.ErrorContains(t, load(text), want, text)
	}
	require.NoError(t, load(`
server: {trusted_proxies: [10.0.0.0/8, 192.0.2.7/32, "fd00::/8"]}
console: {url: "https://promptgate.example.com/"}
smtp: {addr: "mail.example.com:587", from: a@example.com, username: u, password: p}
`))
	require.NoError(t, load(`smtp: {addr: "127.0.0.1:25", from: a@example.com, tls: none}`))
}
