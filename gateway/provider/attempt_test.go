package provider_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// step is one attempt's fate: a status, or a kind of failure.
type step struct {
	status int
	header http.Header
	kind   provider.Kind
	plain  error
	before func() // runs while the provider is asked
}

// script is a provider that goes through its steps and repeats the last one.
type script struct {
	name   string
	mu     sync.Mutex
	steps  []step
	calls  int
	opened int
	closed int
}

func (s *script) Name() string                        { return s.name }
func (s *script) Capabilities() provider.Capabilities { return provider.Capabilities{} }

func (s *script) Do(context.Context, *provider.Request) (*provider.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.steps[min(s.calls, len(s.steps)-1)]
	s.calls++
	if at.before != nil {
		at.before()
	}
	switch {
	case at.plain != nil:
		return nil, at.plain
	case at.kind != "":
		return nil, &provider.Error{Provider: s.name, Kind: at.kind}
	}
	s.opened++
	h := at.header
	if h == nil {
		h = http.Header{}
	}
	return &provider.Response{Status: at.status, Header: h, Body: &body{Reader: strings.NewReader(s.name), s: s}}, nil
}

type body struct {
	io.Reader
	s *script
}

func (b *body) Close() error { b.s.mu.Lock(); defer b.s.mu.Unlock(); b.s.closed++; return nil }

func statuses(list ...int) []step {
	out := make([]step, 0, len(list))
	for _, s := range list {
		out = append(out, step{status: s})
	}
	return out
}

// quick waits for next to nothing.
func quick() *provider.Forwarder {
	return provider.NewForwarder(provider.RetryOptions{Delay: time.Microsecond, MaxDelay: 2 * time.Microsecond})
}

func plain(provider.Target) *provider.Request { return &provider.Request{} }

func forward(ctx context.Context, f *provider.Forwarder, scripts ...*script) (*provider.Response, string, []provider.AttemptResult, error) {
	var targets []provider.Target
	for _, s := range scripts {
		targets = append(targets, provider.Target{Provider: s, Model: s.name + "-model"})
	}
	var seen []provider.AttemptResult
	resp, target, err := f.Forward(ctx, provider.Call{Targets: targets, Build: plain,
		Observe: func(r provider.AttemptResult) { seen = append(seen, r) }})
	name := ""
	if target.Provider != nil {
		name = target.Provider.Name()
	}
	return resp, name, seen, err
}

func TestForward(t *testing.T) {
	connect, timeout := step{kind: provider.KindConnect}, step{kind: provider.KindTimeout}
	for _, c := range []struct {
		name   string
		a, b   []step
		status int
		kind   provider.Kind
		from   string
		tries  string // providers in the order in which they were asked
	}{
		{name: "first time", a: statuses(200), b: statuses(200), status: 200, from: "a", tries: "a"},
		{name: "429 then fine", a: statuses(429, 200), b: statuses(200), status: 200, from: "a", tries: "aa"},
		{name: "500 twice then fine", a: statuses(500, 503, 200), b: statuses(200), status: 200, from: "a", tries: "aaa"},
		{name: "two retries, then the next", a: statuses(502), b: statuses(200), status: 200, from: "b", tries: "aaab"},
		{name: "everybody's last word", a: statuses(504), b: statuses(429), status: 429, from: "b", tries: "aaabbb"},
		{name: "connect once more", a: []step{connect, {status: 200}}, b: statuses(200), status: 200, from: "a", tries: "aa"},
		{name: "connect, then the next", a: []step{connect}, b: statuses(200), status: 200, from: "b", tries: "aab"},
		{name: "both kinds", a: []step{connect, {status: 500}, connect}, b: statuses(200), status: 200, from: "b", tries: "aaab"},
		{name: "nobody there", a: []step{connect}, b: []step{connect}, kind: provider.KindConnect, from: "b", tries: "aabb"},
		{name: "timeout is not repeated", a: []step{timeout}, b: statuses(200), status: 200, from: "b", tries: "ab"},
		{name: "protocol is not repeated", a: []step{{kind: provider.KindProtocol}}, b: []step{{kind: provider.KindTruncated}}, kind: provider.KindTruncated, from: "b", tries: "ab"},
		{name: "our own rule", a: []step{{kind: provider.KindRefused}}, b: statuses(200), status: 200, from: "b", tries: "ab"},
		{name: "cancelled", a: []step{{kind: provider.KindCancelled}}, b: statuses(200), kind: provider.KindCancelled, from: "a", tries: "a"},
		{name: "the caller's fault", a: statuses(400), b: statuses(200), status: 400, from: "a", tries: "a"},
		{name: "not found", a: statuses(404), b: statuses(200), status: 404, from: "a", tries: "a"},
		{name: "bad credential", a: statuses(401), b: statuses(200), status: 200, from: "b", tries: "ab"},
		{name: "bad credentials", a: statuses(401), b: statuses(403), status: 403, from: "b", tries: "ab"},
		{name: "untyped error", a: []step{{plain: errors.New("x")}}, b: []step{{plain: io.EOF}}, kind: provider.KindProtocol, from: "b", tries: "ab"},
		{name: "wants no retry", a: []step{{status: 503, header: http.Header{"X-Should-Retry": {"false"}}}}, b: statuses(200), status: 200, from: "b", tries: "ab"},
		{name: "wants too long a pause", a: []step{{status: 429, header: http.Header{"Retry-After": {"3600"}}}}, b: statuses(200), status: 200, from: "b", tries: "ab"},
		{name: "says when", a: []step{{status: 429, header: http.Header{"Retry-After-Ms": {"1"}}}, {status: 200}}, b: statuses(200), status: 200, from: "a", tries: "aa"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := &script{name: "a", steps: c.a}, &script{name: "b", steps: c.b}
			resp, from, seen, err := forward(t.Context(), quick(), a, b)
			require.Equal(t, c.from, from)
			if c.kind != "" {
				var e *provider.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, c.kind, e.Kind)
				require.Nil(t, resp)
			} else {
				require.NoError(t, err)
				require.Equal(t, c.status, resp.Status)
				text, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Equal(t, from, string(text))
				require.NoError(t, resp.Body.Close())
			}
			tries := ""
			for _, r := range seen {
				tries += r.Provider
				require.Equal(t, r.Provider+"-model", r.Model)
				require.False(t, r.Start.IsZero())
				require.Equal(t, r.Err == nil, r.Status != 0)
			}
			require.Equal(t, c.tries, tries)
			require.Equal(t, a.opened+b.opened, a.closed+b.closed, "every answer that was given up is closed")
		})
	}
}

func TestForwardStopsWithItsCaller(t *testing.T) {
	ended := errors.New("they hung up")
	t.Run("during an attempt that fails", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		a := &script{name: "a", steps: []step{{kind: provider.KindConnect, before: func() { cancel(ended) }}}}
		b := &script{name: "b", steps: statuses(200)}
		_, _, seen, err := forward(ctx, quick(), a, b)
		require.Error(t, err)
		require.Len(t, seen, 1)
	})
	t.Run("during an attempt that is answered", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		a := &script{name: "a", steps: []step{{status: 503}, {status: 503, before: func() { cancel(ended) }}}}
		b := &script{name: "b", steps: statuses(200)}
		_, _, seen, err := forward(ctx, quick(), a, b)
		wantCancelled(t, err, ended)
		require.Len(t, seen, 2)
		require.Equal(t, a.opened, a.closed)
	})
	t.Run("during the pause", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		a, b := &script{name: "a", steps: statuses(503)}, &script{name: "b", steps: statuses(200)}
		f := provider.NewForwarder(provider.RetryOptions{Delay: time.Hour})
		_, _, err := f.Forward(ctx, provider.Call{Targets: []provider.Target{{Provider: a}, {Provider: b}}, Build: plain,
			Observe: func(provider.AttemptResult) { time.AfterFunc(time.Millisecond, func() { cancel(ended) }) }})
		wantCancelled(t, err, ended)
		require.Equal(t, 1, a.calls)
		require.Zero(t, b.calls)
		require.Equal(t, a.opened, a.closed)
	})
	t.Run("out of time", func(t *testing.T) {
		ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
		defer cancel()
		_, _, _, err := forward(ctx, quick(), &script{name: "a", steps: statuses(200)})
		var e *provider.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, provider.KindTimeout, e.Kind)
	})
}

func wantCancelled(t *testing.T, err, cause error) {
	t.Helper()
	var e *provider.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, provider.KindCancelled, e.Kind)
	require.ErrorIs(t, err, cause)
}

func TestNothingToForwardTo(t *testing.T) {
	_, _, err := quick().Forward(t.Context(), provider.Call{})
	var e *provider.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, provider.KindRefused, e.Kind)
	a := &script{name: "a", steps: statuses(200)}
	_, _, err = quick().Forward(t.Context(), provider.Call{Targets: []provider.Target{{Provider: a}}, Build: func(provider.Target) *provider.Request { return nil }})
	require.ErrorAs(t, err, &e)
	require.Zero(t, a.calls)
}

// The pause is never shorter than what the provider asked for, whatever the jitter.
func TestRetryAfterIsHonoured(t *testing.T) {
	const pause = 20 * time.Millisecond
	for range 5 {
		a := &script{name: "a", steps: []step{{status: 429, header: http.Header{"Retry-After-Ms": {"20"}}}, {status: 200}}}
		_, _, seen, err := forward(t.Context(), quick(), a)
		require.NoError(t, err)
		require.GreaterOrEqual(t, seen[1].Start.Sub(seen[0].Start), pause)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 10, 21, 7, 28, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"0": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "1.5": 1500 * time.Millisecond, "1e300": 24 * time.Hour, "Inf": 24 * time.Hour,
		"Wed, 21 Oct 2026 07:29:00 GMT": time.Minute, "Wed, 21 Oct 2026 07:00:00 GMT": 0,
	} {
		got, ok := provider.RetryAfter(http.Header{"Retry-After": {text}}, now)
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "-1", "NaN", "soon"} {
		_, ok := provider.RetryAfter(http.Header{"Retry-After": {text}}, now)
		require.False(t, ok, text)
	}
	got, _ := provider.RetryAfter(http.Header{"Retry-After": {"9"}, "Retry-After-Ms": {"250"}}, now)
	require.Equal(t, 250*time.Millisecond, got)
}

// clinic is a provider whose health a test sets, behind a breaker on a clock of the test's.
type clinic struct {
	t      *testing.T
	f      *provider.Forwarder
	now    time.Time
	script *script
	target provider.Target
	states []provider.State
}

func newClinic(t *testing.T, retries int, steps ...step) *clinic {
	c := &clinic{t: t, now: time.Unix(1_700_000_000, 0), script: &script{name: "a", steps: steps}}
	c.f = provider.NewForwarder(provider.RetryOptions{ConnectRetries: retries, StatusRetries: retries, Delay: time.Microsecond, MaxDelay: 2 * time.Microsecond})
	c.target = provider.Target{Provider: c.script, Breaker: provider.NewBreaker("a", provider.BreakerOptions{
		MinCalls: 4, Now: func() time.Time { return c.now }, Changed: func(to provider.State) { c.states = append(c.states, to) },
	})}
	return c
}

func (c *clinic) call(caller string, more ...provider.Target) (*provider.Response, error) {
	resp, _, err := c.f.Forward(c.t.Context(), provider.Call{Caller: caller, Targets: append([]provider.Target{c.target}, more...), Build: plain})
	return resp, err
}

func TestBreaker(t *testing.T) {
	t.Run("opens for several callers, probes, closes", func(t *testing.T) {
		c := newClinic(t, -1, step{status: 500}, step{status: 500}, step{kind: provider.KindTimeout}, step{kind: provider.KindConnect}, step{status: 500}, step{status: 200})
		for _, caller := range []string{"one", "one", "one", "two"} {
			_, _ = c.call(caller)
		}
		require.Equal(t, provider.Open, c.target.Breaker.State())
		_, err := c.call("three")
		var e *provider.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, provider.KindOpen, e.Kind)
		require.Equal(t, 10*time.Second, e.RetryAfter)
		require.Contains(t, provider.Fault(err).Message, `"a"`, "the refusal names the provider")
		require.Contains(t, provider.Fault(err).Message, "circuit")
		require.Equal(t, 4, c.script.calls, "nobody asked it")

		resp, err := c.call("three", provider.Target{Provider: &script{name: "b", steps: statuses(200)}})
		require.NoError(t, err)
		require.Equal(t, 200, resp.Status)

		c.now = c.now.Add(10 * time.Second)
		_, err = c.call("one") // a probe that fails
		require.NoError(t, err)
		require.Equal(t, provider.Open, c.target.Breaker.State())
		c.now = c.now.Add(10 * time.Second)
		for range 2 {
			_, err = c.call("one")
			require.NoError(t, err)
		}
		require.Equal(t, []provider.State{provider.Open, provider.HalfOpen, provider.Open, provider.HalfOpen, provider.Closed}, c.states)
	})
	t.Run("one client shuts nobody out", func(t *testing.T) {
		c := newClinic(t, -1, step{status: 500})
		for range 100 {
			_, _ = c.call("one")
		}
		require.Equal(t, provider.Closed, c.target.Breaker.State())
	})
	t.Run("attempts are not calls", func(t *testing.T) {
		c := newClinic(t, 2, step{status: 500})
		_, _ = c.call("one")
		_, _ = c.call("two")
		require.Equal(t, 6, c.script.calls)
		require.Equal(t, provider.Closed, c.target.Breaker.State(), "two calls failed, not six")
		saved := newClinic(t, 2, step{status: 500}, step{status: 200}, step{status: 503}, step{status: 200})
		for range 20 {
			_, _ = saved.call("one")
			_, _ = saved.call("two")
		}
		require.Equal(t, provider.Closed, saved.target.Breaker.State(), "each call succeeded at last")
	})
	t.Run("old failures are forgotten", func(t *testing.T) {
		c := newClinic(t, -1, step{status: 500})
		for range 3 {
			_, _ = c.call("one")
		}
		c.now = c.now.Add(31 * time.Second)
		for range 3 {
			_, _ = c.call("two")
		}
		require.Equal(t, provider.Closed, c.target.Breaker.State())
	})
	t.Run("an open circuit does not hide the answer before it", func(t *testing.T) {
		c := newClinic(t, -1, step{status: 500})
		for _, caller := range []string{"one", "two", "one", "two"} {
			_, _ = c.call(caller)
		}
		limited := &script{name: "b", steps: statuses(429)}
		resp, _, err := c.f.Forward(t.Context(), provider.Call{Targets: []provider.Target{{Provider: limited}, c.target}, Build: plain})
		require.NoError(t, err)
		require.Equal(t, 429, resp.Status)
		require.Zero(t, limited.closed)
	})
	t.Run("what is not the provider's fault does not count", func(t *testing.T) {
		c := newClinic(t, -1, step{status: 429}, step{status: 400}, step{status: 401}, step{kind: provider.KindRefused}, step{kind: provider.KindCancelled})
		for i := range 40 {
			_, _ = c.call([]string{"one", "two"}[i%2])
		}
		require.Equal(t, provider.Closed, c.target.Breaker.State())
	})
	t.Run("one probe at a time, and a cancelled one is given back", func(t *testing.T) {
		c := newClinic(t, -1, step{status: 500}, step{status: 500}, step{status: 500}, step{status: 500}, step{kind: provider.KindCancelled}, step{status: 200})
		for _, caller := range []string{"one", "two", "one", "two"} {
			_, _ = c.call(caller)
		}
		c.now = c.now.Add(10 * time.Second)
		_, _ = c.call("one")
		require.Equal(t, provider.HalfOpen, c.target.Breaker.State())
		_, err := c.call("one")
		require.Error(t, err, "not at once")
		c.now = c.now.Add(time.Second)
		for range 2 {
			_, err = c.call("one")
			require.NoError(t, err)
		}
		require.Equal(t, provider.Closed, c.target.Breaker.State())
	})
}

// TestAcceptJudgesSuccess: an answer that is refused is a failed attempt; the next target is tried, and nobody else's answer is left open.
func TestAcceptJudgesSuccess(t *testing.T) {
	a, b := &script{name: "a", steps: statuses(200)}, &script{name: "b", steps: statuses(200)}
	var seen []provider.AttemptResult
	call := provider.Call{
		Targets: []provider.Target{{Provider: a}, {Provider: b}}, Build: plain, Observe: func(r provider.AttemptResult) { seen = append(seen, r) },
		Accept: func(t provider.Target, _ *provider.Response) error {
			if t.Provider.Name() == "a" {
				return &provider.Error{Provider: "a", Kind: provider.KindEmpty}
			}
			return nil
		},
	}
	_, target, err := quick().Forward(t.Context(), call)
	require.NoError(t, err)
	require.Equal(t, "b", target.Provider.Name())
	require.Equal(t, a.opened, a.closed)
	require.Len(t, seen, 2)
	require.Error(t, seen[0].Err)
	require.Equal(t, 200, seen[0].Status)

	call.Targets = call.Targets[:1]
	_, _, err = quick().Forward(t.Context(), call)
	require.Equal(t, fault.ProviderError, fault.CodeOf(provider.Fault(err)))
}

// TestOnceAllowsOneAttempt a target: what the caller does again is not done again here.
func TestOnceAllowsOneAttempt(t *testing.T) {
	a, b := &script{name: "a", steps: statuses(500)}, &script{name: "b", steps: statuses(503)}
	_, _, err := quick().Forward(t.Context(), provider.Call{Targets: []provider.Target{{Provider: a}, {Provider: b}}, Build: plain, Once: true})
	require.NoError(t, err)
	require.Equal(t, 1, a.calls)
	require.Equal(t, 1, b.calls)
}

func BenchmarkForward(b *testing.B) {
	s := &constant{resp: provider.Response{Status: 200, Body: http.NoBody}}
	targets := []provider.Target{{Provider: s, Breaker: provider.NewBreaker("c", provider.BreakerOptions{})}}
	f := quick()
	r := &provider.Request{}
	call := provider.Call{Caller: "key_1", Targets: targets, Build: func(provider.Target) *provider.Request { return r }, Observe: func(provider.AttemptResult) {}}
	b.ReportAllocs()
	for b.Loop() {
		_, _, err := f.Forward(b.Context(), call)
		if err != nil {
			b.Fatal(err)
		}
	}
}

type constant struct{ resp provider.Response }

func (c *constant) Name() string                        { return "c" }
func (c *constant) Capabilities() provider.Capabilities { return provider.Capabilities{} }
func (c *constant) Do(context.Context, *provider.Request) (*provider.Response, error) {
	return &c.resp, nil
}
