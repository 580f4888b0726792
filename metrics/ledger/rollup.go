package ledger

import (
	"encoding/binary"
	"errors"
	"maps"
	"strings"

	"github.com/promptgate/promptgate/metrics"
)

// rollupKey names one row of figures of one process start.
type rollupKey struct {
	project   string
	minute    int64 // since 1970
	promptID  string
	version   int64
	label     string
	variant   string
	provider  string
	model     string
	principal string
	endpoint  string
	purpose   string
	outcome   string
	shard     string
}

// clone lets go of the records that the key's texts are parts of.
func (k rollupKey) clone() rollupKey {
	for _, s := range [...]*string{&k.project, &k.promptID, &k.label, &k.variant, &k.provider, &k.model, &k.principal, &k.endpoint, &k.purpose,
		&k.outcome, &k.shard} {
		*s = strings.Clone(*s)
	}
	return k
}

// rollup is the row.
type rollup struct {
	key        rollupKey
	promptName string // of the newest call
	figures
}

// figures of calls: sums and sketches, all of which add up.
type figures struct {
	calls, counted                int64 // counted have tokens
	tokens                        [7]int64
	cost, priced, unpriced        int64
	latency, firstToken, overhead Sketch
}

// figuresLayout is the first byte of encoded figures. A field is added by raising it; decoding keeps all older ones.
const figuresLayout = 1

func (f *figures) sums() [12]*int64 {
	t := &f.tokens
	return [...]*int64{&f.calls, &f.counted, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &f.cost, &f.priced, &f.unpriced}
}

func (f *figures) sketches() [3]*Sketch { return [...]*Sketch{&f.latency, &f.firstToken, &f.overhead} }

// append encodes f behind b.
func (f *figures) append(b []byte) []byte {
	b = append(b, figuresLayout)
	for _, n := range f.sums() {
		b = binary.AppendVarint(b, *n)
	}
	for _, s := range f.sketches() {
		b = s.append(b)
	}
	return b
}

var errFigures = errors.New("the figures of a minute cannot be read")

// read decodes what append made.
func (f *figures) read(b []byte) error {
	d := &decoder{b: b}
	if d.byte() != figuresLayout {
		return errFigures
	}
	for _, n := range f.sums() {
		*n = d.varint()
	}
	for _, s := range f.sketches() {
		*s = d.sketch()
	}
	if d.bad || len(d.b) > 0 {
		return errFigures
	}
	return nil
}

func (f *figures) merge(o *figures) {
	more := o.sums()
	for i, n := range f.sums() {
		*n += *more[i]
	}
	parts := o.sketches()
	for i, s := range f.sketches() {
		s.Merge(parts[i])
	}
}

func (r *rollup) clone() *rollup {
	c := *r
	c.latency, c.firstToken, c.overhead = r.latency.clone(), r.firstToken.clone(), r.overhead.clone()
	return &c
}

// keyOf leaves out what was not resolved: what callers write into a refused request must not make rows.
func keyOf(shard string, c *metrics.Call) rollupKey {
	k := rollupKey{project: c.Project, minute: minuteOf(c), principal: c.Principal, endpoint: c.Endpoint, purpose: string(c.Purpose),
		outcome: string(c.Outcome), shard: shard}
	if c.PromptID != "" {
		k.promptID, k.version, k.label, k.variant = c.PromptID, int64(c.Version), c.Label, c.Variant
	}
	if c.Provider != "" {
		k.provider, k.model = c.Provider, c.Model
	}
	return k
}

// minuteOf is the minute that a call counts in, since 1970.
func minuteOf(c *metrics.Call) int64 { return floorDiv(c.Start.Unix(), 60) }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func (r *rollup) add(c *metrics.Call) {
	if c.PromptID != "" && c.PromptID == r.key.promptID && r.promptName != c.PromptName {
		r.promptName = strings.Clone(c.PromptName)
	}
	r.figures.add(c)
}

func (f *figures) add(c *metrics.Call) {
	f.calls++
	if c.Tokens.Reported || c.Tokens.Estimated {
		f.counted++
		for i, n := range tokenCounts(&c.Tokens) {
			f.tokens[i] += n
		}
	}
	switch {
	case c.CostMicros != nil:
		f.priced++
		f.cost += *c.CostMicros
	case metrics.Billable(c):
		f.unpriced++
	}
	f.latency.Add(c.Total)
	f.overhead.Add(c.Overhead)
	if c.FirstToken > 0 {
		f.firstToken.Add(c.FirstToken)
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
	widths map[projectMinute]int // how many of the rows each has
}

type shardMinute struct {
	shard  string
	minute int64
}

type projectMinute struct {
	shardMinute
	project string
}

func (k *rollupKey) place() projectMinute {
	return projectMinute{shardMinute{k.shard, k.minute}, k.project}
}

func newRollupCache() *rollupCache {
	return &rollupCache{rows: map[rollupKey]*rollup{}, loaded: map[shardMinute]bool{}, widths: map[projectMinute]int{}}
}

const (
	cacheMinutes = 3
	cacheRows    = 50_000
)

// set takes over a committed row.
func (c *rollupCache) set(r *rollup) {
	if c.rows[r.key] == nil {
		c.widths[r.key.place()]++
	}
	c.rows[r.key] = r
}

// put takes over committed rows and forgets old minutes.
func (c *rollupCache) put(rows map[rollupKey]*rollup) {
	newest := int64(0)
	for k, r := range rows {
		c.set(r)
		newest = max(newest, k.minute)
	}
	if len(c.rows) > cacheRows {
		*c = *newRollupCache()
		return
	}
	maps.DeleteFunc(c.loaded, func(m shardMinute, _ bool) bool { return m.minute < newest-cacheMinutes })
	maps.DeleteFunc(c.widths, func(p projectMinute, _ int) bool { return p.minute < newest-cacheMinutes })
	maps.DeleteFunc(c.rows, func(k rollupKey, _ *rollup) bool { return k.minute < newest-cacheMinutes })
}
