// Package providertest holds the suites that every provider and every provider.Store runs: Contract for all providers, Upstream for
// those that talk to a network, Store for stores.
package providertest

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promptgate/promptgate/gateway/provider"
)

// Plain and Streaming are requests that every provider answers with 200.
const (
	Plain     = `{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hello there"}]}`
	Streaming = `{"model":"m","stream":true,"messages":[{"role":"user","content":"Hello there, count to five please"}]}`
)

// patience bounds what a test waits for; nothing that works takes as long.
const patience = 20 * time.Second

// Chat is a request for a chat completion.
func Chat(body string) *provider.Request {
	return &provider.Request{API: provider.APIChat, Endpoint: "chat/completions", Body: []byte(body), Stream: strings.Contains(body, `"stream":true`)}
}

// Shape is a shape of requests that a provider is held to the contract in.
type Shape struct {
	API, Endpoint    string
	Plain, Streaming string // requests that it answers with 200
	Answer, End      string // what is in the answer to Plain, and what that to Streaming ends with
}

// Messages is Anthropic's Messages API.
func Messages() Shape {
	return Shape{
		API: provider.APIMessages, Endpoint: "messages", Plain: `{"model":"m","max_tokens":9,"system":"Be brief.","messages":[{"role":"user","content":"Hello there"}]}`,
		Streaming: `{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Hello there, count to five please"}]}`,
		Answer:    `"type":"message"`, End: "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
	}
}

// request is a request in the shape.
func (s Shape) request(body string) *provider.Request {
	return &provider.Request{API: s.API, Endpoint: s.Endpoint, Body: []byte(body), Stream: strings.Contains(body, `"stream":true`)}
}

// Contract checks what holds for every provider that speaks chat. newProvider makes one whose upstream, if any, answers Plain and Streaming.
func Contract(t *testing.T, newProvider func(t *testing.T) provider.Provider) {
	ContractIn(t, Shape{
		API: provider.APIChat, Endpoint: "chat/completions", Plain: Plain, Streaming: Streaming, Answer: `"chat.completion"`, End: "data: [DONE]\n\n",
	}, newProvider)
}

// ContractIn is Contract in another shape.
func ContractIn(t *testing.T, shape Shape, newProvider func(t *testing.T) provider.Provider) {
	ask := shape.request
	t.Run("names itself", func(t *testing.T) {
		require.NotEmpty(t, newProvider(t).Name())
	})
	t.Run("JSON", func(t *testing.T) {
		p := newProvider(t)
		resp, err := p.Do(ctx(t), ask(shape.Plain))
		require.NoError(t, err)
		require.Equal(t, 200, resp.Status)
		body := readAll(t, resp)
		require.Contains(t, string(body), shape.Answer)
		if resp.ContentLength >= 0 {
			require.EqualValues(t, resp.ContentLength, len(body))
		}
	})
	t.Run("stream ends with its mark", func(t *testing.T) {
		resp, err := newProvider(t).Do(ctx(t), ask(shape.Streaming))
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream"))
		require.True(t, strings.HasSuffix(string(readAll(t, resp)), shape.End))
	})
	t.Run("a shape it does not speak", func(t *testing.T) {
		p := newProvider(t)
		require.NotEmpty(t, p.Capabilities().APIs)
		require.True(t, p.Capabilities().Speaks(shape.API))
		for _, api := range []string{"", "toy", "Chat", "Messages"} {
			require.False(t, p.Capabilities().Speaks(api))
			r := ask(shape.Plain)
			r.API = api
			_, err := p.Do(ctx(t), r)
			wantKind(t, err, provider.KindRefused)
			require.ErrorContains(t, err, strconv.Quote(api))
		}
	})
	t.Run("cancelled before", func(t *testing.T) {
		gone, cancel := context.WithCancel(ctx(t))
		cancel()
		_, err := newProvider(t).Do(gone, ask(shape.Plain))
		wantKind(t, err, provider.KindCancelled)
	})
	t.Run("too late before", func(t *testing.T) {
		late, cancel := context.WithDeadline(ctx(t), time.Unix(1, 0))
		defer cancel()
		_, err := newProvider(t).Do(late, ask(shape.Plain))
		wantKind(t, err, provider.KindTimeout)
	})
	t.Run("closed unread", func(t *testing.T) {
		p := newProvider(t)
		for range 20 {
			resp, err := p.Do(ctx(t), ask(shape.Streaming))
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			_, err = resp.Body.Read(make([]byte, 1))
			require.Error(t, err)
			require.NotErrorIs(t, err, io.EOF, "a closed body must not look like a finished one")
		}
	})
	t.Run("concurrently", func(t *testing.T) {
		p := newProvider(t)
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				body := shape.Plain
				if i%2 == 0 {
					body = shape.Streaming
				}
				resp, err := p.Do(ctx(t), ask(body))
				if err != nil {
					t.Errorf("call %d: %v", i, err)
					return
				}
				if _, err := io.ReadAll(resp.Body); err != nil {
					t.Errorf("body %d: %v", i, err)
				}
				_ = resp.Body.Close()
			})
		}
		wg.Wait()
	})
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return c
}

func readAll(t *testing.T, resp *provider.Response) []byte {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return body
}

func wantKind(t *testing.T, err error, kind provider.Kind) *provider.Error {
	t.Helper()
	require.Error(t, err)
	var e *provider.Error
	require.True(t, errors.As(err, &e), "%T is no *provider.Error: %v", err, err)
	require.Equal(t, kind, e.Kind, "%v", err)
	require.NotEmpty(t, e.Provider)
	return e
}

// NoLeaks fails the test when, after its other cleanups, it leaves goroutines or descriptors behind. Call it first.
func NoLeaks(t *testing.T) {
	t.Helper()
	before := descriptors()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if err := goleak.Find(ignore); err != nil {
			t.Error(err)
		}
		if after := descriptors(); after > before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}
