package metrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/metrics"
)

func TestFreshness(t *testing.T) {
	reg := prometheus.NewRegistry()
	now := time.Unix(1_800_000_000, 0)
	var confirmed time.Time
	require.Error(t, metrics.RegisterFreshness(reg, nil, nil, nil))
	require.NoError(t, metrics.RegisterFreshness(reg, func() int64 { return 7 }, func() time.Time { return confirmed }, func() time.Time { return now }))

	n, err := testutil.GatherAndCount(reg, "promptgate_registry_age_seconds")
	require.NoError(t, err)
	require.Zero(t, n, "an age before anything was confirmed")

	confirmed = now.Add(-1500 * time.Millisecond)
	want := "# HELP promptgate_registry_age_seconds Seconds since the database last confirmed that revision.\n" +
		"# TYPE promptgate_registry_age_seconds gauge\npromptgate_registry_age_seconds 1.5\n" +
		"# HELP promptgate_registry_revision The last revision of the registry that this replica applied.\n" +
		"# TYPE promptgate_registry_revision gauge\npromptgate_registry_revision 7\n"
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(want)))

	confirmed = now.Add(time.Second) // another machine's clock
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(strings.ReplaceAll(want, "1.5", "0"))))
}
