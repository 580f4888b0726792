package ledger

import (
	"maps"
	"strings"

	"github.com/promptgate/promptgate/metrics"
)

// rollupKey names one row of figures of one process start.
type rollupKey struct {
	project  string
	minute   int64 // since 1970
	promptID string
	version  int64
	label    string
	provider string
	model    string
	outcome  string
	shard    string
}

// clone lets go of the records that the key's texts are parts of.
func (k rollupKey) clone() rollupKey {
	for _, s := range [...]*string{&k.project, &k.promptID, &k.label, &k.provider, &k.model, &k.outcome, &k.shard} {
		*s = strings.Clone(*s)
	}
	return k
}

// rollup is the row: plain sums and sketches, all of which add up.
type rollup struct {
	key                           rollupKey
	promptName                    string // of the newest call
	calls, counted                int64
	tokens                        [7]int64
	cost, priced, unpriced        int64
	latency, firstToken, overhead Sketch
}

func (r *rollup) clone() *rollup {
	c := *r
	c.latency, c.firstToken, c.overhead = r.latency.clone(), r.firstToken.clone(), r.overhead.clone()
	return &c
}

// keyOf leaves out what was not resolved: what callers write into a refused request must not make rows.
func keyOf(shard string, c *metrics.Call) rollupKey {
	k := rollupKey{project: c.Project, minute: floorDiv(c.Start.Unix(), 60), outcome: string(c.Outcome), shard: shard}
	if c.PromptID != "" {
		k.promptID, k.version, k.label = c.PromptID, int64(c.Version), c.Label
	}
	if c.Provider != "" {
		k.provider, k.model = c.Provider, c.Model
	}
	return k
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func (r *rollup) add(c *metrics.Call) {
	if c.PromptID != "" && r.promptName != c.PromptName {
		r.promptName = strings.Clone(c.PromptName)
	}
	r.calls++
	if c.Tokens.Reported || c.Tokens.Estimated {
		r.counted++
		for i, n := range tokenCounts(&c.Tokens) {
			r.tokens[i] += n
		}
	}
	switch {
	case c.CostMicros != nil:
		r.priced++
		r.cost += *c.CostMicros
	case metrics.Billable(c):
		r.unpriced++
	}
	r.latency.Add(c.Total)
	r.overhead.Add(c.Overhead)
	if c.FirstToken > 0 {
		r.firstToken.Add(c.FirstToken)
	}
}

func tokenCounts(t *metrics.Tokens) [7]int64 {
	return [7]int64{t.Input, t.CachedInput, t.CacheWrite, t.AudioInput, t.Output, t.Reasoning, t.AudioOutput}
}

// rollupCache holds the committed rows of the newest minutes of each shard, so that a flush need not read back what the one before wrote. Only
// this process writes those shards while it holds the spool.
type rollupCache struct {
	rows   map[rollupKey]*rollup
	loaded map[shardMinute]bool
}

type shardMinute struct {
	shard  string
	minute int64
}

func newRollupCache() *rollupCache {
	return &rollupCache{rows: map[rollupKey]*rollup{}, loaded: map[shardMinute]bool{}}
}

const (
	cacheMinutes = 3
	cacheRows    = 50_000
)

// put takes over committed rows and forgets old minutes.
func (c *rollupCache) put(rows map[rollupKey]*rollup) {
	newest := int64(0)
	for k, r := range rows {
		c.rows[k] = r
		newest = max(newest, k.minute)
	}
	if len(c.rows) > cacheRows {
		*c = *newRollupCache()
		return
	}
	maps.DeleteFunc(c.loaded, func(m shardMinute, _ bool) bool { return m.minute < newest-cacheMinutes })
	maps.DeleteFunc(c.rows, func(k rollupKey, _ *rollup) bool { return k.minute < newest-cacheMinutes })
}
