package configs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sharedcache"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/metrics"
)

// program finds what Debian's package prometheus brings.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("this test needs %s: install Prometheus (Debian: apt-get install prometheus), or run `make tools`", name)
	}
	return path
}

func promtool(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command(program(t, "promtool"), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "promtool %s\n%s", strings.Join(args, " "), out)
}

func TestPrometheusConfiguration(t *testing.T) {
	promtool(t, "prometheus", "check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")
	promtool(t, "prometheus", "check", "rules", "--lint=all", "--lint-fatal", "rules.yml")
	promtool(t, "prometheus", "test", "rules", "rules_test.yml")

	var c struct {
		ScrapeConfigs []struct {
			JobName       string `yaml:"job_name"`
			StaticConfigs []struct{ Targets []string }
		} `yaml:"scrape_configs"`
		Global    map[string]string
		RuleFiles []string `yaml:"rule_files"`
	}
	text, err := os.ReadFile("prometheus/prometheus.yml")
	require.NoError(t, err)
	unmarshal(t, strings.ReplaceAll(string(text), "static_configs", "staticconfigs"), &c)
	require.Equal(t, "promptgate", c.ScrapeConfigs[0].JobName)
	services := readCompose(t).Services
	for _, target := range c.ScrapeConfigs[0].StaticConfigs[0].Targets {
		host, port, err := net.SplitHostPort(target)
		require.NoError(t, err)
		require.Contains(t, services, host)
		require.True(t, strings.HasSuffix(services[host].Environment["PROMPTGATE_OPS_ADDR"], ":"+port))
		require.Contains(t, services[host].Networks, "ops")
	}
	require.Len(t, c.ScrapeConfigs[0].StaticConfigs[0].Targets, 2)
	require.Contains(t, services["prometheus"].Networks, "ops")
}

type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Record, Alert, Expr, For string
			Labels, Annotations      map[string]string
		}
	}
}

// Every alert is seen firing, and seen quiet, in rules_test.yml.
func TestEveryAlertIsTested(t *testing.T) {
	var r rules
	readYAML(t, "prometheus/rules.yml", &r)
	var tests struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	text, err := os.ReadFile("prometheus/rules_test.yml")
	require.NoError(t, err)
	unmarshal(t, string(text), &tests)
	firing, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, a := range test.AlertRuleTest {
			firing[a.Alertname] = firing[a.Alertname] || len(a.ExpAlerts) > 0
			quiet[a.Alertname] = quiet[a.Alertname] || len(a.ExpAlerts) == 0
		}
	}
	alerts := 0
	for _, g := range r.Groups {
		for _, rule := range g.Rules {
			if rule.Alert == "" {
				continue
			}
			alerts++
			require.True(t, firing[rule.Alert] && quiet[rule.Alert], "rules_test.yml does not show %s both firing and quiet", rule.Alert)
			require.Contains(t, []string{"critical", "warning"}, rule.Labels["severity"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["description"], rule.Alert)
		}
	}
	require.Greater(t, alerts, 10)
}

// programCounters are registered in cmd itself, which a test cannot import; TestChartServes sees that it does.
var programCounters = []string{"promptgate_registry_refreshes_dropped_total", "promptgate_seal_key_age_seconds", "promptgate_seal_job_running", "promptgate_seal_job_remaining"}

// traffic is a gateway's real collectors; each scrape finds some more of everything.
type traffic struct {
	reg     *prometheus.Registry
	calls   *metrics.Collectors
	cache   *sharedcache.Cache
	scrapes atomic.Int64
}

func newTraffic(t *testing.T) *traffic {
	t.Helper()
	x := &traffic{reg: prometheus.NewRegistry()}
	var err error
	x.calls, err = metrics.NewCollectors(x.reg, metrics.CollectorOptions{})
	require.NoError(t, err)
	require.NoError(t, metrics.RegisterSpool(x.reg, func() metrics.SpoolStats {
		n := x.scrapes.Load()
		return metrics.SpoolStats{
			Bytes: 10, MaxBytes: 100, Segments: 1, OldestSeconds: 1, Records: 9 * n, Flushed: 8 * n, Refused: n, Damaged: n, FlushErrors: n,
		}
	}))
	require.NoError(t, metrics.RegisterLimits(x.reg, func() metrics.LimitStats {
		n := x.scrapes.Load()
		return metrics.LimitStats{Exchanges: 9 * n, Failed: n, Leases: 3, Refusals: map[string]int64{"usd": n, "requests": n}, Warnings: map[string]int64{"noted": n, "failed": n}}
	}))
	require.NoError(t, metrics.RegisterAccess(x.reg, func() metrics.AccessStats {
		n := x.scrapes.Load()
		return metrics.AccessStats{Uses: map[string]int64{"kept": 9 * n, "failed": n, "dropped": n},
			Notices: map[string]int64{"delivered": 9 * n, "failed": n, "dropped": n},
			Keys:    map[int]int{14: 3, 7: 2, 1: 1}, Bindings: map[int]int{14: 3, 7: 2, 1: 1}, Reviews: 1, Lines: 4,
		}
	}))
	confirmed := time.Now()
	require.NoError(t, metrics.RegisterFreshness(x.reg, x.scrapes.Load, func() time.Time { return confirmed }, time.Now))
	reads := metrics.NewReads()
	reads.Redis("label")
	reads.Database("label")
	require.NoError(t, reads.Register(x.reg, func() map[string]uint64 { return map[string]uint64{"label": uint64(x.scrapes.Load())} }))
	_, err = gateway.NewEvents(x.reg)
	require.NoError(t, err)
	circuits := metrics.NewCircuits()
	circuits.Changed("open")
	require.NoError(t, circuits.RegisterWith(x.reg, func(yield func(project, provider string, open float64)) { yield("", "openai", 1) }))
	for _, name := range programCounters {
		x.reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: "-"}, func() float64 { return float64(x.scrapes.Load()) }))
	}
	x.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	client, err := sharedcache.NewClient(sharedcache.Config{Addrs: []string{testenv.Redis(t).Addr}, Budget: time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	x.cache, err = sharedcache.New(sharedcache.Options{
		Client: client, Sealer: testenv.Sealer(t, testenv.Open(t, testenv.SQLite(t))), Revision: func() int64 { return 1 }, Registry: x.reg, Budget: time.Second,
	})
	require.NoError(t, err)
	x.more() // nothing is missing from the first scrape
	return x
}

func (x *traffic) more() {
	x.scrapes.Add(1)
	cost := int64(1500)
	call := metrics.Call{
		Project: "p", PromptID: "1", PromptName: "support/triage", Version: 3, Label: "production", Provider: "openai", Model: "gpt",
		Start: time.Now(), FirstToken: 200 * time.Millisecond, Total: time.Second, Overhead: time.Millisecond, Outcome: metrics.OutcomeOK,
		Tokens: metrics.Tokens{Input: 100, CachedInput: 40, Output: 20, Reported: true}, CostMicros: &cost, ModelListed: true,
	}
	x.calls.ObserveCall(&call)
	failed := call
	failed.Outcome = metrics.OutcomeTimeout
	x.calls.ObserveCall(&failed)
	unpriced := call
	unpriced.CostMicros, unpriced.Model = nil, "new"
	x.calls.ObserveCall(&unpriced)
	yes := true
	x.calls.ObserveFeedback(&metrics.Feedback{Project: "p", Name: "helpful", Bool: &yes}, &call)
	x.cache.Apply(journal.Change{Revision: 1, At: time.Now()})
	_, _ = sharedcache.Read(context.Background(), x.cache, sharedcache.Key{Kind: "version", ID: "1"}, true,
		func(context.Context) (string, error) { return "v", nil })
}

// ServeHTTP is /metrics.
func (x *traffic) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x.more()
	promhttp.HandlerFor(x.reg, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}

// names are the metrics of ours that the code registers, without the suffixes of histograms.
func (x *traffic) names(t *testing.T) []string {
	t.Helper()
	families, err := x.reg.Gather()
	require.NoError(t, err)
	var out []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "promptgate_") {
			out = append(out, f.GetName())
		}
	}
	return out
}

var metricName = regexp.MustCompile(`\bpromptgate_[a-z0-9_]+`)

// metricsIn are the names in an expression, without the suffixes of histograms.
func metricsIn(expr string) []string {
	var out []string
	for _, n := range metricName.FindAllString(expr, -1) {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			n = strings.TrimSuffix(n, suffix)
		}
		out = append(out, n)
	}
	return out
}

// undrawn are metrics that no dashboard needs, and why.
var undrawn = map[string]string{
	"promptgate_spool_segments":       "the bytes and the age say it better",
	"promptgate_seal_key_age_seconds": "it grows by a day each day; an alert of the operator's own says when it is too old",
	"promptgate_seal_job_running":     "promptgate seal status says more, to whoever started it",
	"promptgate_seal_job_remaining":   "promptgate seal status says more, to whoever started it",
}

// Names in dashboards and rules are those that the code registers, and every one of these is drawn.
func TestMetricNamesDoNotDrift(t *testing.T) {
	registered := newTraffic(t).names(t)
	require.Greater(t, len(registered), 20)
	drawn := map[string]bool{}
	for file, d := range allDashboards() {
		text, err := json.Marshal(d)
		require.NoError(t, err)
		for _, n := range metricsIn(string(text)) {
			require.Contains(t, registered, n, "%s names a metric that the code does not register", file)
			drawn[n] = true
		}
	}
	text, err := os.ReadFile("prometheus/rules.yml")
	require.NoError(t, err)
	for _, n := range metricsIn(string(text)) {
		require.Contains(t, registered, n, "rules.yml names a metric that the code does not register")
	}
	for _, n := range registered {
		require.True(t, drawn[n] || undrawn[n] != "", "%s is in no dashboard: draw it, or say in undrawn why not", n)
	}
	for n := range undrawn {
		require.Contains(t, registered, n)
		require.False(t, drawn[n], "%s is drawn: take it off the list", n)
	}
}

// Each panel's queries, each variable and each rule are run against a real Prometheus that scrapes the real collectors: all of them
// find something.
func TestQueriesAgainstPrometheus(t *testing.T) {
	p := startPrometheus(t, newTraffic(t))
	p.waitFor(t, `min(count_over_time(promptgate_calls_total{outcome="ok",model="gpt"}[1m])) >= 4`)

	everything := strings.NewReplacer("$__rate_interval", "1m", "$__range", "1m", "$project", ".*", "$prompt", ".*", "$label", ".*",
		"$version", ".*", "$instance", ".*")
	panels := 0
	for file, d := range allDashboards() {
		for _, o := range d["panels"].([]object) {
			targets, _ := o["targets"].([]object)
			for _, target := range targets {
				panels++
				at := file + ": " + o["title"].(string)
				expr := everything.Replace(target["expr"].(string))
				require.NotContains(t, expr, "$", at)
				series := p.query(t, expr)
				require.NotEmpty(t, series, "%s finds nothing: %s", at, expr)
				requireNumber(t, series, at+": "+expr)
				for _, label := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target["legendFormat"].(string), -1) {
					require.Contains(t, series[0].Metric, label[1], "%s: its legend names a label that the series have not", at)
				}
			}
		}
		for _, v := range d["templating"].(object)["list"].([]object) {
			definition, ok := v["definition"].(string)
			if !ok {
				continue
			}
			m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(everything.Replace(definition))
			require.Len(t, m, 3, definition)
			require.Contains(t, p.labelValues(t, m[1], m[2]), map[string]string{
				"project": "p", "prompt": "support/triage", "label": "production", "version": "3", "instance": p.target,
			}[m[2]], definition)
		}
	}
	require.Greater(t, panels, 40)

	var r rules
	readYAML(t, "prometheus/rules.yml", &r)
	for _, g := range r.Groups {
		for _, rule := range g.Rules {
			p.query(t, rule.Expr) // parses and evaluates against real labels: a many-to-many match would fail
		}
	}
}

func requireNumber(t *testing.T, series []sample, at string) {
	t.Helper()
	require.True(t, slices.ContainsFunc(series, func(s sample) bool {
		f, err := strconv.ParseFloat(s.Value[1].(string), 64)
		return err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
	}), "no number comes out of %s", at)
}

type sample struct {
	Metric map[string]string
	Value  [2]any
}

// server is a Prometheus of the test's own.
type server struct{ url, target string }

func startPrometheus(t *testing.T, metrics http.Handler) *server {
	t.Helper()
	bin := program(t, "prometheus")
	exposition := httptest.NewServer(metrics)
	t.Cleanup(exposition.Close)
	target := strings.TrimPrefix(exposition.URL, "http://")
	rulesFile, err := filepath.Abs("prometheus/rules.yml")
	require.NoError(t, err)
	dir := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}\nrule_files: [%q]\n"+
		"scrape_configs: [{job_name: promptgate, static_configs: [{targets: [%q]}]}]\n", rulesFile, target)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	addr := freeAddr(t)
	log := &strings.Builder{} // read only once the process has ended
	cmd := exec.Command(bin, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address="+addr)
	cmd.Dir, cmd.Stderr = dir, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	s := &server{url: "http://" + addr, target: target}
	require.Eventually(t, func() bool {
		resp, err := http.Get(s.url + "/-/ready")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, time.Minute, 50*time.Millisecond, "prometheus does not start")
	return s
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func (s *server) get(t *testing.T, path string, values url.Values, into any) {
	t.Helper()
	resp, err := http.Get(s.url + path + "?" + values.Encode())
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	require.Equal(t, "success", answer.Status, "%s: %s", values, answer.Error)
	require.NoError(t, json.Unmarshal(answer.Data, into))
}

func (s *server) query(t *testing.T, expr string) []sample {
	t.Helper()
	var data struct{ Result []sample }
	s.get(t, "/api/v1/query", url.Values{"query": {expr}}, &data)
	return data.Result
}

func (s *server) labelValues(t *testing.T, of, label string) []string {
	t.Helper()
	var values []string
	s.get(t, "/api/v1/label/"+label+"/values", url.Values{"match[]": {of}}, &values)
	sort.Strings(values)
	return values
}

func (s *server) waitFor(t *testing.T, expr string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(s.query(t, expr)) > 0 }, time.Minute, 100*time.Millisecond, expr)
}
