package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/internal/testenv"
)

// slowUpstream works on each response for as long as it is told to.
func slowUpstream(t *testing.T) (url string, done *atomic.Bool) {
	done = new(atomic.Bool)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		state, usage, output := "queued", "null", ""
		if r.Method == http.MethodGet && done.Load() {
			state, usage, output = "completed", `{"input_tokens":1000,"output_tokens":10,"total_tokens":1010}`, `{"type":"message","content":[{"type":"output_text","text":"Hi"}]}`
		}
		_, _ = fmt.Fprintf(w, `{"id":"resp_slow","object":"response","status":%q,"error":null,"background":true,"model":"gpt-4o-mini","output":[%s],"usage":%s}`, state, output, usage)
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1", done
}

// TestBackgroundOutlivesItsReplica: a background response whose replica was killed is billed all the same: by its next life, whose spool still has to be
// committed, or by another replica; once, whoever asked.
func TestBackgroundOutlivesItsReplica(t *testing.T) {
	for _, c := range []struct{ name, database string }{{"the same, on SQLite", "sqlite"}, {"another, on PostgreSQL", "postgres"}} {
		t.Run(c.name, func(t *testing.T) {
			upstream, done := slowUpstream(t)
			data := t.TempDir()
			more := fmt.Sprintf("providers: [{name: up, kind: openai, base_url: %q, api_key: sk-up, models: [gpt-4o-mini], allow_private: true}]\n", upstream)
			var s *site
			if c.database == "sqlite" {
				s = newFileSite(t, data, "", more)
			} else {
				s = newSite(t, testenv.Postgres(t), "", more)
			}
			first := s.replica(data)
			made := first.send("POST", "/v1/responses", `{"model":"gpt-4o-mini","input":"x","background":true}`)
			require.Equal(t, http.StatusOK, made.status, "%s", made)
			call := made.header.Get("X-Promptgate-Call-Id")
			shown := func(p *process) gjson.Result { return gjson.Parse(p.send("GET", "/api/v1/calls/"+call, "").body) }
			if c.database == "postgres" { // what the first one's spool holds, nobody else has
				until(t, seenWithin, "the call does not show as running", func() bool { return shown(first).Get("outcome").Str == "running" })
				data = t.TempDir()
			}
			first.kill()
			next := s.replica(data)
			until(t, seenWithin, "the next one does not know the response", func() bool {
				return next.send("GET", "/v1/responses/resp_slow", "").status == http.StatusOK
			})
			require.Equal(t, "running", shown(next).Get("outcome").Str)
			done.Store(true)
			until(t, 90*seenWithin, "nobody settles it", func() bool { return shown(next).Get("outcome").Str == "ok" })
			got := shown(next)
			require.Equal(t, int64(1000), got.Get("tokens.input").Int(), got.Raw)
			require.Positive(t, got.Get("cost_usd").Float(), got.Raw)
			list := gjson.Parse(next.send("GET", "/api/v1/calls", "").body).Get("calls")
			settled := 0
			for _, one := range list.Array() {
				if one.Get("endpoint").Str == "responses" {
					settled++
				}
			}
			require.Equal(t, 1, settled, list.Raw)
		})
	}
}
