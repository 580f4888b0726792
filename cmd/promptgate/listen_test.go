package main

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
)

// Metrics name prompts: without a listener of their own they are for this machine only.
func TestMetricsAreNotForStrangers(t *testing.T) {
	for _, c := range []struct {
		name, addr, ops  string
		main, aside, log bool
	}{
		{"loopback", "127.0.0.1:0", "", true, false, false},
		{"all addresses", "0.0.0.0:0", "", false, false, true},
		{"all addresses, and one aside", "0.0.0.0:0", "127.0.0.1:0", false, true, false},
		{"loopback, and one aside", "127.0.0.1:0", "127.0.0.1:0", false, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := configs.Default()
			cfg.Addr, cfg.OpsAddr, cfg.Data = c.addr, c.ops, t.TempDir()
			var log bytes.Buffer
			a, err := newApp(t.Context(), cfg, slog.New(slog.NewTextHandler(&log, nil)))
			require.NoError(t, err)
			require.Equal(t, c.log, bytes.Contains(log.Bytes(), []byte("set ops_addr")), "%s", log.String())
			a.start()
			t.Cleanup(a.stop)
			_, port, err := net.SplitHostPort(a.addr())
			require.NoError(t, err)
			require.Equal(t, c.main, serves(t, "http://127.0.0.1:"+port+"/metrics"))
			if c.aside {
				require.True(t, serves(t, "http://"+a.ops.Addr().String()+"/metrics"))
			} else {
				require.True(t, serves(t, "http://127.0.0.1:"+port+"/readyz"), "health checks go on")
			}
		})
	}
}

// Profiles are served where an operator asked for them, and never on the data plane's listener.
func TestProfilesAreAside(t *testing.T) {
	cfg := configs.Default()
	cfg.Addr, cfg.Data, cfg.Profiling = "127.0.0.1:0", t.TempDir(), true
	require.ErrorContains(t, cfg.Validate(), "profiling: needs ops_addr")
	for _, on := range []bool{true, false} {
		cfg.OpsAddr, cfg.Profiling = "127.0.0.1:0", on
		require.NoError(t, cfg.Validate())
		a, err := newApp(t.Context(), cfg, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		a.start()
		require.Equal(t, on, serves(t, "http://"+a.ops.Addr().String()+"/debug/pprof/heap"))
		require.False(t, serves(t, "http://"+a.addr()+"/debug/pprof/heap"))
		a.stop()
	}
}

// Both listeners end a connection whose client announces a body and sends none.
func TestBodiesThatNeverCome(t *testing.T) {
	cfg := configs.Default()
	cfg.Addr, cfg.OpsAddr, cfg.Data, cfg.Server.ReadTimeout = "127.0.0.1:0", "127.0.0.1:0", t.TempDir(), 20*time.Millisecond
	a, err := newApp(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	a.start()
	t.Cleanup(a.stop)
	for _, addr := range []string{a.addr(), a.ops.Addr().String()} {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		_, err = io.WriteString(conn, "POST /v1/feedback HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second))) // the test's patience, no measure
		_, err = io.ReadAll(conn)
		require.NoError(t, err, "the connection stays open")
		require.NoError(t, conn.Close())
	}
}

func serves(t *testing.T, url string) bool {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	return resp.StatusCode == http.StatusOK
}
