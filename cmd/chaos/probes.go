package main

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// move is one attempt to point a hot prompt's label elsewhere.
type move struct {
	version int
	asked   time.Time
	acked   time.Time // zero: refused, or nobody knows
}

// sighting is how long after the acknowledgement of a label move one replica answered with it.
type sighting struct {
	acked   time.Time
	replica int
	took    time.Duration
}

const (
	seenTimeout = 5 * time.Second
	pollEvery   = 4 * time.Millisecond
)

// probes move labels all the time, and watch.
type probes struct {
	w     *world
	loops sync.WaitGroup
	stop  context.CancelFunc

	mu       sync.Mutex
	moves    [hotPrompts][]move
	seen     []sighting
	refused  []refusal // label moves that were not acknowledged
	statuses []status
}

type refusal struct {
	at      time.Time
	replica int
	why     string
}

type status struct {
	at      time.Time
	replica int
	text    string
}

func startProbes(w *world) *probes {
	ctx, cancel := context.WithCancel(w.t.Context())
	p := &probes{w: w, stop: cancel}
	gap := time.Second
	if !w.o.speed {
		gap = 400 * time.Millisecond
	}
	p.loops.Go(func() { p.moveHot(ctx, 2*gap) })
	p.loops.Go(func() { p.watchMoves(ctx, gap) })
	for _, r := range w.replicas {
		p.loops.Go(func() { p.watchStatus(ctx, r) })
	}
	return p
}

func (p *probes) end() {
	p.stop()
	p.loops.Wait()
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// moveHot moves the label of one hot prompt after the other to its next version, through one replica after the other.
func (p *probes) moveHot(ctx context.Context, gap time.Duration) {
	for i := 0; pause(ctx, gap); i++ {
		r, err := p.w.inService(i)
		if err != nil {
			continue
		}
		n := i % hotPrompts
		m := move{version: (i/hotPrompts+1)%hotVersions + 1, asked: time.Now()}
		_, err = p.w.moveLabel(ctx, r, hotPrompt(n), "production", m.version)
		if err == nil {
			m.acked = time.Now()
		}
		p.mu.Lock()
		p.moves[n] = append(p.moves[n], m)
		p.refuse(ctx, m.asked, r, err)
		p.mu.Unlock()
	}
}

// refuse notes a change that was not acknowledged. The caller holds mu.
func (p *probes) refuse(ctx context.Context, at time.Time, r *replica, err error) {
	if err != nil && ctx.Err() == nil && !r.out.Load() {
		p.refused = append(p.refused, refusal{at, r.n - 1, shorten(err)})
	}
}

// watchMoves moves one label to and fro and asks every replica until it answers with the new version.
func (p *probes) watchMoves(ctx context.Context, gap time.Duration) {
	for i := 0; pause(ctx, gap); i++ {
		r, err := p.w.inService(i)
		if err != nil {
			continue
		}
		version := i%2 + 1
		asked := time.Now()
		_, err = p.w.moveLabel(ctx, r, seenPrompt, "production", version)
		acked := time.Now()
		if err != nil {
			p.mu.Lock()
			p.refuse(ctx, asked, r, err)
			p.mu.Unlock()
			continue
		}
		var all sync.WaitGroup
		for _, r := range p.w.replicas {
			if r.out.Load() {
				continue
			}
			all.Go(func() {
				took, ok := p.until(ctx, r, func() bool { return p.renders(ctx, r) == version })
				if ok {
					p.mu.Lock()
					p.seen = append(p.seen, sighting{acked, r.n - 1, took})
					p.mu.Unlock()
				}
			})
		}
		all.Wait()
	}
}

// until polls and returns how long it took, at most seenTimeout. ok is false when the replica went away meanwhile.
func (p *probes) until(ctx context.Context, r *replica, done func() bool) (took time.Duration, ok bool) {
	began := time.Now()
	for !done() {
		if ctx.Err() != nil || r.out.Load() {
			return 0, false
		}
		if time.Since(began) > seenTimeout {
			return seenTimeout, true
		}
		time.Sleep(pollEvery)
	}
	return time.Since(began), true
}

// renders is the version of the watched prompt that a replica renders now, 0 when it does not.
func (p *probes) renders(ctx context.Context, r *replica) int {
	ctx, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	a, err := send(ctx, p.w.client, r.url+"/v1/prompts/"+seenPrompt+"/render", p.w.caller, `{"prompt":{"variables":{"name":"you"}}}`)
	if err != nil || a.status != http.StatusOK {
		return 0
	}
	n, _ := strconv.Atoi(a.header.Get("X-Promptgate-Version"))
	return n
}

func (p *probes) watchStatus(ctx context.Context, r *replica) {
	for pause(ctx, 250*time.Millisecond) {
		if r.out.Load() {
			continue
		}
		s := status{time.Now(), r.n - 1, r.status(ctx, p.w.client)}
		p.mu.Lock()
		p.statuses = append(p.statuses, s)
		p.mu.Unlock()
	}
}

// keyProbe is one API key: made and used on every replica while all is well, revoked during a fault.
type keyProbe struct {
	p          *probes
	id, secret string
}

func (p *probes) newKey(ctx context.Context, warm bool) (*keyProbe, error) {
	r, err := p.w.inService(0)
	if err != nil {
		return nil, err
	}
	k := &keyProbe{p: p}
	if k.id, k.secret, err = p.w.makeKey(ctx, r, "probe"); err != nil || !warm {
		return k, err
	}
	for _, r := range p.w.replicas {
		if _, ok := p.until(ctx, r, func() bool { return k.status(ctx, r) == http.StatusOK }); !ok {
			return k, errNoReplica
		}
	}
	return k, nil
}

func (k *keyProbe) status(ctx context.Context, r *replica) int {
	ctx, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	a, err := send(ctx, k.p.w.client, r.url+"/v1/prompts/"+seenPrompt+"/render", k.secret, `{"prompt":{"variables":{"name":"you"}}}`)
	if err != nil {
		return 0
	}
	return a.status
}

// revoke revokes the key through the first replica and returns how long the slowest one took to refuse it.
func (k *keyProbe) revoke(ctx context.Context) (slowest time.Duration, err error) {
	r, err := k.p.w.inService(0)
	if err != nil {
		return 0, err
	}
	if _, err := k.p.w.api(ctx, r, http.MethodDelete, "/keys/"+k.id, nil, nil); err != nil {
		return 0, err
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, r := range k.p.w.replicas {
		all.Go(func() {
			took, ok := k.p.until(ctx, r, func() bool {
				s := k.status(ctx, r)
				return s == http.StatusUnauthorized || s == http.StatusServiceUnavailable
			})
			mu.Lock()
			defer mu.Unlock()
			if ok {
				slowest = max(slowest, took)
			}
		})
	}
	all.Wait()
	return slowest, nil
}
