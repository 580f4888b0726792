package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/internal/testenv"
)

const pricedEcho = "providers: [{name: echo, kind: echo, latency: 20ms, price_list: {catalogue: none, prices: [{model: echo, input: 100, output: 100}]}}]\n"

const pricedCall = `{"model":"echo","max_tokens":60,"messages":[{"role":"user","content":"How much is a parcel to Norway, and how long does it take until it is there?"}]}`

func costOf(t *testing.T, a answer) int64 {
	t.Helper()
	dollars, err := strconv.ParseFloat(a.header.Get("X-Promptgate-Cost-Usd"), 64)
	require.NoError(t, err, "%s", a)
	return int64(dollars*1e6 + 0.5)
}

// TestReplicasShareABudget: 1,000 concurrent callers on a budget of $1 and three replicas, with Redis, without it, with Redis killed half-way, and with a
// replica killed half-way, which stays away, and then comes back. What is spent never passes the limit.
func TestReplicasShareABudget(t *testing.T) {
	for _, how := range []string{"redis", "no redis", "redis killed", "replica killed"} {
		t.Run(how, func(t *testing.T) {
			var server *testenv.RedisServer
			addr := ""
			if strings.HasPrefix(how, "redis") {
				server = testenv.Redis(t)
				addr = server.Addr
			}
			s := newSite(t, testenv.Postgres(t), addr, pricedEcho)
			data := []string{t.TempDir(), t.TempDir(), t.TempDir()}
			replicas := []*process{s.replica(data[0]), s.replica(data[1]), s.replica(data[2])}
			replicas[0].change("POST", "/limits", `{"name":"team","measure":"usd","amount":1,"period":"month","scope":"project"}`)
			replicas[0].change("POST", "/limits", `{"name":"rate","measure":"requests","amount":1000000,"period":"minute","scope":"each_key"}`)
			time.Sleep(time.Second) // seen by all

			var spent, made, refused, lost atomic.Int64
			var broken sync.Once
			disturb := func() {
				switch how {
				case "redis killed":
					server.Kill(t)
				case "replica killed":
					replicas[2].kill()
				}
			}
			var all sync.WaitGroup
			for i := range 1000 {
				all.Go(func() {
					for try := range 6 {
						a := replicas[(i+try)%3].send("POST", "/v1/chat/completions", pricedCall)
						switch {
						case a.err != nil: // the replica that was killed; what it answered is what counts
							lost.Add(1)
						case a.status == http.StatusOK:
							made.Add(1)
							if now := spent.Add(costOf(t, a)); now > 500_000 {
								broken.Do(disturb)
							}
						case a.status == http.StatusServiceUnavailable && a.errorCode() == "registry_unavailable": // a busy machine's database: fails closed
							refused.Add(1)
						case a.status == http.StatusTooManyRequests:
							refused.Add(1)
							if a.errorCode() == "budget_exceeded" {
								return
							}
							time.Sleep(50 * time.Millisecond)
						default:
							t.Errorf("%s", a)
						}
					}
				})
			}
			all.Wait()
			usage := func() admin.Usage {
				var l admin.Limit
				require.NoError(t, json.Unmarshal([]byte(replicas[0].send("GET", "/api/v1/limits/team", "").body), &l))
				require.NotNil(t, l.Usage)
				return *l.Usage
			}
			u := usage()
			t.Logf("%s: %d calls, %d refused, %d lost; answered for $%.6f of $1; the database says: used %.6f, reserved %.6f", how, made.Load(), refused.Load(), lost.Load(),
				float64(spent.Load())/1e6, u.Used, u.Reserved)
			require.LessOrEqual(t, spent.Load(), int64(1_000_000))
			require.LessOrEqual(t, u.Used+u.Reserved, 1.000001)
			require.Greater(t, spent.Load(), int64(500_000))
			require.Positive(t, refused.Load())
			if how == "replica killed" { // what its calls came to, and those under way; the rest of its lease is free
				replicas[2] = s.replica(data[2])
			}
			until(t, 30*time.Second, "leases are given back", func() bool {
				u = usage()
				return u.Reserved == 0
			})
			require.GreaterOrEqual(t, int64(u.Used*1e6+0.5), spent.Load())
			if how != "replica killed" {
				require.Equal(t, spent.Load(), int64(u.Used*1e6+0.5), "to the micro-dollar")
			}
		})
	}
}

// TestLimitsAreTold: what callers and admins see of limits: headers, refusals in each shape, the command line, and 412 for one of two admins.
func TestLimitsAreTold(t *testing.T) {
	s := newFileSite(t, t.TempDir(), "", pricedEcho)
	p := s.replica(t.TempDir())
	env := []string{"PROMPTGATE_URL=" + p.url, "PROMPTGATE_KEY=" + p.key}
	cli := func(code int, args ...string) string {
		t.Helper()
		out, errOut, got := runCLI(t, env, append([]string{"limit"}, args...)...)
		require.Equal(t, code, got, "%s%s", out, errOut)
		return out + errOut
	}
	require.Contains(t, cli(0, "set", "rate", "--requests", "3", "--per", "minute", "--for", "each_key", "--contact", "Kim"), "3 requests a minute for each_key")
	require.Contains(t, cli(0, "set", "team", "--usd", "25", "--per", "month", "--zone", "Europe/Berlin"), "$25 a month (Europe/Berlin) for project")
	require.Contains(t, cli(0, "set", "team", "--usd", "30.5", "--per", "month"), "$30.5 a month")
	require.Contains(t, cli(1, "set", "team", "--tokens", "5", "--per", "month"), "counts something else")
	require.Contains(t, cli(2, "set", "team", "--per", "month"), "say what is limited")
	until(t, seenWithin, "the limit is seen", func() bool {
		return p.send("POST", "/v1/chat/completions", pricedCall).header.Get("X-Ratelimit-Limit-Requests") == "3"
	})
	var refused answer
	until(t, seenWithin, "the rate is reached", func() bool {
		refused = p.send("POST", "/v1/chat/completions", pricedCall)
		return refused.status == http.StatusTooManyRequests
	})
	require.Equal(t, "rate_limit_exceeded", refused.errorCode())
	require.Equal(t, "0", refused.header.Get("X-Ratelimit-Remaining-Requests"))
	wait, err := strconv.Atoi(refused.header.Get("Retry-After"))
	require.NoError(t, err)
	require.True(t, wait > 0 && wait <= 20, wait)
	require.Contains(t, refused.body, `The limit \"rate\" of 3 requests a minute is reached`)
	require.Contains(t, refused.body, "Kim")
	anthropic := p.send("POST", "/v1/messages", `{"model":"echo","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`)
	require.Contains(t, anthropic.body, `"type":"rate_limit_error"`)
	require.Equal(t, "3", anthropic.header.Get("Anthropic-Ratelimit-Requests-Limit"))
	cli(0, "delete", "rate")

	require.Contains(t, cli(0, "show", "team"), "LEFT")
	require.Contains(t, cli(0, "list"), "team")
	require.Contains(t, cli(0, "list", "--own", "--json"), "[]")
	cli(0, "set", "mine", "--usd", "0.000001", "--per", "day", "--for", "each_key")
	until(t, seenWithin, "the budget is seen", func() bool {
		refused = p.send("POST", "/v1/chat/completions", pricedCall)
		return refused.errorCode() == "budget_exceeded"
	})
	require.Contains(t, refused.body, `"type":"insufficient_quota"`)
	require.Equal(t, "false", refused.header.Get("X-Should-Retry"))
	require.Contains(t, cli(0, "list", "--own"), "mine")
	require.Contains(t, cli(1, "reset", "mine", "--why", "x"), "subject")
	require.Contains(t, cli(0, "reset", "team", "--why", "a bad day"), "left")

	// Two admins change one limit: the second, who has not seen the first's change, is told.
	tag := p.send("GET", "/api/v1/limits/team", "").header.Get("Etag")
	p.change("PATCH", "/limits/team", `{"amount":40}`, "If-Match", tag)
	require.Equal(t, http.StatusPreconditionFailed, p.send("PATCH", "/api/v1/limits/team", `{"amount":50}`, "If-Match", tag).status)
	require.Equal(t, http.StatusConflict, p.send("POST", "/api/v1/limits", `{"name":"team","measure":"usd","amount":1,"period":"month","scope":"project"}`).status)
	require.Contains(t, fmt.Sprint(p.send("GET", "/api/v1/events?action=limit.reset", "")), "a bad day")
}
