package configs_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/internal/testenv"
)

const chart = "helm/promptgate"

// renderBinary is Helm's engine, built once; it is a module of its own, see internal/testenv/helm/go.mod.
var renderBinary = sync.OnceValues(func() (string, error) {
	name := builtName("render")
	cmd := exec.Command("go", "build", "-o", name, ".")
	cmd.Dir = "../internal/testenv/helm"
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return name, nil
})

// render is `helm template` with values; it gives Helm's error, or the manifests and the notes.
func render(t *testing.T, values string) (manifests []manifest, notes string, err error) {
	t.Helper()
	bin, err := renderBinary()
	require.NoError(t, err)
	cmd := exec.Command(bin, chart, write(t, values))
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return nil, "", errors.New(stderr.String())
	}
	var files map[string]string
	require.NoError(t, json.Unmarshal(out.Bytes(), &files))
	for _, name := range keysOf(files) {
		if strings.HasSuffix(name, "NOTES.txt") {
			notes = files[name]
			continue
		}
		d := yaml.NewDecoder(strings.NewReader(files[name]))
		for {
			var m map[string]any // plain, so that what is nested is plain too
			err := d.Decode(&m)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, "%s\n%s", name, files[name])
			if m != nil {
				manifests = append(manifests, m)
			}
		}
	}
	return manifests, notes, nil
}

func mustRender(t *testing.T, values string) []manifest {
	t.Helper()
	m, notes, err := render(t, values)
	require.NoError(t, err)
	require.Contains(t, notes, "key create --local --init")
	return m
}

// manifest is a Kubernetes object.
type manifest map[string]any

// at walks a path such as spec.template.spec.containers.0.env; what is not there fails the test.
func (m manifest) at(t *testing.T, path string) any {
	t.Helper()
	var v any = map[string]any(m)
	for name := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			i := 0
			_, err := fmt.Sscan(name, &i)
			require.True(t, err == nil && i < len(x), "%s: no %s", path, name)
			v = x[i]
		default:
			t.Fatalf("%s: nothing at %s", path, name)
		}
	}
	require.NotNil(t, v, "%s %s: nothing at %s", m["kind"], m["metadata"], path)
	return v
}

func (m manifest) seconds(t *testing.T, path string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(fmt.Sprint(m.at(t, path), "s"))
	require.NoError(t, err)
	return d
}

func (m manifest) has(path string) bool {
	var v any = map[string]any(m)
	for name := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		default:
			return false
		}
	}
	return v != nil
}

func find(t *testing.T, all []manifest, kind string) manifest {
	t.Helper()
	i := slices.IndexFunc(all, func(m manifest) bool { return m["kind"] == kind })
	require.GreaterOrEqual(t, i, 0, "no %s", kind)
	return all[i]
}

func kinds(all []manifest) []string {
	var out []string
	for _, m := range all {
		out = append(out, m["kind"].(string))
	}
	slices.Sort(out)
	return out
}

const (
	least = "database: {existingSecret: db}\nmasterKey: {existingSecret: mk}\n"
	full  = least + `
redis: {addrs: ["redis.cache.svc:6379"], username: gate, tls: false, existingSecret: redis-secret}
allowPlaintext: [listener, redis]
providers:
  - {name: openai, kind: openai, base_url: "https://api.openai.com/v1", models: ["gpt-*"], existingSecret: openai, key: api-key, timeout: 90s}
  - {name: local, kind: openai, base_url: "http://vllm.models.svc/v1", allow_private: true, existingSecret: vllm, key: token}
  - {name: echo, kind: echo, latency: 5ms}
console: {url: "https://promptgate.example.com"}
smtp: {addr: "smtp.example.com:587", from: promptgate@example.com, username: gate, existingSecret: mail}
config:
  log_level: debug
  stale: {prompts: 12h}
  server: {max_in_flight: 500}
  database: {max_open_conns: 7}
drain: {preStopSeconds: 7, drainSeconds: 120}
metrics: {podMonitor: {enabled: true, labels: {release: prom}}}
image: {repository: registry.example.com/promptgate, digest: "sha256:` + digest + `"}
imagePullSecrets: [{name: pull}]
networkPolicy: {callers: [{namespaceSelector: {}}], scrapers: [{namespaceSelector: {matchLabels: {name: monitoring}}}], extraEgress: [{ports: [{port: 80}]}]}
serviceAccount: {annotations: {a: b}}
podLabels: {team: ai}
podAnnotations: {note: x}
nodeSelector: {disk: ssd}
tolerations: [{operator: Exists}]
affinity: {nodeAffinity: {}}
priorityClassName: high
persistence: {storageClassName: fast}
service: {annotations: {a: b}}
`
	digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func TestChartKinds(t *testing.T) {
	always := []string{"ConfigMap", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Service", "Service", "ServiceAccount", "StatefulSet"}
	require.Equal(t, always, kinds(mustRender(t, least)))
	require.Equal(t, []string{"ConfigMap", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor", "Service", "Service",
		"ServiceAccount", "StatefulSet"}, kinds(mustRender(t, full)))

	bare := mustRender(t, least+"autoscaling: {enabled: false}\npodDisruptionBudget: {enabled: false}\nnetworkPolicy: {enabled: false}\n"+
		"serviceAccount: {create: false}\nreplicaCount: 3\n")
	require.Equal(t, []string{"ConfigMap", "Service", "Service", "StatefulSet"}, kinds(bare))
	require.Equal(t, 3, find(t, bare, "StatefulSet").at(t, "spec.replicas"))
	require.False(t, find(t, mustRender(t, least), "StatefulSet").has("spec.replicas"), "replicas would fight with the autoscaler")
}

func TestChartPod(t *testing.T) {
	for name, values := range map[string]string{"least": least, "full": full} {
		t.Run(name, func(t *testing.T) {
			all := mustRender(t, values)
			s := find(t, all, "StatefulSet")
			const pod, container = "spec.template.spec.", "spec.template.spec.containers.0."
			require.Equal(t, map[string]any{
				"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532, "fsGroupChangePolicy": "OnRootMismatch",
				"seccompProfile": map[string]any{"type": "RuntimeDefault"},
			}, s.at(t, pod+"securityContext"))
			require.Equal(t, map[string]any{
				"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": map[string]any{"drop": []any{"ALL"}},
			}, s.at(t, container+"securityContext"))
			require.Equal(t, false, s.at(t, pod+"automountServiceAccountToken"))
			require.Equal(t, false, s.at(t, pod+"enableServiceLinks"))

			ports := map[string]int{}
			for _, p := range s.at(t, container+"ports").([]any) {
				ports[p.(map[string]any)["name"].(string)] = p.(map[string]any)["containerPort"].(int)
			}
			cfg := chartConfig(t, all)
			require.True(t, strings.HasSuffix(cfg.Addr, fmt.Sprintf(":%d", ports["http"])))
			require.True(t, strings.HasSuffix(cfg.OpsAddr, fmt.Sprintf(":%d", ports["ops"])))
			for probe, path := range map[string]string{"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"} {
				require.Equal(t, map[string]any{"path": path, "port": "ops"}, s.at(t, container+probe+".httpGet"), probe)
				require.Greater(t, s.at(t, container+probe+".timeoutSeconds"), 1, "/readyz takes up to a second")
			}
			grace := s.seconds(t, pod+"terminationGracePeriodSeconds")
			sleep := s.seconds(t, container+"lifecycle.preStop.sleep.seconds")
			require.GreaterOrEqual(t, grace, sleep+cfg.Server.DrainGrace+10*time.Second)

			mounts := map[string]string{}
			for _, m := range s.at(t, container+"volumeMounts").([]any) {
				mounts[m.(map[string]any)["name"].(string)] = m.(map[string]any)["mountPath"].(string)
			}
			require.Equal(t, cfg.Data, mounts["data"])
			require.Equal(t, filepath.Dir(cfg.Encryption.MasterKeyFile), mounts["master-key"])
			volumes := []string{s.at(t, "spec.volumeClaimTemplates.0.metadata.name").(string)}
			for _, v := range s.at(t, pod+"volumes").([]any) {
				volumes = append(volumes, v.(map[string]any)["name"].(string))
			}
			require.ElementsMatch(t, volumes, keysOf(mounts))
			require.Equal(t, map[string]any{"whenDeleted": "Retain", "whenScaled": "Retain"}, s.at(t, "spec.persistentVolumeClaimRetentionPolicy"))

			for i, c := range s.at(t, pod+"topologySpreadConstraints").([]any) {
				require.Equal(t, s.at(t, "spec.selector"), c.(map[string]any)["labelSelector"], i)
			}
		})
	}
}

// Objects point at each other by names and labels that exist.
func TestChartReferences(t *testing.T) {
	all := mustRender(t, full)
	s := find(t, all, "StatefulSet")
	name := s.at(t, "metadata.name")
	selector := s.at(t, "spec.selector.matchLabels").(map[string]any)
	labels := s.at(t, "spec.template.metadata.labels").(map[string]any)
	require.Subset(t, labels, selector)
	require.Equal(t, "ai", labels["team"])
	var serviceNames []any
	for _, m := range all {
		require.NotContains(t, m["metadata"], "namespace", "helm sets it")
		require.Subset(t, m.at(t, "metadata.labels"), selector, m["kind"])
		switch m["kind"] {
		case "Service":
			serviceNames = append(serviceNames, m.at(t, "metadata.name"))
			require.Equal(t, selector, m.at(t, "spec.selector"))
			require.Contains(t, []any{"http", "ops"}, m.at(t, "spec.ports.0.targetPort"))
			if !m.has("spec.clusterIP") {
				require.Len(t, m.at(t, "spec.ports"), 1)
				require.Equal(t, "http", m.at(t, "spec.ports.0.targetPort"), "the ops port is no caller's business")
			}
		case "PodDisruptionBudget", "PodMonitor":
			require.Equal(t, selector, m.at(t, "spec.selector.matchLabels"))
		case "NetworkPolicy":
			require.Equal(t, selector, m.at(t, "spec.podSelector.matchLabels"))
			require.Equal(t, []any{"Ingress", "Egress"}, m.at(t, "spec.policyTypes"))
			require.Equal(t, []any{map[string]any{"port": 5432, "protocol": "TCP"}, map[string]any{"port": 6379, "protocol": "TCP"}}, m.at(t, "spec.egress.1.ports"))
			require.Contains(t, m.at(t, "spec.egress.2.to.0.ipBlock.except"), "169.254.0.0/16")
		case "HorizontalPodAutoscaler":
			require.Equal(t, map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name}, m.at(t, "spec.scaleTargetRef"))
			require.True(t, s.has("spec.template.spec") && strings.Contains(fmt.Sprint(s.at(t, "spec.template.spec.containers.0.resources.requests")), "cpu"),
				"utilization is of the request")
		}
	}
	require.Contains(t, serviceNames, s.at(t, "spec.serviceName"))
	require.Equal(t, find(t, all, "ServiceAccount").at(t, "metadata.name"), s.at(t, "spec.template.spec.serviceAccountName"))
	require.Equal(t, "registry.example.com/promptgate@sha256:"+digest, s.at(t, "spec.template.spec.containers.0.image"))
	require.Equal(t, find(t, all, "ConfigMap").at(t, "metadata.name"), s.at(t, "spec.template.spec.volumes.0.configMap.name"))

	other := find(t, mustRender(t, strings.Replace(full, "log_level: debug", "log_level: warn", 1)), "StatefulSet")
	sum := "spec.template.metadata.annotations"
	require.NotEqual(t, s.at(t, sum).(map[string]any)["checksum/config"], other.at(t, sum).(map[string]any)["checksum/config"],
		"a changed configuration must restart the pods")
}

// chartEnv is the container's environment; secrets get placeholders of their own.
func chartEnv(t *testing.T, all []manifest) (env map[string]string, secrets map[string]string) {
	t.Helper()
	env, secrets = map[string]string{}, map[string]string{}
	for _, e := range find(t, all, "StatefulSet").at(t, "spec.template.spec.containers.0.env").([]any) {
		v := e.(map[string]any)
		name := v["name"].(string)
		if value, inline := v["value"]; inline {
			env[name] = value.(string)
			continue
		}
		ref := manifest(v).at(t, "valueFrom.secretKeyRef").(map[string]any)
		secrets[name] = ref["name"].(string) + "/" + ref["key"].(string)
		env[name] = "placeholder"
		if name == "DATABASE_URL" {
			env[name] = "postgres://u:p@db/promptgate?sslmode=verify-full"
		}
	}
	return env, secrets
}

// chartConfig is the Config that the chart's file and environment make.
func chartConfig(t *testing.T, all []manifest) configs.Config {
	t.Helper()
	env, _ := chartEnv(t, all)
	var environ []string
	for k, v := range env {
		environ = append(environ, k+"="+v)
	}
	file := write(t, find(t, all, "ConfigMap").at(t, "data").(map[string]any)["promptgate.yaml"].(string))
	cfg, err := configs.Load(configs.Sources{File: file, Env: environ})
	require.NoError(t, err)
	return cfg
}

func TestChartConfiguration(t *testing.T) {
	cfg := chartConfig(t, mustRender(t, least))
	require.True(t, cfg.Postgres())
	require.Empty(t, cfg.Redis.Addrs)
	require.Equal(t, "json", cfg.LogFormat)
	require.Empty(t, cfg.Providers)

	all := mustRender(t, full)
	cfg = chartConfig(t, all)
	require.Equal(t, []string{"redis.cache.svc:6379"}, cfg.Redis.Addrs)
	require.Equal(t, "placeholder", cfg.Redis.Password)
	require.Equal(t, "gate", cfg.Redis.Username)
	require.Equal(t, 2*time.Minute, cfg.Server.DrainGrace)
	require.Equal(t, 500, cfg.Server.MaxInFlight)
	require.Equal(t, 12*time.Hour, cfg.Stale.Prompts)
	require.Equal(t, time.Hour, cfg.Stale.Keys)
	require.Equal(t, 7, cfg.Database.MaxOpenConns)
	require.Equal(t, "debug", cfg.LogLevel)
	require.Equal(t, "https://promptgate.example.com", cfg.Console.URL)
	require.Equal(t, configs.SMTP{Addr: "smtp.example.com:587", From: "promptgate@example.com", Username: "gate", Password: "placeholder", TLS: configs.SMTPStartTLS}, cfg.SMTP)
	require.Equal(t, []configs.Provider{
		{Name: "openai", Kind: "openai", BaseURL: "https://api.openai.com/v1", APIKey: "placeholder", Models: []string{"gpt-*"}, Timeout: 90 * time.Second},
		{Name: "local", Kind: "openai", BaseURL: "http://vllm.models.svc/v1", APIKey: "placeholder", AllowPrivate: true},
		{Name: "echo", Kind: "echo", Latency: 5 * time.Millisecond},
	}, cfg.Providers)

	// Each secret comes from its own Secret, and none is in a manifest.
	env, secrets := chartEnv(t, all)
	require.Equal(t, map[string]string{
		"DATABASE_URL": "db/url", "REDIS_PASSWORD": "redis-secret/password", "SMTP_PASSWORD": "mail/password", "PROVIDER_0_API_KEY": "openai/api-key", "PROVIDER_1_API_KEY": "vllm/token",
	}, secrets)
	require.NotContains(t, kinds(all), "Secret")
	for name := range env {
		if regexp.MustCompile(`KEY|PASSWORD|SECRET|TOKEN|URL`).MatchString(name) {
			require.Contains(t, secrets, name, "%s is written in the manifest", name)
		}
	}
	volumes := find(t, all, "StatefulSet").at(t, "spec.template.spec.volumes.1.secret").(map[string]any)
	require.Equal(t, "mk", volumes["secretName"])
	require.Equal(t, 0o400, volumes["defaultMode"])
}

func TestChartSentinel(t *testing.T) {
	all := mustRender(t, least+`
redis:
  {addrs: ["a:26379", "b:26379"], masterName: cache, existingSecret: r, sentinelUsername: s, sentinelKey: sentinel-password, tls: true,
   caFile: /tls/ca.pem, certFile: /tls/cert.pem, keyFile: /tls/key.pem}`)
	_, secrets := chartEnv(t, all)
	require.Equal(t, map[string]string{
		"DATABASE_URL": "db/url", "REDIS_PASSWORD": "r/password", "SENTINEL_PASSWORD": "r/sentinel-password",
	}, secrets)
	want := configs.Default().Redis
	want.Addrs, want.MasterName, want.Password = []string{"a:26379", "b:26379"}, "cache", "placeholder"
	want.SentinelUsername, want.SentinelPassword = "s", "placeholder"
	want.TLS, want.CAFile, want.CertFile, want.KeyFile = true, "/tls/ca.pem", "/tls/cert.pem", "/tls/key.pem"
	require.Equal(t, want, chartConfig(t, all).Redis)
}

func TestChartRefuses(t *testing.T) {
	for values, says := range map[string]string{
		"":                               "existingSecret",
		"database: {existingSecret: db}": "masterKey",
		least + "databse: {}":            "databse",
		least + "config: {database: {url: 'postgres://u:secret@db/x'}}":                                        "url",
		least + "config: {redis: {password: secret}}":                                                          "redis",
		least + "config: {encryption: {master_key: c2VjcmV0}}":                                                 "encryption",
		least + "config: {providers: [{name: a}]}":                                                             "providers",
		least + "config: {server: {drain_grace: 10m}}":                                                         "drain_grace",
		least + "config: {demo: true}":                                                                         "demo",
		least + "providers: [{name: a, kind: openai, base_url: 'https://a/v1', api_key: sk-1}]":                "api_key",
		least + "providers: [{name: a, kind: openai, base_url: 'https://a/v1'}]":                               "existingSecret",
		least + "redis: {addrs: [redis], existingSecret: r}":                                                   "addrs",
		least + "redis: {addrs: ['s:1'], masterName: m, sentinelKey: k}":                                       "existingSecret",
		least + "redis: {addrs: ['s:1'], existingSecret: r, sentinelKey: k}":                                   "masterName",
		least + "redis: {addrs: ['s:1'], existingSecret: r, masterName: m, sentinelKey: 'a key'}":              "sentinelKey",
		least + "redis: {addrs: ['s:1'], existingSecret: r, masterName: m, sentinelUsername: u}":               "sentinelKey",
		least + "redis: {addrs: ['s:1'], username: u}":                                                         "existingSecret",
		least + "redis: {addrs: ['s:1'], tls: true, certFile: /c}":                                             "keyFile",
		least + "redis: {addrs: ['s:1'], certFile: /c, keyFile: /k}":                                           "tls",
		least + "smtp: {addr: 'm:587', from: a@b.c, username: u}":                                              "existingSecret",
		least + "smtp: {addr: 'm:587', from: a@b.c, username: u, password: secret}":                            "password",
		least + "config: {smtp: {password: secret}}":                                                           "smtp",
		least + "console: {url: 'http://promptgate.example.com'}":                                              "url",
		least + "autoscaling: {minReplicas: 5, maxReplicas: 2}":                                                "maxReplicas",
		least + "podDisruptionBudget: {maxUnavailable: 0}":                                                     "maxUnavailable",
		least + "drain: {drainSeconds: 0}":                                                                     "drainSeconds",
		strings.Replace(least, "existingSecret: db", "existingSecret: db, url: 'postgres://u:secret@db/x'", 1): "url",
	} {
		_, _, err := render(t, values)
		require.Error(t, err, values)
		require.Contains(t, err.Error(), says, values)
	}
}

// The chart's arguments, environment and file, given to the real binary against a real PostgreSQL and Redis: it comes up, knows every
// metric that the dashboards' test knows, makes a first key as the notes say, and stops inside its grace.
func TestChartServes(t *testing.T) {
	all := mustRender(t, full)
	env, _ := chartEnv(t, all)
	env["PROMPTGATE_CONFIG"] = write(t, find(t, all, "ConfigMap").at(t, "data").(map[string]any)["promptgate.yaml"].(string))
	env["DATABASE_URL"] = testenv.Postgres(t)
	env["PROMPTGATE_REDIS_ADDRS"], env["PROMPTGATE_REDIS_USERNAME"] = redisWithPassword(t, "placeholder"), "default"
	env["PROMPTGATE_ENCRYPTION_MASTER_KEY_FILE"] = write(t, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{9}, 32)))
	var args []string
	for _, a := range find(t, all, "StatefulSet").at(t, "spec.template.spec.containers.0.args").([]any) {
		args = append(args, a.(string))
	}
	g := startGateway(t, env, args)
	g.waitReady(t, []string{"CMD", "promptgate", "ready", "--url", ""})
	require.Equal(t, "ok\n", g.get(t, "/livez"))
	for _, check := range []string{"database", "redis", "spool"} {
		require.Contains(t, g.get(t, "/readyz?verbose"), `"name":"`+check+`","ok":true`)
	}

	known := newTraffic(t).names(t)
	served := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (promptgate_\w+)`).FindAllStringSubmatch(g.get(t, "/metrics"), -1) {
		require.Contains(t, known, m[1], "the program serves a metric that newTraffic of prometheus_test.go does not know: add it there, and to a dashboard")
		served[m[1]] = true
	}
	require.True(t, served["promptgate_registry_age_seconds"] && served["promptgate_shared_cache_breaker_open"] && served["promptgate_spool_bytes"])

	for _, name := range programCounters {
		require.True(t, served[name], "programCounters lists %s, which the program does not serve", name)
	}

	create := exec.Command(g.bin, "key", "create", "--local", "--init", "--role", "admin", "first") // as NOTES.txt and the READMEs say
	create.Env = g.cmd.Env
	out, err := create.Output()
	require.NoError(t, err)
	require.Regexp(t, `^pg_\S+\n$`, string(out))
	g.stop(t, find(t, all, "StatefulSet").seconds(t, "spec.template.spec.terminationGracePeriodSeconds"))
}

// A Service called promptgate would put these into the pod's environment; the chart's enableServiceLinks: false keeps them out.
func TestServiceLinksWouldStopTheStart(t *testing.T) {
	_, err := configs.Load(configs.Sources{Env: []string{"PROMPTGATE_SERVICE_HOST=10.0.0.1"}})
	require.ErrorContains(t, err, "PROMPTGATE_SERVICE_HOST")
}
