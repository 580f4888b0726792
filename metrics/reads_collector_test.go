package metrics_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/metrics"
)

func TestReads(t *testing.T) {
	reg := prometheus.NewRegistry()
	reads := metrics.NewReads()
	require.Error(t, reads.Register(reg, nil))
	require.NoError(t, reads.Register(reg, func() map[string]uint64 { return map[string]uint64{"label": 7, "key": 0} }))
	reads.Redis("label")
	reads.Redis("label")
	reads.Database("label")
	want := "# HELP promptgate_resolver_reads_total Reads of prompts (project, handle, label, version) and keys by the tier that answered: " +
		"memory, redis, database (its failures included).\n# TYPE promptgate_resolver_reads_total counter\n" +
		`promptgate_resolver_reads_total{kind="key",tier="memory"} 0` + "\n" + `promptgate_resolver_reads_total{kind="label",tier="memory"} 7` + "\n" +
		`promptgate_resolver_reads_total{kind="label",tier="redis"} 2` + "\n" + `promptgate_resolver_reads_total{kind="label",tier="database"} 1` + "\n"
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(want)))
}
