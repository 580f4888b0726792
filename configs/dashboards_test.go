package configs_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// The dashboards are made here, so that their panels cannot drift apart in style, and committed as Grafana reads them:
//
//	go test ./configs -run TestDashboardsAreCommitted -update
var update = flag.Bool("update", false, "write configs/grafana/dashboards")

const dashboards = "grafana/dashboards"

// query is one line of a panel; legend names its series.
type query struct{ expr, legend string }

// panel is one drawing, 8 units high; width is of 24.
type panel struct {
	title, unit, about string
	width              int
	stat               bool
	queries            []query
}

// row is a line of panels under a heading.
type row struct {
	title  string
	panels []panel
}

const (
	byVersion = "prompt, version"
	faults    = `outcome=~"provider|timeout|truncated|internal"`
	here      = `project=~"$project",prompt=~"$prompt",label=~"$label",version=~"$version"`
	instance  = `instance=~"$instance"`
)

// rate is sum by (by) (rate(metric{selector}[…])).
func rate(by, metric, selector string) string {
	return "sum by (" + by + ") (rate(" + metric + "{" + selector + "}[$__rate_interval]))"
}

// quantiles are lines for some quantiles of a histogram.
func quantiles(by, metric, selector, legend string, qs ...string) []query {
	var out []query
	for _, q := range qs {
		out = append(out, query{
			"histogram_quantile(0." + q + ", " + rate(by+", le", metric+"_bucket", selector) + ")", legend + " p" + q,
		})
	}
	return out
}

func one(expr, legend string) []query { return []query{{expr, legend}} }

func promptRows() []row {
	const v = "{{prompt}} v{{version}}"
	calls := func(by, more string) string { return rate(by, "promptgate_calls_total", here+more) }
	inRange := func(metric string) string { return "sum(increase(" + metric + "{" + here + "}[$__range]))" }
	return []row{
		{"In this range", []panel{
			{title: "Calls", unit: "short", width: 6, stat: true, queries: one(inRange("promptgate_calls_total"), "")},
			{title: "Cost", unit: "currencyUSD", width: 6, stat: true, queries: one(inRange("promptgate_cost_usd_total"), "")},
			{
				title: "Calls without a price", unit: "short", width: 6, stat: true, about: "They are missing from the cost.",
				queries: one(inRange("promptgate_unpriced_calls_total"), ""),
			},
			{title: "Scores", unit: "short", width: 6, stat: true, queries: one(inRange("promptgate_feedback_total"), "")},
		}},
		{"Calls", []panel{
			{title: "Calls by version", unit: "reqps", width: 8, queries: one(calls(byVersion, ""), v)},
			{
				title: "Errors by version", unit: "percentunit", width: 8,
				about:   "Faults of the provider, timeouts, cut streams and faults of the gateway. Refusals and cancelled calls are the caller's.",
				queries: one(calls(byVersion, ","+faults)+" / "+calls(byVersion, ""), v),
			},
			{title: "Calls by outcome", unit: "reqps", width: 8, queries: one(calls("outcome", ""), "{{outcome}}")},
		}},
		{"Time", []panel{
			{title: "Duration", unit: "s", width: 12, queries: quantiles(byVersion, "promptgate_call_duration_seconds", here, v, "50", "95")},
			{
				title: "Time to first token", unit: "s", width: 12,
				queries: quantiles(byVersion, "promptgate_time_to_first_token_seconds", here, v, "50", "95"),
			},
		}},
		{"Tokens and cost", []panel{
			{
				title: "Tokens for each call", unit: "short", width: 8,
				queries: one(rate(byVersion+", kind", "promptgate_tokens_total", here+`,kind=~"input|output"`)+
					" / on (prompt, version) group_left () "+calls(byVersion, ""), v+" {{kind}}"),
			},
			{
				title: "Input served from the provider's cache", unit: "percentunit", width: 8,
				queries: one(rate(byVersion, "promptgate_tokens_total", here+`,kind="cached_input"`)+
					" / "+rate(byVersion, "promptgate_tokens_total", here+`,kind="input"`), v),
			},
			{
				title: "Cost of 1,000 calls", unit: "currencyUSD", width: 8,
				queries: one("1000 * "+rate(byVersion, "promptgate_cost_usd_total", here)+" / "+calls(byVersion, ""), v),
			},
			{title: "Cost in an hour, by model", unit: "currencyUSD", width: 12, queries: one("3600 * "+rate("model", "promptgate_cost_usd_total", here), "{{model}}")},
			{
				title: "Calls without a price, by model", unit: "reqps", width: 12,
				queries: one(rate("model", "promptgate_unpriced_calls_total", here), "{{model}}"),
			},
		}},
		{"Feedback", []panel{
			{
				title: "Mean score", unit: "short", width: 12, about: "Yes counts 1 and no 0.",
				queries: one(rate(byVersion+", name", "promptgate_feedback_score_sum", here)+" / "+
					rate(byVersion+", name", "promptgate_feedback_score_count", here), v+" {{name}}"),
			},
			{title: "Scores", unit: "reqps", width: 12, queries: one(rate(byVersion+", name", "promptgate_feedback_total", here), v+" {{name}}")},
		}},
	}
}

func gatewayRows() []row {
	const i = "{{instance}}"
	gauge := func(metric string) string { return metric + "{" + instance + "}" }
	spool := func(name, legend string) query {
		return query{rate("instance", "promptgate_spool_"+name+"_total", instance), i + " " + legend}
	}
	return []row{
		{"Load", []panel{
			{title: "Calls", unit: "reqps", width: 6, queries: one(rate("instance", "promptgate_calls_total", instance), i)},
			{title: "Calls in flight", unit: "short", width: 6, queries: one(gauge("promptgate_calls_in_flight"), i)},
			{
				title: "Time that the gateway adds", unit: "s", width: 6,
				queries: quantiles("instance", "promptgate_gateway_overhead_seconds", instance, i, "50", "99"),
			},
			{
				title: "Beside the calls", unit: "reqps", width: 6, about: "Shed load, refused strangers, slow clients, panics, records that failed.",
				queries: one(rate("event", "promptgate_gateway_events_total", instance), "{{event}}"),
			},
		}},
		{"Freshness", []panel{
			{
				title: "Age of what is served", unit: "s", width: 6, about: "Since the database last confirmed it; above 2 s answers say that they are stale.",
				queries: one(gauge("promptgate_registry_age_seconds"), i),
			},
			{
				title: "Revisions behind", unit: "short", width: 6,
				queries: one("scalar(max(promptgate_registry_revision)) - "+gauge("promptgate_registry_revision"), i),
			},
			{
				title: "From a change to its effect", unit: "s", width: 6,
				queries: quantiles("instance", "promptgate_invalidation_lag_seconds", instance, i, "50", "99"),
			},
			{
				title: "Left to the next call", unit: "ops", width: 6, about: "Pointers in use that changed and were not read ahead: too many changed at once.",
				queries: one(rate("instance", "promptgate_registry_refreshes_dropped_total", instance), i),
			},
		}},
		{"Providers", []panel{
			{title: "Left alone", unit: "short", width: 12, about: "1 while a provider's circuit is open after too many failed calls, 0.5 while it is probed.",
				queries: one("max by (provider) ("+gauge("promptgate_provider_circuit_open")+")", "{{provider}}")},
			{title: "Changes of circuits", unit: "ops", width: 12, queries: one(rate("state", "promptgate_provider_circuit_changes_total", instance), "{{state}}")},
		}},
		{"Caches", []panel{
			{title: "Reads by tier", unit: "reqps", width: 6, queries: one(rate("tier", "promptgate_resolver_reads_total", instance), "{{tier}}")},
			{title: "Redis left alone", unit: "short", width: 6, about: "1 while the breaker is open.", queries: one(gauge("promptgate_shared_cache_breaker_open"), i)},
			{title: "Reads of Redis by result", unit: "reqps", width: 6, queries: one(rate("result", "promptgate_shared_cache_reads_total", instance), "{{result}}")},
			{
				title: "Hits of Redis", unit: "percentunit", width: 6,
				queries: one(rate("kind", "promptgate_shared_cache_reads_total", instance+`,result="hit"`)+
					" / "+rate("kind", "promptgate_shared_cache_reads_total", instance), "{{kind}}"),
			},
		}},
		{"Records", []panel{
			{
				title: "Spool filled", unit: "percentunit", width: 6,
				queries: one(gauge("promptgate_spool_bytes")+" / "+gauge("promptgate_spool_max_bytes"), i),
			},
			{title: "Oldest waiting record", unit: "s", width: 6, queries: one(gauge("promptgate_spool_oldest_seconds"), i)},
			{title: "Records", unit: "ops", width: 6, queries: []query{spool("records", "taken"), spool("flushed", "committed")}},
			{title: "Faults", unit: "ops", width: 6, queries: []query{spool("refused", "refused"), spool("damaged", "damaged"), spool("flush_errors", "tried again"), spool("folded_calls", "figures not kept apart")}},
		}},
		{"Limits", []panel{
			{title: "Calls that limits refused", unit: "ops", width: 6, queries: one(rate("measure", "promptgate_limit_refusals_total", instance), "{{measure}}")},
			{
				title: "Leases exchanged", unit: "ops", width: 6, about: "With the database or Redis. What failed is tried again; calls go on for as long as their leases last.",
				queries: []query{
					{rate("instance", "promptgate_limit_lease_exchanges_total", instance), "{{instance}}"},
					{rate("instance", "promptgate_limit_lease_failures_total", instance), "{{instance}} failed"},
				},
			},
			{title: "Leases", unit: "short", width: 6, queries: one(gauge("promptgate_limit_leases"), i)},
			{title: "Warnings of budgets", unit: "ops", width: 6, queries: one(rate("result", "promptgate_limit_warnings_total", instance), "{{result}}")},
			{
				title: "Notes of used access", unit: "ops", width: 6, about: "What access reviews go by. A batch that failed is tried again; what was dropped is missing in them.",
				queries: one(rate("result", "promptgate_access_uses_total", instance), "{{result}}"),
			},
			{
				title: "Keys and bindings that end soon", unit: "short", width: 6, about: "Within so many days, in all projects.",
				queries: []query{
					{"max by (days) (promptgate_keys_expiring{" + instance + "})", "keys, {{days}} d"}, {"max by (days) (promptgate_bindings_expiring{" + instance + "})", "bindings, {{days}} d"},
				},
			},
			{
				title: "Access reviews", unit: "short", width: 6,
				queries: []query{
					{"max(promptgate_access_reviews_open{" + instance + "})", "open"}, {"max(promptgate_access_review_lines_undecided{" + instance + "})", "undecided lines"},
				},
			},
			{title: "Notices", unit: "ops", width: 6, queries: one(rate("result", "promptgate_notices_total", instance), "{{result}}")},
		}},
		{"Process", []panel{
			{title: "CPU", unit: "short", width: 6, about: "Cores.", queries: one(rate("instance", "process_cpu_seconds_total", instance+`,job="promptgate"`), i)},
			{title: "Memory", unit: "bytes", width: 6, queries: one(`process_resident_memory_bytes{`+instance+`,job="promptgate"}`, i)},
			{title: "Goroutines", unit: "short", width: 6, queries: one(`go_goroutines{`+instance+`,job="promptgate"}`, i)},
			{
				title: "Not told apart", unit: "ops", width: 6, about: `Observations counted as "other": too many combinations of labels.`,
				queries: one(rate("instance", "promptgate_metric_overflow_total", instance), i),
			},
		}},
	}
}

// object is a piece of Grafana's JSON.
type object = map[string]any

func grafana(uid, title string, rows []row, variables ...object) object {
	source := object{"type": "prometheus", "uid": "${datasource}"}
	var panels []object
	y, id := 0, 0
	next := func(o object) {
		id++
		o["id"] = id
		panels = append(panels, o)
	}
	for _, r := range rows {
		next(object{"type": "row", "title": r.title, "collapsed": false, "panels": []object{}, "gridPos": object{"x": 0, "y": y, "w": 24, "h": 1}})
		y++
		x, height := 0, 8
		for _, p := range r.panels {
			if p.stat {
				height = 4
			}
			if x+p.width > 24 {
				x, y = 0, y+height
			}
			o := drawing(p)
			o["datasource"], o["gridPos"] = source, object{"x": x, "y": y, "w": p.width, "h": height}
			next(o)
			x += p.width
		}
		y += height
	}
	list := []object{{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}}
	return object{
		"uid": uid, "title": title, "tags": []string{"promptgate"}, "schemaVersion": 41, "editable": false, "graphTooltip": 1,
		"time": object{"from": "now-6h", "to": "now"}, "refresh": "30s", "timezone": "browser", "panels": panels,
		"annotations": object{"list": []object{}}, "links": []object{{"type": "dashboards", "tags": []string{"promptgate"}, "title": "promptgate", "asDropdown": false, "keepTime": true}},
		"templating": object{"list": append(list, variables...)},
	}
}

func drawing(p panel) object {
	var targets []object
	for i, q := range p.queries {
		targets = append(targets, object{
			"refId": string(rune('A' + i)), "expr": q.expr, "legendFormat": q.legend, "range": !p.stat, "instant": p.stat, "editorMode": "code",
		})
	}
	o := object{"title": p.title, "description": p.about, "targets": targets, "type": "timeseries"}
	defaults := object{"unit": p.unit, "min": 0}
	if p.stat {
		o["type"] = "stat"
		o["options"] = object{"reduceOptions": object{"calcs": []string{"lastNotNull"}}, "graphMode": "none"}
	} else {
		defaults["custom"] = object{"fillOpacity": 8, "showPoints": "never"}
		o["options"] = object{
			"legend":  object{"displayMode": "table", "placement": "bottom", "calcs": []string{"mean", "max"}},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		}
	}
	o["fieldConfig"] = object{"defaults": defaults, "overrides": []object{}}
	return o
}

// variable is a list of a label's values to choose some or all from.
func variable(label, of string) object {
	q := "label_values(" + of + ", " + label + ")"
	return object{
		"name": label, "label": strings.ToUpper(label[:1]) + label[1:], "type": "query", "definition": q, "query": object{"query": q, "refId": label},
		"datasource": object{"type": "prometheus", "uid": "${datasource}"}, "refresh": 2, "sort": 3, "multi": true, "includeAll": true, "allValue": ".*",
		"current": object{"text": []string{"All"}, "value": []string{"$__all"}},
	}
}

func allDashboards() map[string]object {
	calls := func(more string) string { return "promptgate_calls_total" + more }
	return map[string]object{
		"prompts.json": grafana("promptgate-prompts", "Prompts by version", promptRows(),
			variable("project", calls("")),
			variable("prompt", calls(`{project=~"$project"}`)),
			variable("label", calls(`{project=~"$project",prompt=~"$prompt"}`)),
			variable("version", calls(`{project=~"$project",prompt=~"$prompt",label=~"$label"}`))),
		"gateway.json": grafana("promptgate-gateway", "Gateway health", gatewayRows(), variable("instance", `up{job="promptgate"}`)),
	}
}

func TestDashboardsAreCommitted(t *testing.T) {
	made := allDashboards()
	for name, d := range made {
		text, err := json.MarshalIndent(d, "", " ")
		require.NoError(t, err)
		text = append(text, '\n')
		file := filepath.Join(dashboards, name)
		if *update {
			require.NoError(t, os.WriteFile(file, text, 0o644))
		}
		committed, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(text), string(committed), "%s is not what dashboards_test.go makes: go test ./configs -run TestDashboardsAreCommitted -update", name)
	}
	files, err := filepath.Glob(dashboards + "/*")
	require.NoError(t, err)
	require.Len(t, files, len(made), "a dashboard that nothing makes")
}

func TestDashboardsFitTheirGrid(t *testing.T) {
	for name, d := range allDashboards() {
		taken, ids := map[[2]int]string{}, map[int]bool{}
		for _, p := range d["panels"].([]object) {
			require.False(t, ids[p["id"].(int)])
			ids[p["id"].(int)] = true
			at, title := p["gridPos"].(object), p["title"].(string)
			require.LessOrEqual(t, at["x"].(int)+at["w"].(int), 24, "%s: %s", name, title)
			for x := range at["w"].(int) {
				for y := range at["h"].(int) {
					cell := [2]int{at["x"].(int) + x, at["y"].(int) + y}
					require.Empty(t, taken[cell], "%s: %s covers another panel", name, title)
					taken[cell] = title
				}
			}
		}
	}
}

// Grafana finds what Compose mounts: the provider's folder, a data source that dashboards can choose, and the home dashboard.
func TestGrafanaProvisioning(t *testing.T) {
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool `yaml:"isDefault"`
		}
	}
	readYAML(t, "grafana/provisioning/datasources/prometheus.yaml", &sources)
	require.Equal(t, 1, sources.APIVersion)
	require.Len(t, sources.Datasources, 1)
	require.Equal(t, "prometheus", sources.Datasources[0].Type)
	require.True(t, sources.Datasources[0].IsDefault)
	require.Equal(t, "http://prometheus:9090", sources.Datasources[0].URL, "the service and port of compose.yaml")

	var providers struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type, Folder string
			AllowUIUpdates     bool `yaml:"allowUiUpdates"`
			Options            struct{ Path string }
		}
	}
	readYAML(t, "grafana/provisioning/dashboards/promptgate.yaml", &providers)
	require.Equal(t, 1, providers.APIVersion)
	require.Len(t, providers.Providers, 1)
	folder := providers.Providers[0].Options.Path

	g := readCompose(t).Services["grafana"]
	require.Contains(t, g.Volumes, "../grafana/dashboards:"+folder+":ro")
	require.Contains(t, g.Volumes, "../grafana/provisioning:/etc/grafana/provisioning:ro")
	home, ok := strings.CutPrefix(g.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"], folder+"/")
	require.True(t, ok)
	require.FileExists(t, filepath.Join(dashboards, home))
}

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	require.NoError(t, d.Decode(into), name)
}
