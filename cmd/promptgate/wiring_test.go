package main

import (
	"log/slog"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
)

// A setting that stopped on its way would be one that does nothing, and nobody would be told.
func TestRedisSettingsReachItsClient(t *testing.T) {
	got := reflect.ValueOf(redisConfig(configs.Redis{
		Addrs: []string{"a:1"}, Cluster: true, MasterName: "m", Username: "u", Password: "p", PasswordFile: "/p",
		SentinelUsername: "su", SentinelPassword: "sp", SentinelPasswordFile: "/sp", DB: 1, TLS: true, CAFile: "/c", CertFile: "/cert", KeyFile: "/key",
		Budget: time.Second,
	}))
	for i := range got.NumField() {
		require.False(t, got.Field(i).IsZero(), got.Type().Field(i).Name)
	}
	require.False(t, redisConfig(configs.Redis{Addrs: []string{"a:1"}}).Cluster)
	require.True(t, redisConfig(configs.Redis{Addrs: []string{"a:1", "b:1"}}).Cluster)
	require.False(t, redisConfig(configs.Redis{Addrs: []string{"a:1", "b:1"}, MasterName: "m"}).Cluster, "those are Sentinels")
}

func TestOriginsReachTheGateway(t *testing.T) {
	cfg := configs.Default()
	cfg.Addr, cfg.Data, cfg.Feedback.AllowedOrigins = "127.0.0.1:0", t.TempDir(), []string{"https://app.example.com"}
	a, err := newApp(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	a.start()
	t.Cleanup(a.stop)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, "http://"+a.addr()+"/v1/feedback", nil)
	require.NoError(t, err)
	req.Header.Set("Origin", "https://app.example.com")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "https://app.example.com", resp.Header.Get("Access-Control-Allow-Origin"))
}

// The collector runs half as often as Go's own pace; who sets GOGC means it.
func TestCollectorsPace(t *testing.T) {
	for env, want := range map[string]float64{"GOGC=": 200, "GOGC=150": 150} {
		p := startGateway(t, t.TempDir(), []string{env}, "--demo")
		require.InDelta(t, want, p.series()["go_gc_gogc_percent"], 0, env)
		p.stop()
	}
}
