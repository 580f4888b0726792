package main

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/testenv"
)

// series are the values of /metrics by name and labels.
func (p *process) series() map[string]float64 {
	p.t.Helper()
	a := p.send("GET", "/metrics", "")
	require.Equal(p.t, http.StatusOK, a.status, "%s", a)
	out := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(a.body)); lines.Scan(); {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 {
			continue
		}
		name, value := line[:at], line[at+1:]
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			out[name] = n
		}
	}
	return out
}

// A replica's metrics say where it finds what it serves: in the database what nobody has read yet, in Redis what another replica has, in memory
// what it has itself; and how old it is, whether Redis is used and how late changes come.
func TestMetricsTellTheTiers(t *testing.T) {
	s := newSite(t, testenv.Postgres(t), testenv.Redis(t).Addr, "")
	a, b := s.replica(t.TempDir()), s.replica(t.TempDir())
	desk(a, 1)
	revision := moveDesk(a, 1).revision()
	for _, p := range []*process{a, b, b} {
		got := p.chat("X-Promptgate-Min-Revision", revision)
		require.Equal(t, http.StatusOK, got.status, "%s", got)
	}
	first, second := a.series(), b.series()
	at := func(kind, tier string) string {
		return `promptgate_resolver_reads_total{kind="` + kind + `",tier="` + tier + `"}`
	}
	for _, kind := range []string{"handle", "label", "version", "key"} {
		require.Positive(t, first[at(kind, "database")], kind)
		require.Equal(t, 1.0, second[at(kind, "redis")], kind)
		require.NotContains(t, second, at(kind, "database"), "%s was read from the database although Redis has it", kind)
		if kind != "version" { // a label brings it along
			require.Positive(t, second[at(kind, "memory")], kind)
		}
	}
	require.Contains(t, second, "promptgate_shared_cache_breaker_open")
	require.Zero(t, second["promptgate_shared_cache_breaker_open"])
	require.Contains(t, second, "promptgate_registry_age_seconds")
	require.Less(t, second["promptgate_registry_age_seconds"], seenWithin.Seconds())
	require.Positive(t, second["promptgate_invalidation_lag_seconds_count"])
}
