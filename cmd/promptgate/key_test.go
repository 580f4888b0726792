package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/admin"
)

// TestKeyListTellsLastCalls, or that there was none, or that nobody knows, from all pages; in JSON as the management API does.
func TestKeyListTellsLastCalls(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := `{"keys":[{"id":"key_a","name":"used","last_call_at":"2026-11-20T12:01:00Z"},{"id":"key_b","name":"idle"}],"next":"more"}`
		if r.URL.Query().Get("after") == "more" {
			answer = `{"keys":[{"id":"key_c","name":"odd\u0085","last_call_unknown":true}]}`
		}
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(gateway.Close)
	list := func(flags ...string) string {
		out, errOut, code := runHere(t, append([]string{"key", "list", "--url", gateway.URL, "--key", "pg_x"}, flags...)...)
		require.Zero(t, code, errOut)
		return out
	}
	at := time.Date(2026, 11, 20, 12, 1, 0, 0, time.UTC)
	var ends []string
	for line := range strings.Lines(list()) {
		words := strings.Fields(line)
		ends = append(ends, words[0]+" "+words[len(words)-1])
	}
	require.Equal(t, []string{"ID CALL", "key_a " + at.Local().Format("15:04"), "key_b never", "key_c unknown"}, ends)
	require.Contains(t, list(), at.Local().Format("2006-01-02 15:04"))
	var keys []admin.Key
	require.NoError(t, json.Unmarshal([]byte(list("--json")), &keys))
	require.Len(t, keys, 3)
	require.Equal(t, &at, keys[0].LastCallAt)
	require.Nil(t, keys[1].LastCallAt)
	require.True(t, keys[2].LastCallUnknown)
	require.Equal(t, "odd\u0085", keys[2].Name)
}
