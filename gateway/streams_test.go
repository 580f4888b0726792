package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"
	"go.uber.org/goleak"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/metrics"
)

const streamed = `{"prompt":{"id":"support/triage","variables":{"ticket":"T"}},"stream":true}`

func TestStream(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondEvents(": hello\n\n", delta("Hi"), delta(" you"), finishEvent, usageEvent, doneEvent))
	a := e.chat(streamed)
	require.Equal(t, 200, a.status)
	assert.Equal(t, ": hello\n\n"+delta("Hi")+delta(" you")+finishEvent+doneEvent, string(a.body), "all but the usage chunk that we asked for")
	assert.Equal(t, "text/event-stream", a.header.Get("Content-Type"))
	assert.NotEmpty(t, a.header.Get("X-Promptgate-Call-Id"))
	assert.Equal(t, "1", a.header.Get("X-Promptgate-Version"))
	sent, _ := e.upstream.last()
	assert.True(t, gjson.GetBytes(sent, "stream_options.include_usage").Bool())
	c := e.only()
	assert.Equal(t, metrics.OutcomeOK, c.Outcome)
	assert.Equal(t, metrics.Tokens{Input: 7, Output: 3, Reported: true}, c.Tokens)
	assert.True(t, c.Stream)
	assert.Positive(t, c.FirstToken)
	assert.LessOrEqual(t, c.FirstToken, c.Total)
	assert.Equal(t, "chatcmpl-s", c.CompletionID)
}

func TestStreamUsageIsTheCallersWhenItAsked(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondEvents(delta("Hi"), finishEvent, usageEvent, doneEvent))
	a := e.chat(`{"model":"gpt-test","stream":true,"stream_options":{"include_usage":true}}`)
	assert.Equal(t, delta("Hi")+finishEvent+usageEvent+doneEvent, string(a.body))
	assert.True(t, e.only().Tokens.Reported)
}

func TestStreamWithoutInjectionIsEstimated(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.opts.InjectUsage = false })
	e.upstream.set(respondEvents(delta("Hi"), delta("you"), finishEvent, doneEvent))
	body := `{"model":"gpt-test","stream":true,"x":0}`
	a := e.chat(body)
	assert.Equal(t, delta("Hi")+delta("you")+finishEvent+doneEvent, string(a.body))
	sent, _ := e.upstream.last()
	assert.Equal(t, body, string(sent))
	c := e.only()
	assert.False(t, c.Tokens.Reported)
	assert.True(t, c.Tokens.Estimated)
	assert.Positive(t, c.Tokens.Output)
}

// Bytes are kept: a 4 MiB line, CRLF, comments, one byte a write.
func TestStreamBytesAreKept(t *testing.T) {
	long := delta(strings.Repeat("0123456789abcdef", 4<<20/16))
	crlf := strings.ReplaceAll(": ping\n\n"+delta("Hi")+"event: x\nid: 7\n"+delta("é"), "\n", "\r\n")
	for name, chunks := range map[string][]string{
		"4 MiB line":   {long, finishEvent, doneEvent},
		"CRLF":         {crlf, strings.ReplaceAll(finishEvent+doneEvent, "\n", "\r\n")},
		"byte by byte": strings.Split(crlf+delta("x")+finishEvent+doneEvent, ""),
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.upstream.set(respondEvents(chunks...))
			a := e.chat(`{"model":"gpt-test","stream":true}`)
			require.NoError(t, a.err)
			assert.Truef(t, strings.Join(chunks, "") == string(a.body), "%d bytes in, %d out, ending in %.600q", len(strings.Join(chunks, "")), len(a.body), a.body[max(0, len(a.body)-600):])
			assert.Equal(t, metrics.OutcomeOK, e.only().Outcome)
		})
	}
}

// hijacked answers with raw bytes and cuts the connection.
func hijacked(raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(buf, raw)
		_ = buf.Flush()
		_ = conn.Close()
	}
}

const (
	eventHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
	jsonHead  = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
)

func chunk(s string) string {
	const hex = "0123456789abcdef"
	n := len(s)
	return string([]byte{hex[n>>12&15], hex[n>>8&15], hex[n>>4&15], hex[n&15]}) + "\r\n" + s + "\r\n"
}

func TestStreamCut(t *testing.T) {
	for name, raw := range map[string]string{
		"inside the chunks":      eventHead + "Transfer-Encoding: chunked\r\n\r\n" + chunk(delta("Hi")),
		"inside an event":        eventHead + "Transfer-Encoding: chunked\r\n\r\n" + chunk(delta("Hi")) + chunk(`data: {"choices":[{"del`),
		"a clean end, no finish": eventHead + "Transfer-Encoding: chunked\r\n\r\n" + chunk(delta("Hi")) + "0\r\n\r\n",
		"connection close":       eventHead + "Connection: close\r\n\r\n" + delta("Hi"),
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.upstream.set(hijacked(raw))
			a := e.chat(streamed)
			require.NoError(t, a.err, "the caller's stream ends properly")
			body := string(a.body)
			require.True(t, strings.HasPrefix(body, delta("Hi")), body)
			assert.NotContains(t, body, "[DONE]")
			events := strings.Split(strings.TrimSpace(body), "\n\n")
			last := strings.TrimPrefix(events[len(events)-1], "data: ")
			assert.Equal(t, "provider_truncated", gjson.Get(last, "error.code").String(), body)
			c := e.only()
			assert.Equal(t, metrics.OutcomeTruncated, c.Outcome)
			assert.True(t, c.Tokens.Estimated, "what was sent has been paid for")
			assert.Equal(t, 1, e.upstream.count(), "no second attempt once a byte was sent")
		})
	}
}

func TestStreamThatNeverBegins(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(hijacked(eventHead + "Transfer-Encoding: chunked\r\n\r\n"))
	a := e.chat(streamed)
	assert.Equal(t, 502, a.status, "nothing was sent yet, so there is an honest status")
	assert.Equal(t, "provider_truncated", a.code())
	assert.Equal(t, "provider", a.header.Get("X-Promptgate-Error-Origin"))
}

func TestProvidersOwnErrorEvent(t *testing.T) {
	e := newEnv(t)
	oops := `data: {"error":{"message":"The server had an error","type":"server_error","code":null}}` + "\n\n"
	e.upstream.set(respondEvents(delta("Hi"), oops))
	a := e.chat(streamed)
	assert.Equal(t, delta("Hi")+oops, string(a.body), "its own words, and nothing added")
	assert.Equal(t, metrics.OutcomeProvider, e.only().Outcome)
}

func TestSilentStreamTimesOut(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.up.IdleTimeout = 50 * time.Millisecond })
	e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
		respondEvents(delta("Hi"))(w, r)
		<-r.Context().Done()
	})
	a := e.chat(streamed)
	assert.Contains(t, string(a.body), "provider_timeout")
	assert.NotContains(t, string(a.body), "[DONE]")
	assert.Equal(t, metrics.OutcomeTimeout, e.only().Outcome)
}

// The caller's leaving cancels the provider's request, before the head and in the stream.
func TestDisconnectReachesTheProvider(t *testing.T) {
	for name, begin := range map[string]bool{"before the head": false, "in the stream": true} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			asked, gone := make(chan struct{}), make(chan struct{})
			e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
				if begin {
					respondEvents(delta("Hi"))(w, r)
				}
				close(asked)
				<-r.Context().Done()
				close(gone)
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req := e.request(http.MethodPost, "/v1/chat/completions", streamed).WithContext(ctx)
			first, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				res, err := e.server.Client().Do(req)
				if err == nil {
					_, _ = io.ReadFull(res.Body, make([]byte, 8))
					close(first)
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
			}()
			<-asked
			if begin {
				<-first
			}
			cancel()
			<-gone
			<-done
			c := e.only()
			assert.Equal(t, metrics.OutcomeCancelled, c.Outcome)
			assert.Equal(t, "client_closed", c.ErrorCode)
			assert.Equal(t, 1, e.upstream.count(), "and there is no further attempt")
			assert.True(t, c.Tokens.Estimated)
			assert.Positive(t, c.Tokens.Input, "the provider had it")
			assert.Equal(t, "up", c.Provider)
		})
	}
}

func TestThousandAbandonedStreams(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	e := newEnv(t)
	ended := make(chan struct{}, 1000)
	e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
		respondEvents(delta("Hi"))(w, r)
		<-r.Context().Done()
		ended <- struct{}{}
	})
	const workers, each = 20, 50
	failed := make(chan error, workers)
	for range workers {
		go func() {
			for range each {
				if err := abandon(e); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range workers {
		require.NoError(t, <-failed)
	}
	for range workers * each {
		<-ended
	}
	require.Eventually(t, func() bool { return len(e.recorder.all()) == workers*each && e.gw.InFlight() == 0 }, 10*time.Second, time.Millisecond)
	for _, c := range e.recorder.calls {
		require.Equal(t, metrics.OutcomeCancelled, c.Outcome)
	}
	e.upstream.set(respondJSON(200, okJSON))
	assert.Equal(t, 200, e.chat(triage).status, "the next call succeeds")
	assert.Equal(t, e.meter.started.Load(), e.meter.ended.Load())
	e.server.Close()
	e.upstream.Close()
	e.closeProviders()
	goleak.VerifyNone(t, ignore)
}

// abandon opens a stream, reads its first event and leaves.
func abandon(e *env) error {
	conn, err := net.Dial("tcp", e.server.Listener.Addr().String())
	if err != nil {
		return err
	}
	defer conn.Close()
	body := streamed
	_, err = io.WriteString(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer caller\r\nContent-Length: "+
		itoa(len(body))+"\r\n\r\n"+body)
	if err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.HasPrefix(line, "data: ") {
			return nil
		}
	}
}

func TestSlowClientIsCut(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.opts.WriteTimeout = 100 * time.Millisecond })
	gone := make(chan struct{})
	e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		w.Header().Set("Content-Type", "text/event-stream")
		event := delta(strings.Repeat("x", 32<<10))
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, event); err != nil {
				return
			}
		}
	})
	conn, err := net.Dial("tcp", e.server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer caller\r\nContent-Length: "+
		itoa(len(streamed))+"\r\n\r\n"+streamed)
	require.NoError(t, err)
	<-gone // we read nothing at all
	assert.Equal(t, metrics.OutcomeCancelled, e.only().Outcome)
}

// A stream longer than the write deadline lives on: the deadline rolls.
func TestLongStreamOutlivesTheWriteDeadline(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.opts.WriteTimeout = 80 * time.Millisecond })
	e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
		for range 6 {
			respondEvents(delta("Hi"))(w, r)
			time.Sleep(40 * time.Millisecond)
		}
		respondEvents(finishEvent, doneEvent)(w, r)
	})
	a := e.chat(streamed)
	require.NoError(t, a.err)
	assert.Contains(t, string(a.body), "[DONE]")
}

// A kept connection is not harmed by the deadline that the answer before left armed. It is spoken to directly: Go's client would hide a
// dead connection by trying a GET again on a new one.
func TestKeptConnectionOutlivesTheWriteDeadline(t *testing.T) {
	const timeout = 50 * time.Millisecond
	e := newEnv(t, func(s *setup) { s.opts.WriteTimeout = timeout })
	e.upstream.set(respondEvents(delta("Hi"), finishEvent, doneEvent))
	conn, err := net.Dial("tcp", e.server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	r := bufio.NewReader(conn)
	for _, request := range []string{
		"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer caller\r\nContent-Length: " + itoa(len(streamed)) + "\r\n\r\n" + streamed,
		"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		_, err = io.WriteString(conn, request)
		require.NoError(t, err)
		res, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		_ = res.Body.Close()
		assert.Equal(t, 200, res.StatusCode)
		time.Sleep(2 * timeout) // the deadline has to pass: that is the case tested
	}
}

func TestPings(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.opts.PingInterval = 10 * time.Millisecond })
	pinged := make(chan struct{})
	e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
		respondEvents(delta("Hi"))(w, r)
		<-pinged
		respondEvents(finishEvent, doneEvent)(w, r)
	})
	res, err := e.server.Client().Do(e.request(http.MethodPost, "/v1/chat/completions", streamed))
	require.NoError(t, err)
	defer res.Body.Close()
	r := bufio.NewReader(res.Body)
	for {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		if line == ": ping\n" {
			break
		}
	}
	close(pinged)
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(string(rest), finishEvent+doneEvent))
	assert.Equal(t, metrics.OutcomeOK, e.only().Outcome)
}

func TestDrain(t *testing.T) {
	e := newEnv(t)
	begun := make(chan struct{})
	e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
		respondEvents(delta("Hi"))(w, r)
		close(begun)
		<-r.Context().Done()
	})
	streaming := make(chan answer)
	go func() { streaming <- e.chat(streamed) }()
	<-begun
	grace, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, e.gw.Drain(grace), context.DeadlineExceeded)
	ready := e.do(e.request(http.MethodGet, "/readyz", ""))
	assert.Equal(t, 503, ready.status)
	assert.Equal(t, "draining\n", string(ready.body))

	require.NoError(t, e.gw.Abort(t.Context()))
	a := <-streaming
	assert.NoError(t, a.err)
	assert.Contains(t, string(a.body), `"code":"overloaded"`)
	assert.NotContains(t, string(a.body), "[DONE]")
	c := e.only()
	assert.Equal(t, "overloaded", c.ErrorCode)
	assert.True(t, c.Tokens.Estimated, "its usage is recorded")
	require.NoError(t, e.gw.Drain(t.Context()))
}

func TestErrorAfterFirstByteIsNotRetried(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(hijacked(eventHead + "Content-Length: 100000\r\n\r\n" + delta("Hi")))
	a := e.chat(streamed)
	assert.Contains(t, string(a.body), "provider_truncated")
	assert.Equal(t, 1, e.upstream.count())
	assert.False(t, errors.Is(a.err, io.ErrUnexpectedEOF))
}

// A stream that waits for its events does not hold its request: another call has the room, and what is recorded is the stream's own.
func TestStreamLetsItsRequestGo(t *testing.T) {
	own := `{"model":"gpt-test","stream":true,"user":"first","messages":[{"role":"user","content":"` + strings.Repeat("x", 900) + `"}]}`
	other := strings.ReplaceAll(strings.ReplaceAll(own, "first", "other"), "x", "y")[:len(own)-100] + `"}]}`
	e := newEnv(t, func(s *setup) { s.opts.MaxBuffered, s.opts.InjectUsage = 4<<10, false })
	more := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(more) })
	defer goOn() // a server that closes waits for its handlers
	e.upstream.set(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, delta("Hi"))
		_ = http.NewResponseController(w).Flush()
		if e.upstream.count() == 1 {
			<-more
		}
		_, _ = io.WriteString(w, finishEvent+doneEvent)
	})
	first := make(chan answer)
	go func() { first <- e.chat(own) }()
	require.Eventually(t, func() bool { return e.upstream.count() == 1 }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return e.chat(other).status == 200 }, 10*time.Second, 10*time.Millisecond, "there is no room beside a stream that waits")
	goOn()
	require.Equal(t, delta("Hi")+finishEvent+doneEvent, string((<-first).body))

	calls := map[string]int64{}
	for _, c := range e.recorder.calls {
		if c.Outcome == metrics.OutcomeOK {
			calls[c.EndUser] = c.Tokens.Input
		}
	}
	require.Equal(t, map[string]int64{"hash:prj_one:first": int64(len(own) / 4), "hash:prj_one:other": int64(len(other) / 4)}, calls)
}

// What was let go is not given back once more: two later calls would share it.
func TestStreamGivesItsRequestBackOnce(t *testing.T) {
	e := newEnv(t)
	for range 50 {
		e.upstream.set(respondEvents(delta("Hi"), finishEvent, usageEvent, doneEvent))
		require.Equal(t, 200, e.chat(streamed).status)
		before := len(e.recorder.calls)
		var arrived atomic.Int64
		both := make(chan struct{})
		e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
			if arrived.Add(1) == 2 {
				close(both)
			}
			select {
			case <-both:
			case <-time.After(5 * time.Second):
			}
			respondJSON(http.StatusOK, okJSON)(w, r)
		})
		var calls sync.WaitGroup
		for _, user := range []string{"one", "two"} {
			calls.Go(func() {
				body := `{"model":"gpt-test","user":"` + user + `","messages":[]}`
				assert.Equal(t, 200, e.chat(body).status)
			})
		}
		calls.Wait()
		var users []string
		for _, c := range e.recorder.calls[before:] {
			users = append(users, c.EndUser)
		}
		require.ElementsMatch(t, []string{"hash:prj_one:one", "hash:prj_one:two"}, users)
	}
}

// slowSender is a provider that still reads the request after its stream has begun.
type slowSender struct {
	body, copied []byte
	events       io.ReadCloser
}

func (*slowSender) Name() string { return "slow" }
func (*slowSender) Capabilities() provider.Capabilities {
	return provider.Capabilities{APIs: []string{"chat"}, StreamUsage: true}
}

func (s *slowSender) Do(_ context.Context, r *provider.Request) (*provider.Response, error) {
	s.body, s.copied = r.Body, bytes.Clone(r.Body)
	return &provider.Response{Status: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, ContentLength: -1, Body: s.events}, nil
}

// The worst that could be here: another caller's request in the memory that a provider still sends.
func TestStreamKeepsARequestThatIsStillSent(t *testing.T) {
	e := newEnv(t)
	events, say := io.Pipe()
	defer say.Close()
	slow := &slowSender{events: events}
	e.router.targets["slow"] = []provider.Target{{Provider: slow, Model: "slow-1"}}
	text := strings.Repeat("x", 20_000)
	first := make(chan answer)
	go func() {
		first <- e.chat(`{"model":"slow","stream":true,"messages":[{"role":"user","content":"` + text + `"}]}`)
	}()
	_, err := io.WriteString(say, delta("Hi"))
	require.NoError(t, err)
	for range 50 { // of the same size, without and with edits
		other := strings.ReplaceAll(text, "x", "y")
		require.Equal(t, 200, e.chat(`{"model":"gpt-test","messages":[{"role":"user","content":"`+other+`"}]}`).status)
		require.Equal(t, 200, e.chat(`{"model":"alias","messages":[{"role":"user","content":"`+other+`"}]}`).status)
	}
	require.True(t, bytes.Equal(slow.copied, slow.body), "the request was given to another call")
	_, err = io.WriteString(say, finishEvent+doneEvent)
	require.NoError(t, err)
	require.NoError(t, say.Close())
	require.Equal(t, delta("Hi")+finishEvent+doneEvent, string((<-first).body))
}

// A ping runs on a timer's goroutine, where nobody else would catch what panics: the process survives it, and so do other calls.
func TestPanickingPing(t *testing.T) {
	e := newEnv(t, func(s *setup) {
		s.opts.PingInterval = 5 * time.Millisecond
		s.deps.HashDigest = func(string, string) string { panic("digest") }
	})
	e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		assert.Eventually(t, func() bool { return strings.Contains(e.logs.String(), "panic while serving") }, 5*time.Second, time.Millisecond)
		respondEvents(delta("Hi"), finishEvent, doneEvent)(w, r)
	})
	a := e.chat(strings.Replace(triage, "{", `{"stream":true,`, 1), "Authorization", "Bearer prompts")
	assert.Equal(t, 1, e.upstream.count())
	assert.Equal(t, http.StatusInternalServerError, a.status, "the head panics again where it is caught")
	e.upstream.set(respondJSON(200, `{"choices":[{"message":{"content":"Hi"}}]}`))
	assert.Equal(t, http.StatusOK, e.chat(plainCall).status)
}
