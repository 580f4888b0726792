package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// drainSite has a provider that takes its time and one that takes for ever.
func drainSite(t *testing.T, data, more string) *site {
	t.Helper()
	return newFileSite(t, data, "", more+`
providers:
  - {name: quick, kind: echo, models: [quick]}
  - {name: slow, kind: echo, models: [slow], latency: 700ms, chunk_delay: 30ms}
  - {name: stuck, kind: echo, models: [stuck], latency: 10m}
  - {name: drip, kind: echo, models: [drip], chunk_delay: 100ms}
`)
}

func bareCall(model string, stream bool) string {
	return fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[{"role":"user","content":"%s"}]}`, model, stream, strings.Repeat("word after word ", 30))
}

// inFlight waits until that many calls are under way.
func inFlight(p *process, n int) {
	p.t.Helper()
	until(p.t, 20*time.Second, "the calls never arrived", func() bool {
		a := p.send("GET", "/readyz?verbose", "")
		_, rest, _ := strings.Cut(a.body, `"in_flight":`)
		got := 0
		_, _ = fmt.Sscan(strings.NewReplacer(",", " ", "}", " ").Replace(rest), &got)
		return got >= n
	})
}

// whole demands that a stream or an answer came to its end.
func whole(t *testing.T, a answer, stream bool) {
	t.Helper()
	require.NoError(t, a.err)
	require.Equal(t, http.StatusOK, a.status, "%s", a)
	require.NotContains(t, a.body, `"error"`)
	if stream {
		require.True(t, strings.HasSuffix(a.body, "data: [DONE]\n\n"), "%s", a.body)
	} else {
		require.Contains(t, a.body, `"finish_reason":"stop"`)
	}
}

// TestDrainInsideTheGrace: calls and streams that are under way at SIGTERM end as if nothing had happened, and are recorded.
func TestDrainInsideTheGrace(t *testing.T) {
	const each = 30
	data := t.TempDir()
	s := drainSite(t, data, "")
	p := s.replica(data)
	answers := make([]answer, 2*each)
	var calls sync.WaitGroup
	for i := range answers {
		calls.Go(func() { answers[i] = p.send("POST", "/v1/chat/completions", bareCall("slow", i%2 == 0)) })
	}
	inFlight(p, len(answers))
	p.stop()
	calls.Wait()
	for i, a := range answers {
		whole(t, a, i%2 == 0)
	}
	p = s.replica(data)
	recorded := listCalls(p)
	require.Len(t, recorded, len(answers))
	for _, c := range recorded {
		require.Equal(t, "ok", c.Outcome)
	}
	t.Logf("%d calls and %d streams under way at SIGTERM: 0 dropped, all recorded", each, each)
}

// TestDrainPastTheGrace: what is still running then gets an explicit error and no [DONE], and is recorded.
func TestDrainPastTheGrace(t *testing.T) {
	data := t.TempDir()
	s := drainSite(t, data, "server: {drain_grace: 300ms}")
	p := s.replica(data)
	var stream, call answer
	var calls sync.WaitGroup
	calls.Go(func() { stream = p.send("POST", "/v1/chat/completions", bareCall("drip", true)) })
	calls.Go(func() { call = p.send("POST", "/v1/chat/completions", bareCall("stuck", false)) })
	inFlight(p, 2)
	time.Sleep(300 * time.Millisecond) // lets the stream begin: the first event is 100 ms away
	p.stop()
	calls.Wait()

	require.NoError(t, stream.err, "the stream must be ended, not cut")
	require.Equal(t, http.StatusOK, stream.status, "%s", stream)
	require.Contains(t, stream.body, `"delta"`)
	require.NotContains(t, stream.body, "[DONE]")
	events := strings.Split(strings.TrimSpace(stream.body), "\n\n")
	require.Contains(t, events[len(events)-1], `{"error":`, "the last event must be the error")

	require.NoError(t, call.err)
	require.Equal(t, http.StatusServiceUnavailable, call.status, "%s", call)
	require.Equal(t, "gateway", call.header.Get("X-Promptgate-Error-Origin"), "%s", call)
	require.NotEmpty(t, call.errorCode())

	p = s.replica(data)
	found := map[string]recordedCall{}
	for _, c := range listCalls(p) {
		found[c.ID] = c
	}
	for what, a := range map[string]answer{"stream": stream, "call": call} {
		c, ok := found[a.header.Get("X-Promptgate-Call-Id")]
		require.True(t, ok, "%s is not recorded", what)
		require.NotEqual(t, "ok", c.Outcome, what)
		require.NotEmpty(t, c.ErrorCode, what)
		t.Logf("%s past the grace: recorded as %s, %s", what, c.Outcome, c.ErrorCode)
	}
	used := found[stream.header.Get("X-Promptgate-Call-Id")].Tokens
	require.NotNil(t, used, "what the stream used up to its end is not recorded")
	require.Positive(t, used.Output)
	require.True(t, used.Estimated)
}

// TestDrainUnderLoad: while a gateway that is under load drains, every call on a connection that it has taken is answered whole. A
// connection that was opened in the moment when the listener closed is refused, which a balancer takes elsewhere.
func TestDrainUnderLoad(t *testing.T) {
	data := t.TempDir()
	s := drainSite(t, data, "")
	p := s.replica(data)
	load := &drainLoad{url: p.url, key: p.key, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
	defer load.client.CloseIdleConnections()
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() { load.run(i%2 == 0) })
	}
	until(t, 30*time.Second, "no load", func() bool { return load.answered.Load() > 200 })
	p.stop()
	workers.Wait()
	require.Zero(t, load.lost.Load(), "%v", load.first.Load())
	p = s.replica(data)
	require.Len(t, listCalls(p), int(load.answered.Load()), "answered and recorded differ")
	t.Logf("%d calls answered while the gateway was stopped under load, 0 lost, all recorded", load.answered.Load())
}

// drainLoad makes one call after the other.
type drainLoad struct {
	url, key       string
	client         *http.Client
	answered, lost atomic.Int64
	first          atomic.Value // what was lost first
}

// run ends with the first connection that is refused.
func (l *drainLoad) run(stream bool) {
	for {
		reused := false
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }})
		a := l.call(ctx, stream)
		switch {
		case a.err == nil && a.status == http.StatusOK && (!stream || strings.HasSuffix(a.body, "[DONE]\n\n")):
			l.answered.Add(1)
		case a.status == 0 && !reused:
			return
		default:
			l.lost.Add(1)
			l.first.CompareAndSwap(nil, a.String())
			return
		}
	}
}

func (l *drainLoad) call(ctx context.Context, stream bool) answer {
	req, err := http.NewRequestWithContext(ctx, "POST", l.url+"/v1/chat/completions", strings.NewReader(bareCall("quick", stream)))
	if err != nil {
		return answer{status: -1, err: err}
	}
	req.Header.Set("Authorization", "Bearer "+l.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: string(text), err: err}
}
