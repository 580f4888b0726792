package configs_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/internal/testenv"
)

// The tests of what deploys promptgate where no engine runs it: the Compose file is parsed, its gateways started as processes; the chart is
// in chart_test.go.

const nonroot = "65532:65532" // as in the Dockerfile

type service struct {
	Image, User, Restart string
	ReadOnly             bool     `yaml:"read_only"`
	CapDrop              []string `yaml:"cap_drop"`
	CapAdd               []string `yaml:"cap_add"`
	SecurityOpt          []string `yaml:"security_opt"`
	Privileged           bool
	Command, Entrypoint  []string
	Environment          map[string]string
	Volumes, Networks    []string
	Secrets, Ports       []string
	Tmpfs                []string
	DependsOn            map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck          struct {
		Test    []string
		Disable bool
		Retries int
	}
	StopGracePeriod time.Duration `yaml:"stop_grace_period"`
	Deploy          struct {
		Resources struct {
			Limits struct {
				CPUs   string `yaml:"cpus"`
				Memory string
				Pids   int
			}
		}
	}
	Build struct {
		Context string
		Args    map[string]string
	}
}

type composeFile struct {
	Services map[string]service
	Volumes  map[string]any
	Networks map[string]struct{ Internal bool }
	Secrets  map[string]struct{ File string }
}

func readCompose(t *testing.T) composeFile {
	t.Helper()
	text, err := os.ReadFile("compose/compose.yaml")
	require.NoError(t, err)
	var c composeFile
	unmarshal(t, string(text), &c)
	return c
}

func unmarshal(t *testing.T, text string, into any) {
	t.Helper()
	require.NoError(t, yaml.Unmarshal([]byte(text), into), text)
}

func TestComposeIsHardened(t *testing.T) {
	c := readCompose(t)
	require.ElementsMatch(t, []string{"gateway-1", "gateway-2", "postgres", "redis", "prometheus", "grafana"}, keysOf(c.Services))
	for name, s := range c.Services {
		require.True(t, s.ReadOnly, name)
		require.Equal(t, []string{"ALL"}, s.CapDrop, name)
		require.Empty(t, s.CapAdd, name)
		require.False(t, s.Privileged, name)
		require.Equal(t, []string{"no-new-privileges:true"}, s.SecurityOpt, name)
		require.Equal(t, "unless-stopped", s.Restart, name)
		uid, _, _ := strings.Cut(s.User, ":")
		require.Regexp(t, `^[1-9][0-9]*$`, uid, name)
		limits := s.Deploy.Resources.Limits
		require.True(t, limits.CPUs != "" && limits.Memory != "" && limits.Pids > 0, name)
		require.NotEmpty(t, s.Healthcheck.Test, name)
		require.Positive(t, s.Healthcheck.Retries, name)
		require.NotContains(t, s.Image, ":latest", name)
		for _, secret := range s.Secrets {
			require.Contains(t, c.Secrets, secret, name)
		}
		for _, network := range s.Networks {
			require.Contains(t, c.Networks, network, name)
		}
		for _, p := range s.Ports {
			require.Regexp(t, `^(127\.0\.0\.1|\$\{BIND:-127\.0\.0\.1\}):`, p, "%s is open to the network", name)
			require.NotRegexp(t, `^gateway.*:9090$`, name+p, "the ops port is published")
		}
		for _, v := range s.Volumes {
			from, to, _ := strings.Cut(v, ":")
			if strings.HasPrefix(from, ".") {
				require.DirExists(t, filepath.Join("compose", from), name)
				require.True(t, strings.HasSuffix(to, ":ro"), "%s may write to %s", name, from)
				continue
			}
			require.Contains(t, c.Volumes, from, name)
		}
	}
	require.True(t, c.Networks["data"].Internal)
	for _, name := range []string{"postgres", "redis"} {
		require.Equal(t, []string{"data"}, c.Services[name].Networks, name)
		require.Empty(t, c.Services[name].Ports, name)
	}
	require.Regexp(t, `^postgres:17`, c.Services["postgres"].Image)
	require.Regexp(t, `^redis:7`, c.Services["redis"].Image)
}

func TestComposeGateways(t *testing.T) {
	c := readCompose(t)
	one, two := c.Services["gateway-1"], c.Services["gateway-2"]
	require.Equal(t, []string{"gateway-1:/data"}, one.Volumes)
	require.Equal(t, []string{"gateway-2:/data"}, two.Volumes)
	require.NotEqual(t, one.Ports, two.Ports)
	two.Volumes, two.Ports = one.Volumes, one.Ports
	require.Equal(t, one, two, "the replicas differ in more than their volume and port")

	require.Equal(t, nonroot, one.User)
	require.FileExists(t, filepath.Join("compose", one.Build.Context, "Dockerfile"))
	dockerfile, err := os.ReadFile("../Dockerfile")
	require.NoError(t, err)
	require.Contains(t, string(dockerfile), "USER "+nonroot)
	for arg := range one.Build.Args {
		require.Contains(t, string(dockerfile), "ARG "+arg)
	}
	require.Empty(t, one.Command, "the image's own command is serve")

	cfg := loadCompose(t, one, nil)
	require.True(t, cfg.Postgres())
	require.Equal(t, "/data", cfg.Data)
	require.Equal(t, []string{"redis:6379"}, cfg.Redis.Addrs)
	require.GreaterOrEqual(t, one.StopGracePeriod, cfg.Server.DrainGrace+10*time.Second, "Compose kills before the drain is over")
	require.Equal(t, []string{"CMD", "promptgate", "ready", "--url", "http://127.0.0.1:9090"}, one.Healthcheck.Test)
	require.True(t, strings.HasSuffix(cfg.OpsAddr, ":9090"))
	for dependency := range one.DependsOn {
		require.Equal(t, "service_healthy", one.DependsOn[dependency].Condition)
		require.Contains(t, c.Services, dependency)
	}
}

// Without the variables that it requires, Compose refuses; with what secrets.sh writes, everything is there, once.
func TestComposeSecrets(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"secrets.sh", ".env.example"} {
		text, err := os.ReadFile(filepath.Join("compose", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o755))
	}
	run := func() map[string]string {
		out, err := exec.Command("sh", filepath.Join(dir, "secrets.sh")).CombinedOutput()
		require.NoError(t, err, string(out))
		made := map[string]string{}
		files, err := filepath.Glob(filepath.Join(dir, "secrets", "*"))
		require.NoError(t, err)
		for _, f := range append(files, filepath.Join(dir, ".env")) {
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			require.NotEmpty(t, text, f)
			made[filepath.Base(f)] = string(text)
			require.NotContains(t, string(out), strings.TrimSpace(string(text)))
		}
		return made
	}
	made := run()
	require.Equal(t, made, run(), "a second run changed what was there")
	info, err := os.Stat(filepath.Join(dir, "secrets"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	info, err = os.Stat(filepath.Join(dir, ".env"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	c := readCompose(t)
	for name, s := range c.Secrets {
		require.Equal(t, "./secrets/"+name, s.File)
		require.Contains(t, made, name)
	}
	env := dotenv(made[".env"])
	require.Regexp(t, `^[0-9a-f]{48}$`, env["REDIS_PASSWORD"])
	key, err := base64.StdEncoding.DecodeString(made["master_key"])
	require.NoError(t, err)
	require.Len(t, key, 32)

	// The gateway's URL and the passfile together give PostgreSQL's own password.
	cfg := loadCompose(t, c.Services["gateway-1"], env)
	require.Equal(t, env["REDIS_PASSWORD"], cfg.Redis.Password)
	url := strings.Replace(cfg.Database.URL, "/run/secrets/pgpass", filepath.Join(dir, "secrets", "pgpass"), 1)
	require.NotEqual(t, cfg.Database.URL, url)
	pg, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	require.Equal(t, made["postgres_password"], pg.Password)
	require.Equal(t, c.Services["postgres"].Environment["POSTGRES_USER"], pg.User)
	require.Equal(t, c.Services["postgres"].Environment["POSTGRES_DB"], pg.Database)

	ignored, err := os.ReadFile("compose/.gitignore")
	require.NoError(t, err)
	require.Subset(t, strings.Fields(string(ignored)), []string{"/.env", "/secrets/"})
}

// The gateways of the Compose file, started as processes against a real PostgreSQL and a real Redis: they come up at once, are healthy by the file's own check, and stop inside their grace.
func TestComposeGatewaysServe(t *testing.T) {
	const password = "hunter2hunter2"
	c := readCompose(t)
	addr := redisWithPassword(t, password)
	database := testenv.Postgres(t)
	key := filepath.Join(t.TempDir(), "master_key")
	require.NoError(t, os.WriteFile(key, []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))), 0o600))
	var running []*gatewayProcess
	for _, name := range []string{"gateway-1", "gateway-2"} {
		env := interpolated(t, c.Services[name].Environment, map[string]string{"REDIS_PASSWORD": password})
		env["PROMPTGATE_ENCRYPTION_MASTER_KEY_FILE"] = key
		env["PROMPTGATE_DATABASE_URL"], env["PROMPTGATE_REDIS_ADDRS"] = database, addr
		running = append(running, startGateway(t, env, []string{"serve"}))
	}
	for _, g := range running {
		g.waitReady(t, c.Services["gateway-1"].Healthcheck.Test)
		require.Contains(t, g.get(t, "/readyz?verbose"), `"name":"redis","ok":true`)
	}
	for _, g := range running {
		g.stop(t, c.Services["gateway-1"].StopGracePeriod)
	}
}

func redisWithPassword(t *testing.T, password string) (addr string) {
	t.Helper()
	addr = testenv.Redis(t).Addr
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	require.NoError(t, client.ConfigSet(context.Background(), "requirepass", password).Err())
	return addr
}

// The file's Redis takes its password by standard input and keeps nothing.
func TestComposeRedisCommand(t *testing.T) {
	s := readCompose(t).Services["redis"]
	require.Len(t, s.Command, 3)
	script := strings.ReplaceAll(s.Command[2], "$$", "$")
	require.Contains(t, script, "redis-server - ")
	addr := freeAddr(t)
	port := addr[strings.LastIndexByte(addr, ':')+1:]
	cmd := exec.Command(s.Command[0], s.Command[1], strings.Replace(script, "redis-server - ", "redis-server - --bind 127.0.0.1 --port "+port+" ", 1))
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "REDISCLI_AUTH=hunter2")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	ping := func(auth string) string {
		check := exec.Command("sh", "-c", strings.Replace(s.Healthcheck.Test[1], "redis-cli", "redis-cli -p "+port, 1)+" && echo healthy")
		check.Env = append(os.Environ(), "REDISCLI_AUTH="+auth)
		out, _ := check.Output()
		return strings.TrimSpace(string(out))
	}
	require.Eventually(t, func() bool { return ping("hunter2") == "healthy" }, 30*time.Second, 50*time.Millisecond)
	require.Empty(t, ping("wrong"), "Redis answers without its password")
	arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
	require.NoError(t, err)
	require.NotContains(t, string(arguments), "hunter2")

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), "who was told to stop was not Redis")
}

// loadCompose is the configuration that a service's environment makes.
func loadCompose(t *testing.T, s service, env map[string]string) configs.Config {
	t.Helper()
	if env == nil {
		env = map[string]string{"REDIS_PASSWORD": "x"}
	}
	var environ []string
	for k, v := range interpolated(t, s.Environment, env) {
		environ = append(environ, k+"="+v)
	}
	cfg, err := configs.Load(configs.Sources{Env: environ})
	require.NoError(t, err)
	return cfg
}

var interpolation = regexp.MustCompile(`\$\{(\w+):([-?])([^}]*)\}`)

// interpolated does what Compose does with ${NAME:-default} and ${NAME:?message}, the only forms in the file.
func interpolated(t *testing.T, environment, env map[string]string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for k, v := range environment {
		out[k] = interpolation.ReplaceAllStringFunc(v, func(m string) string {
			part := interpolation.FindStringSubmatch(m)
			if env[part[1]] != "" {
				return env[part[1]]
			}
			require.Equal(t, "-", part[2], "%s: %s", k, part[3])
			return part[3]
		})
		require.NotContains(t, out[k], "${", k)
	}
	return out
}

// Every variable of compose.yaml is in .env.example, and the other way round.
func TestComposeVariablesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("compose/compose.yaml")
	require.NoError(t, err)
	used := map[string]bool{}
	for _, m := range interpolation.FindAllStringSubmatch(string(text), -1) {
		used[m[1]] = true
	}
	example, err := os.ReadFile("compose/.env.example")
	require.NoError(t, err)
	require.ElementsMatch(t, keysOf(used), keysOf(dotenv(string(example))))
}

func dotenv(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			out[name] = value
		}
	}
	return out
}

func keysOf[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// gatewayBinary is the program itself, built once for all tests.
var gatewayBinary = sync.OnceValues(func() (string, error) {
	name := builtName("gateway")
	out, err := exec.Command("go", "build", "-pgo=off", "-o", name, "../cmd/promptgate").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return name, nil
})

func builtName(program string) string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("promptgate-%s-test-%d", program, os.Getpid()))
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, program := range []string{"gateway", "render"} {
		_ = os.Remove(builtName(program)) // where a test has built it
	}
	os.Exit(code)
}

// gatewayProcess is a gateway as a container would run it, but for the addresses and the folder.
type gatewayProcess struct {
	bin, ops string
	cmd      *exec.Cmd
	exited   chan error
	log      *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startGateway(t *testing.T, env map[string]string, args []string) *gatewayProcess {
	t.Helper()
	bin, err := gatewayBinary()
	require.NoError(t, err)
	g := &gatewayProcess{bin: bin, ops: freeAddr(t), exited: make(chan error, 1), log: &lockedBuffer{}}
	env["PROMPTGATE_ADDR"], env["PROMPTGATE_OPS_ADDR"], env["PROMPTGATE_DATA"] = "127.0.0.1:0", g.ops, t.TempDir()
	g.cmd = exec.Command(bin, args...)
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	g.cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // nothing of ours: a container has only what is written
	for k, v := range env {
		g.cmd.Env = append(g.cmd.Env, k+"="+v)
	}
	require.NoError(t, g.cmd.Start())
	go func() { g.exited <- g.cmd.Wait() }()
	t.Cleanup(func() {
		_ = g.cmd.Process.Kill()
		if t.Failed() {
			t.Log(g.log.String())
		}
	})
	return g
}

// waitReady runs a health check, with the address of its URL replaced, until it passes.
func (g *gatewayProcess) waitReady(t *testing.T, check []string) {
	t.Helper()
	require.Equal(t, []string{"CMD", "promptgate"}, check[:2])
	args := slices.Clone(check[2:])
	args[len(args)-1] = "http://" + g.ops
	deadline := time.Now().Add(time.Minute)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		out, err := exec.CommandContext(ctx, g.bin, args...).CombinedOutput()
		cancel()
		if err == nil {
			require.Equal(t, "ready\n", string(out))
			return
		}
		var exit *exec.ExitError
		require.True(t, errors.As(err, &exit) && exit.ExitCode() == 1, "%v: %s", err, out)
		select {
		case err := <-g.exited:
			g.exited <- err
			t.Fatalf("the gateway ended: %v\n%s", err, g.log)
		case <-time.After(50 * time.Millisecond):
		}
		require.True(t, time.Now().Before(deadline), "not healthy: %s", out)
	}
}

func (g *gatewayProcess) get(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + g.ops + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, b.String())
	return b.String()
}

// stop sends what Docker and Kubernetes send; the process must end well within its grace.
func (g *gatewayProcess) stop(t *testing.T, grace time.Duration) {
	t.Helper()
	require.NoError(t, g.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-g.exited:
		require.NoError(t, err, g.log.String())
	case <-time.After(grace):
		t.Fatal("the grace is over and the gateway still runs")
	}
	for line := range strings.Lines(g.log.String()) {
		require.True(t, json.Valid([]byte(line)), "log_format is json: %s", line)
	}
}
