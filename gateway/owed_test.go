package gateway_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/openai"
)

// TestCancelWhileDialing: a provider that was never reached cannot charge.
func TestCancelWhileDialing(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(fd, 0))
	sa, _ := syscall.Getsockname(fd)
	addr := fmt.Sprintf("127.0.0.1:%d", sa.(*syscall.SockaddrInet4).Port)
	for range 4 {
		if c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond); err == nil {
			defer c.Close()
		} else {
			break // it is full
		}
	}
	e := newEnv(t)
	p, err := openai.New(upAt("http://"+addr, "dead", "k"))
	require.NoError(t, err)
	defer p.Close()
	e.router.targets["gpt-test"] = []provider.Target{{Provider: p, Model: "gpt-test"}}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	req := e.request(http.MethodPost, "/v1/responses", `{"model":"gpt-test","input":"hello hello hello hello"}`).WithContext(ctx)
	_, err = e.server.Client().Do(req)
	require.Error(t, err)
	rec := e.only()
	assert.False(t, rec.Tokens.Estimated, "never connected, yet charged")
}

// TestOwedAttribution: what a provider may charge stands with the attempt that it was asked in, whoever was tried after it.
func TestOwedAttribution(t *testing.T) {
	e := withResponses(t)
	e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "5000")
		_, _ = w.Write([]byte(`{"id":"resp_1","output":[{"type":"mess`))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	addr := l.Addr().String()
	l.Close()
	p, err := openai.New(upAt("http://"+addr, "dead", "k"))
	require.NoError(t, err)
	defer p.Close()
	e.router.targets["gpt-test"] = append(e.router.targets["gpt-test"], provider.Target{Provider: p, Model: "gpt-test"})
	require.Equal(t, 502, e.respond(`{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now"}`).status)
	rec := e.only()
	assert.Equal(t, "up", rec.Provider)
	assert.Positive(t, rec.Tokens.Output, "of what came before it broke off")
	for _, at := range rec.Attempts {
		assert.Equal(t, at.Provider == "up" && at.Tokens.Estimated, at.CostMicros != nil, "%+v", at)
	}
	var paid int
	for _, at := range rec.Attempts {
		if at.CostMicros != nil {
			paid++
		}
	}
	assert.Equal(t, 1, paid)
}
