package admin_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Bodies that never come to their end take what has come, are bounded together, and leave others room. Without a key, and without the
// permission, nothing of a body is read.
func TestHalfSentBodies(t *testing.T) {
	e := newEnv(t)
	e.prompt(e.shop, "a")
	at, err := url.Parse(e.url)
	require.NoError(t, err)
	half := func(key string) {
		conn, err := net.Dial("tcp", at.Host)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = fmt.Fprintf(conn, "POST /api/v1/prompts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", key, 4<<20)
		require.NoError(t, err)
		go func() { _, _ = io.WriteString(conn, strings.Repeat(" ", 1<<20-10)) }()
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 60 { // each promises 4 MiB and sends one
		half(e.admin)
	}
	send := func(key string) int {
		return e.do(key, http.MethodPost, "/prompts/a/versions", text(strings.Repeat(" ", 3<<20)+"{}")).Status
	}
	require.Eventually(t, func() bool { return send(e.admin) == 503 }, 20*time.Second, 20*time.Millisecond, "its share is taken")
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapInuse)-int64(before.HeapInuse), int64(128<<20))
	other := e.key(e.shop, "admin")
	require.NotEqual(t, 503, send(other), "another's is not")
}
