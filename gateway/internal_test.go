package gateway

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/limits"
)

func TestReadAll(t *testing.T) {
	var p buffers
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{0, 1, 4095, 4096, 4097, 300_000, 5 << 20}).Draw(t, "size")
		hint := rapid.SampledFrom([]int64{-1, 0, int64(size), 1 << 40}).Draw(t, "hint")
		limit := rapid.SampledFrom([]int64{1, 4096, 300_000, 8 << 20}).Draw(t, "limit")
		text := strings.Repeat("x", size)
		b, more, err := p.readAll(strings.NewReader(text), hint, limit, nil)
		require.NoError(t, err)
		require.Equal(t, int64(size) > limit, more)
		if !more {
			require.Equal(t, text, string(b.B))
		}
		require.LessOrEqual(t, int64(cap(b.B)), max(4*int64(size), firstBytes), "no more memory than four times what came")
		p.put(b)
	})
	_, _, err := p.readAll(iotest.ErrReader(io.ErrUnexpectedEOF), 10, 10, nil)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	b, _, err := p.readAll(iotest.DataErrReader(strings.NewReader("abc")), -1, 10, nil)
	require.NoError(t, err)
	assert.Equal(t, "abc", string(b.B))
}

func TestSplitPath(t *testing.T) {
	for path, want := range map[string][2]string{
		"/v1/prompts/a/render":          {"a", "render"},
		"/v1/prompts/a/b/render":        {"a/b", "render"},
		"/v1/prompts/a%2Fb/completions": {"a/b", "completions"},
		"/v1/prompts/a/render/render":   {"a/render", "render"},
		"/v1/prompts/a%2Frender/render": {"a/render", "render"},
		"/v1/prompts/a%40production/x":  {"a@production", "x"},
		"/v1/prompts/a%2Frender":        {},
		"/v1/prompts/render":            {},
		"/v1/prompts//render":           {},
		"/v1/elsewhere/a/render":        {},
	} {
		u, err := url.Parse(path)
		require.NoError(t, err)
		name, verb, ok := splitPath(u)
		assert.Equal(t, want != [2]string{}, ok, path)
		if ok {
			assert.Equal(t, want, [2]string{name, verb}, path)
		}
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"Incorrect API key provided: sk-proj-abc123DEF456. Go on": "Incorrect API key provided: [redacted] Go on",
		`{"key":"abcdefgh01234567"}`:                              `{"key":"[redacted]"}`,
		"authentication_error invalid_request_error insufficient": "authentication_error invalid_request_error insufficient",
		strings.Repeat("a", 41):                                   "[redacted]",
		"":                                                        "",
	} {
		assert.Equal(t, want, redact(in))
	}
}

func TestDollars(t *testing.T) {
	for micros, want := range map[int64]string{0: "0.000000", 1: "0.000001", 12_345: "0.012345", 1_000_000: "1.000000", 98_765_432: "98.765432"} {
		assert.Equal(t, want, dollars(micros))
	}
}

func TestEndsEvent(t *testing.T) {
	for _, c := range []struct {
		before bool
		p      string
		want   bool
	}{
		{true, "data: x\n\n", true}, {true, "data: x\r\n\r\n", true}, {true, "data: x\r\r", true}, {true, "data: x\n", false},
		{true, "data: x", false}, {true, "\n", true}, {false, "\n", false}, {false, "x\n\n", true},
	} {
		assert.Equal(t, c.want, endsEvent(c.before, []byte(c.p)), "%v %q", c.before, c.p)
	}
}

// A pooled call is as good as a new one: what one request left behind never shows in the next.
func TestCallResets(t *testing.T) {
	c := &call{done: true, byPath: true, pathName: "x", action: policy.ActionCall, who: &policy.Principal{}, lender: &buffers{},
		w: httptest.NewRecorder(), req: Request{From: "x"}, ctl: &http.ResponseController{}}
	c.in.buf, c.in.held, c.in.stream, c.in.ref.Handle, c.ans.armed = &buffer{}, limits.Grant(nil, "", 1), true, "h", time.Now()
	c.rec.Project, c.ref.label, c.ans.begun, c.out.byCaller = "p", "l", true, true
	require.NoError(t, c.in.body.Scan([]byte(`{"model":"secret"}`)))
	c.in.model = "secret"
	c.who = &policy.Principal{}
	c.prepare(t.Context())
	c.reset()
	assert.NotNil(t, c.out.callbacks.Build, "made once")
	back := &c.out.callbacks
	c.readsNow = nil
	back.Build, back.Accept, back.Rebuild, back.Observe = nil, nil, nil, nil
	model, err := c.in.body.Model()
	require.NoError(t, err)
	assert.Empty(t, model)
	assert.Empty(t, c.in.body.Raw())
	c.in.body = (&call{}).in.body
	c.out.edits, c.ans.slices, c.rec.Attempts = nil, nil, nil
	assert.Equal(t, call{}, *c)
}

// TestClosersAlwaysRun: whichever step or closer panics, every closer runs once, after the steps, in order; and what they are told is a failure.
func TestClosersAlwaysRun(t *testing.T) {
	const steps, closers = 3, 3
	for at := range steps + closers + 1 { // the last: nothing panics
		var ran []string
		p := pipeline{}
		for i := range steps {
			p.steps = append(p.steps, func(context.Context, *call) error {
				ran = append(ran, "step")
				if i == at {
					panic("step")
				}
				return nil
			})
		}
		for i := range closers {
			p.closing = append(p.closing, func(_ context.Context, _ *call, err error) {
				ran = append(ran, strconv.Itoa(i))
				assert.Equal(t, at < steps, err != nil)
				if steps+i == at {
					panic("closer")
				}
			})
		}
		func() {
			defer func() { assert.Equal(t, at < steps+closers, recover() != nil) }()
			assert.NoError(t, p.run(t.Context(), new(call)))
		}()
		assert.Equal(t, append(slices.Repeat([]string{"step"}, min(at+1, steps)), "0", "1", "2"), ran)
	}
}

// TestRunsAreLetGo: what has ended is forgotten, and what is asked about is not asked about twice at once.
func TestRunsAreLetGo(t *testing.T) {
	var r runs
	now := time.Now()
	one := &run{call: metrics.Call{ID: "call_1"}, wait: time.Second}
	r.add(one)
	r.add(&run{call: metrics.Call{ID: "call_1"}})
	require.Equal(t, []*run{one}, r.due(now))
	require.Empty(t, r.due(now.Add(time.Hour)), "it is being asked about")
	r.asked(one, false, now)
	require.Empty(t, r.due(now.Add(2*time.Second-1)))
	require.Len(t, r.due(now.Add(2*time.Second)), 1)
	for range 10 {
		r.asked(one, false, now)
	}
	require.Len(t, r.due(now.Add(mostRunPoll)), 1)
	r.asked(one, true, now)
	require.Empty(t, r.all)
}
