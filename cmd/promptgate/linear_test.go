package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/testenv"
)

const (
	linearVersions = 64 // more than a label moves while one read is under way
	linearPrompts  = 4
	linearReplicas = 3
	// linearBound is when a move must be seen by readers that demand nothing. Promised is 1 s; the machine is busy.
	linearBound = 5 * time.Second
)

// labelMove is a move that was acknowledged. The test has no others: one that fails ends it.
type labelMove struct {
	revision int64
	version  int // 0: removed
	asked    time.Time
	answered time.Time
}

// labelRead is one read: the label had this version at some moment between asked and answered, and not before demanded.
type labelRead struct {
	demanded int64 // 0: nothing was
	version  int   // 0: label_not_found
	replica  int
	asked    time.Time
	answered time.Time
}

// history is what happened to one label.
type history struct {
	body  string
	path  string
	mu    sync.Mutex
	moves []labelMove
	reads []labelRead
}

// demand picks a revision that was acknowledged: mostly the newest.
func (h *history) demand() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.moves)
	if n == 0 {
		return 0
	}
	back := 0
	if rand.IntN(2) == 0 {
		back = rand.IntN(min(n, 16))
	}
	return h.moves[n-1-back].revision
}

// move points the label elsewhere, or now and then removes it, through one replica.
func (h *history) move(p *process, version int) string {
	method, path, body := "PUT", h.path, fmt.Sprintf(`{"version":%d}`, version)
	if version == 0 {
		method, body = "DELETE", ""
	}
	asked := time.Now()
	a := p.send(method, path, body)
	answered := time.Now()
	removed := version == 0 && a.status == http.StatusNotFound // by another writer
	if removed || a.status == http.StatusConflict && a.errorCode() == "conflict" {
		return "" // nothing changed
	}
	revision, err := strconv.ParseInt(a.revision(), 10, 64)
	if a.err != nil || a.status >= 300 || err != nil {
		return fmt.Sprintf("%s %s %s: %s", method, path, body, a)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moves = append(h.moves, labelMove{revision, version, asked, answered})
	return ""
}

func (h *history) read(p *process, replica int, demanded int64) string {
	var header []string
	if demanded > 0 {
		header = []string{"X-Promptgate-Min-Revision", strconv.FormatInt(demanded, 10)}
	}
	asked := time.Now()
	a := p.send("POST", "/v1/chat/completions", h.body, header...)
	r := labelRead{demanded: demanded, replica: replica, asked: asked, answered: time.Now(), version: a.version()}
	switch {
	case a.status == http.StatusOK && r.version > 0:
	case a.status == http.StatusNotFound && a.errorCode() == "label_not_found":
		r.version = 0
	default:
		return fmt.Sprintf("read: %s", a)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads = append(h.reads, r)
	return ""
}

// verdict is how many reads were judged and what was wrong with them.
type verdict struct {
	demanding, free int
	wrong           []string
}

// judge looks for reads that no order of the moves explains: older than what was demanded (or, without a demand, than what was
// acknowledged before the bound), or from the future.
func (h *history) judge(v *verdict) {
	slices.SortFunc(h.moves, func(a, b labelMove) int { return int(a.revision - b.revision) })
	for _, r := range h.reads {
		floor := r.demanded
		if floor > 0 {
			v.demanding++
		} else {
			v.free++
			floor = h.acknowledged(r.asked.Add(-linearBound))
		}
		if !h.explains(r, floor) && len(v.wrong) < 20 {
			v.wrong = append(v.wrong, fmt.Sprintf("replica %d answered version %d, revision %d was demanded (%d held)", r.replica, r.version, r.demanded, floor))
		}
	}
}

// acknowledged is the newest revision whose answer had come by t.
func (h *history) acknowledged(t time.Time) (newest int64) {
	for _, m := range h.moves {
		if m.answered.Before(t) {
			newest = max(newest, m.revision)
		}
	}
	return newest
}

// explains reports whether the label had that version at floor or was given it by a move after floor that was asked for before the
// read ended.
func (h *history) explains(r labelRead, floor int64) bool {
	at, exact := slices.BinarySearchFunc(h.moves, floor, func(m labelMove, revision int64) int { return int(m.revision - revision) })
	if !exact {
		at-- // the last move before it
	}
	for i := max(at, 0); i < len(h.moves); i++ {
		if m := h.moves[i]; m.version == r.version && m.asked.Before(r.answered) {
			return true
		}
	}
	return at < 0 && r.version == 1 // where it was at the beginning
}

// TestLabelsAreLinearizable: on three replicas, no read is older than the revision that its caller demands, whichever replica moved the
// label and whichever is asked. The long form is `make linear`.
func TestLabelsAreLinearizable(t *testing.T) {
	operations := int64(3000)
	if long() {
		operations = 100_000
	}
	s := newSite(t, testenv.Postgres(t), testenv.Redis(t).Addr, "")
	var replicas []*process
	for range linearReplicas {
		replicas = append(replicas, s.replica(t.TempDir()))
	}
	var labels []*history
	for i := range linearPrompts {
		labels = append(labels, linearPrompt(replicas[0], i))
	}
	for _, h := range labels { // the beginning of every history
		require.Empty(t, h.move(replicas[0], 1))
	}
	var done atomic.Int64
	faults := make(chan string, 64)
	work := func(step func(h *history) string) func() {
		return func() {
			for done.Add(1) <= operations {
				if fault := step(labels[rand.IntN(len(labels))]); fault != "" {
					select {
					case faults <- fault:
					default:
					}
				}
			}
		}
	}
	start := time.Now()
	var workers sync.WaitGroup
	for range 12 {
		workers.Go(work(func(h *history) string {
			n := rand.IntN(len(replicas))
			switch rand.IntN(12) {
			case 0:
				return h.move(replicas[n], rand.IntN(linearVersions+1)) // 0 removes it
			case 1:
				return h.move(replicas[n], 1+rand.IntN(linearVersions))
			case 2:
				return h.read(replicas[n], n, 0)
			default:
				return h.read(replicas[n], n, h.demand())
			}
		}))
	}
	workers.Wait()
	took := time.Since(start)
	close(faults)
	for f := range faults {
		t.Error(f)
	}
	var v verdict
	moves := 0
	for _, h := range labels {
		moves += len(h.moves)
		h.judge(&v)
	}
	require.Empty(t, v.wrong)
	require.Positive(t, moves)
	require.Positive(t, v.demanding)
	t.Logf("%d moves, %d reads that demanded a revision, %d that did not, on %d replicas in %s: none older than demanded, none past the bound",
		moves, v.demanding, v.free, linearReplicas, took.Round(time.Millisecond))
}

// linearPrompt makes a prompt with many versions.
func linearPrompt(p *process, i int) *history {
	p.t.Helper()
	name := fmt.Sprintf("linear/p%d", i)
	p.change("POST", "/prompts", fmt.Sprintf(`{"name":%q}`, name))
	path := fmt.Sprintf("/prompts/linear%%2Fp%d", i)
	for v := range linearVersions {
		p.change("POST", path+"/versions", fmt.Sprintf(`{"content":{"messages":[{"role":"user","content":"v%d"}],"model":"echo"}}`, v+1))
	}
	return &history{
		path: "/api/v1" + path + "/labels/production",
		body: fmt.Sprintf(`{"prompt":{"id":%q,"label":"production"}}`, name),
	}
}
