package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/provider/egress"
	"github.com/promptgate/promptgate/policy/limits"
)

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// TestWebhook: a warning is signed as Standard Webhooks says, goes to no private address unless that is allowed, and follows no redirect.
func TestWebhook(t *testing.T) {
	var body []byte
	var head http.Header
	answer := http.StatusNoContent
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		head = r.Header
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(answer)
	}))
	defer server.Close()
	one := limits.Warning{
		ID: "warn_1", Limit: limits.Limit{Project: "prj_1", ID: "lim_1", Name: "team", Measure: limits.USD, Period: limits.Month, Scope: limits.ScopeProject}, Threshold: 85,
		Used: 850_000, Amount: 1_000_000, At: time.Now(), Start: time.Now(), End: time.Now(),
	}
	hook, err := newWebhook(configs.Webhook{URL: server.URL + "/hook", Secret: hookSecret, AllowPrivate: true})
	require.NoError(t, err)
	require.NoError(t, hook.warn(t.Context(), one))
	verifier, err := standardwebhooks.NewWebhook(hookSecret)
	require.NoError(t, err)
	require.NoError(t, verifier.Verify(body, head))
	require.Equal(t, "warn_1", head.Get("Webhook-Id"))
	for _, says := range []string{`"type":"limit.warning"`, `"percent":85`, `"used":0.85`, `"amount":1,`, `"name":"team"`} {
		require.Contains(t, string(body), says)
	}
	require.Error(t, verifier.Verify([]byte(strings.Replace(string(body), "85", "50", 1)), head))
	for _, answer = range []int{http.StatusFound, http.StatusInternalServerError} {
		require.ErrorContains(t, hook.warn(t.Context(), one), "answered")
	}

	_, err = newWebhook(configs.Webhook{URL: server.URL, Secret: hookSecret})
	require.ErrorContains(t, err, "https://")
	_, err = newWebhook(configs.Webhook{URL: server.URL, Secret: "whsec_c2hvcnQ=", AllowPrivate: true})
	require.ErrorContains(t, err, "secret")
	named, err := newWebhook(configs.Webhook{URL: "https://" + strings.TrimPrefix(server.URL, "http://127.0.0.1") + "x", Secret: hookSecret})
	require.Error(t, err, "%v", named)
	public, err := newWebhook(configs.Webhook{URL: "https://hooks.example.com/x", Secret: hookSecret})
	require.NoError(t, err)
	public.url = server.URL // as a name would that resolves to it
	require.ErrorIs(t, public.warn(t.Context(), one), egress.ErrBlocked)
}
