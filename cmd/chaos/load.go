package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// kind of a call of the load.
type kind uint8

const (
	plain    kind = iota // a prompt that is called all the time, JSON
	streamed             // the same, as a stream
	cold                 // a label that this replica has never seen
	direct               // to the provider itself: what the machine alone does to the figures
)

const (
	streamEvery = 10          // one call in so many is streamed
	callTimeout = time.Minute // a call that takes longer has failed
	maxOpen     = 4000        // calls under way; an open loop needs a bound, and reaching it is a failure
)

// result is what came of one call. Time counts from when the call was to be made, not from when there was room to make it.
type result struct {
	at      time.Time // when it was to be made
	took    time.Duration
	replica int
	kind    kind
	prompt  int // of the hot ones
	status  int // 0: no whole answer came
	version int
	stale   int    // seconds, of x-promptgate-stale; 0: not stale
	id      string // x-promptgate-call-id
	why     string // of a failure
	cut     bool   // failed because its replica was killed under it
}

// load makes calls at set times, whatever becomes of the earlier ones.
type load struct {
	w      *world
	cancel context.CancelFunc
	loops  sync.WaitGroup
	calls  sync.WaitGroup
	open   chan struct{}
	next   [replicas]atomic.Int64 // of the cold labels

	mu      sync.Mutex
	results []result
}

func startLoad(w *world) *load {
	ctx, cancel := context.WithCancel(w.t.Context())
	l := &load{w: w, cancel: cancel, open: make(chan struct{}, maxOpen)}
	every := time.Second / time.Duration(w.o.rate)
	for n := range replicas {
		offset := every * time.Duration(n) / replicas
		l.loops.Go(func() { l.loop(ctx, offset, every, func(i int, at time.Time) { l.call(n, i, at) }) })
	}
	l.loops.Go(func() { l.loop(ctx, every/2, every, func(_ int, at time.Time) { l.add(l.direct(at)) }) })
	return l
}

func (l *load) loop(ctx context.Context, offset, every time.Duration, do func(i int, at time.Time)) {
	at := time.Now().Add(offset)
	timer := time.NewTimer(offset)
	defer timer.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		n, due := i, at
		select {
		case l.open <- struct{}{}:
			l.calls.Go(func() { defer func() { <-l.open }(); do(n, due) })
		default:
			l.add(result{at: due, why: fmt.Sprintf("not sent: %d calls are under way", maxOpen)})
		}
		at = at.Add(every)
		timer.Reset(time.Until(at))
	}
}

// end stops the load and waits for every call.
func (l *load) end() {
	l.cancel()
	l.loops.Wait()
	l.calls.Wait()
}

func (l *load) add(r result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.results = append(l.results, r)
}

// between are the calls that were to be made from one moment to another.
func (l *load) between(from, to time.Time) []result {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []result
	for _, r := range l.results {
		if !r.at.Before(from) && r.at.Before(to) {
			found = append(found, r)
		}
	}
	return found
}

// coldEvery is how many calls come between two cold ones: one in two seconds.
func coldEvery(rate int) int { return max(2*rate, 2) }

// call makes the i-th call of a replica's loop. One that is out of service is passed over, as a load balancer does.
func (l *load) call(n, i int, at time.Time) {
	r, err := l.w.inService(n)
	if err != nil {
		l.add(result{at: at, replica: n, why: err.Error()})
		return
	}
	res := result{at: at, replica: r.n - 1, prompt: i % hotPrompts}
	prompt, label := hotPrompt(res.prompt), "production"
	switch {
	case i%coldEvery(l.w.o.rate) == 1:
		res.kind = cold
		prompt, label = coldPrompt, coldLabel(int(l.next[r.n-1].Add(1)-1)%l.w.cold)
	case i%streamEvery == 0:
		res.kind = streamed
	}
	body := fmt.Sprintf(`{"model":"default","messages":[],"stream":%t,"prompt":{"id":%q,"label":%q,"variables":{"name":"you"}}}`,
		res.kind == streamed, prompt, label)
	l.send(&res, r.url+"/v1/chat/completions", l.w.caller, body)
	res.cut = res.status == 0 && r.out.Load()
	res.took = time.Since(at)
	l.add(res)
}

func (l *load) direct(at time.Time) result {
	res := result{at: at, kind: direct}
	l.send(&res, l.w.upstream.URL+"/v1/chat/completions", "sk", `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]}`)
	res.took = time.Since(at)
	return res
}

func (l *load) send(res *result, url, key, body string) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	answer, err := send(ctx, l.w.client, url, key, body)
	if err != nil {
		res.why = shorten(err)
		return
	}
	res.id = answer.header.Get("X-Promptgate-Call-Id")
	res.version, _ = strconv.Atoi(answer.header.Get("X-Promptgate-Version"))
	res.stale, _ = strconv.Atoi(answer.header.Get("X-Promptgate-Stale"))
	res.status = answer.status
	switch {
	case answer.status != http.StatusOK:
		res.why = strconv.Itoa(answer.status) + " " + codeOf(answer.text)
	case res.kind == streamed && !bytes.HasSuffix(answer.text, []byte("data: [DONE]\n\n")):
		res.status, res.why = 0, "the stream ended without [DONE]"
	}
}

type answer struct {
	status int
	header http.Header
	text   []byte
}

// send makes one request and reads its whole answer.
func send(ctx context.Context, client *http.Client, url, key, body string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.GetBody = nil // a request is sent once: a transport that repeats it would hide a failure
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, text}, err
}
