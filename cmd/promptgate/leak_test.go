package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/testenv"
)

// What must not be found anywhere. Letters and digits only, so that no escaping hides them.
const (
	canaryPrompt     = "CanaryPromptText8d1f0c2e"
	canaryVariable   = "CanaryVariableValue77aa31"
	canaryMessage    = "CanaryCallersMessage5ee0b9"
	canaryCredential = "CanaryProviderCredential04c1"
	canaryStored     = "CanaryStoredCredential9b2d"
	canaryPassword   = "CanaryRedisPassword60fe17"
	canaryComment    = "CanaryFeedbackComment3c3c88"
	canaryUser       = "CanaryEndUserName1b6e5d"
	canaryNote       = "CanaryVersionNote42d7aa"
	leakName         = "leak/prompt" // no secret: what the search must find, or it looks in the wrong place
)

// needles are the spellings under which a secret is looked for: as it is, in base64 (at each of three places in a triple), in hex.
func needles(secret string) (all []string) {
	all = append(all, secret, hex.EncodeToString([]byte(secret)))
	for skip := range 3 {
		cut := []byte(secret)[skip:]
		cut = cut[:len(cut)/3*3]
		all = append(all, base64.RawStdEncoding.EncodeToString(cut))
	}
	return all
}

// leakSearch looks for secrets in all that the gateway leaves behind.
type leakSearch struct {
	t       *testing.T
	mu      sync.Mutex
	needles map[string][]string // by what they are
	places  map[string]int      // bytes searched, by place
	hits    []string
}

func newLeakSearch(t *testing.T) *leakSearch {
	s := &leakSearch{t: t, needles: map[string][]string{}, places: map[string]int{}}
	for _, secret := range []string{
		canaryPrompt, canaryVariable, canaryMessage, canaryCredential, canaryStored, canaryPassword, canaryComment, canaryUser, canaryNote,
	} {
		s.add(secret, secret)
	}
	return s
}

func (s *leakSearch) add(what, secret string) { s.needles[what] = needles(secret) }

func (s *leakSearch) in(place string, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places[place] += len(text)
	for what, spellings := range s.needles {
		for _, n := range spellings {
			if at := bytes.Index(text, []byte(n)); at >= 0 && len(s.hits) < 20 {
				s.hits = append(s.hits, fmt.Sprintf("%s in %s: …%q…", what, place, text[max(0, at-60):min(len(text), at+80)]))
			}
		}
	}
}

// files searches every file below a folder: databases, their logs, the spool, the last-known-good file, keys. It reports whether the
// plain name of the prompt was in any.
func (s *leakSearch) files(dir string) (found bool) {
	s.t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // a spool segment that was dropped meanwhile
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil
		}
		rel, _ := filepath.Rel(dir, name)
		place := strings.TrimRight(rel, "0123456789-_.abcdef")
		if !strings.HasPrefix(rel, "spool") {
			place = rel
		}
		s.in(place, text)
		found = found || bytes.Contains(text, []byte(leakName))
		return nil
	})
	require.NoError(s.t, err)
	return found
}

// leakyUpstream is a provider that says all it knows in its errors.
func leakyUpstream(t *testing.T) *httptest.Server {
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		all, _ := json.Marshal(fmt.Sprintf("%s%s said %s", r.Header.Get("Authorization"), r.Header.Get("X-Api-Key"), body))
		fail := func(status int) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Request-Id", "req_1")
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, `{"error":{"message":%s,"type":"x","code":%s}}`, all, all)
		}
		switch {
		case bytes.Contains(body, []byte("-401\"")):
			fail(401)
		case bytes.Contains(body, []byte("-403\"")):
			fail(403)
		case bytes.Contains(body, []byte("-500\"")):
			fail(500)
		case bytes.Contains(body, []byte("-redirect\"")):
			w.Header().Set("Location", "http://127.0.0.1:1/?q="+string(all[1:len(all)-1]))
			w.WriteHeader(302)
		case bytes.Contains(body, []byte("-html\"")):
			w.Header().Set("Content-Type", "text/html")
			_, _ = fmt.Fprintf(w, "<html>%s</html>", all)
		case bytes.Contains(body, []byte("-broken\"")):
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"id":"x","choices":[{"message":{"content":%s`, all)
			panic(http.ErrAbortHandler)
		case bytes.Contains(body, []byte("-strange\"")):
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "x"+canaryCredential)
			_, _ = w.Write(all)
		}
	}))
	t.Cleanup(u.Close)
	return u
}

// TestNothingLeaks: keys, prompts, values, credentials and passwords are in no log, metric, error, file or Redis, whatever goes wrong.
func TestNothingLeaks(t *testing.T) {
	s := newLeakSearch(t)
	server := testenv.Redis(t)
	watch := lockRedis(t, server.Addr)
	data := t.TempDir()
	site := newFileSite(t, data, server.Addr, fmt.Sprintf(`
log_level: debug
log_format: json
providers:
  - {name: echo, kind: echo, models: [echo]}
  - {name: leaky, kind: openai, base_url: %q, api_key: %s, models: ["up-*"], allow_private: true}
  - {name: leaks, kind: anthropic, base_url: %[1]q, api_key: %[2]s, models: ["an-*"], allow_private: true}
`, leakyUpstream(t).URL+"/v1", canaryCredential))
	appendRedisPassword(t, site.config)
	s.add("API key", site.key)
	s.add("secret half of the API key", site.key[len(site.key)/2:len(site.key)-9])
	stored := watchRedis(t, watch, s)

	p := site.replica(data)
	leakSetUp(t, p, s)
	leakCalls(t, p, s)
	require.True(t, s.files(data), "the search does not find what is there: it looks in the wrong place")
	s.in("metrics", []byte(p.send("GET", "/metrics", "").body))
	p.kill() // leaves the spool as it is
	s.files(data)
	q := site.replica(data)
	leakCalls(t, q, s)
	q.stop() // writes the last-known-good file
	s.files(data)
	stored()

	for _, g := range []*process{p, q} {
		s.in("log", []byte(g.log.String()))
		s.in("output", []byte(g.out.String()))
		require.Contains(t, g.log.String(), leakName, "the log is not at debug level")
	}
	for _, place := range []string{"log", "metrics", "error answers", "promptgate.db-wal", "ledger.db-wal", lastKnownName, "redis values", "redis messages"} {
		require.Positive(t, s.places[place], "nothing was searched in %s: %v", place, s.places)
	}
	require.Empty(t, s.hits)
	t.Logf("%d secrets, each in five spellings: 0 hits in %v (bytes)", len(s.needles), s.places)
}

// lockRedis sets the password and returns a client that has it.
func lockRedis(t *testing.T, addr string) *redis.Client {
	t.Helper()
	open := redis.NewClient(&redis.Options{Addr: addr})
	defer open.Close()
	require.NoError(t, open.ConfigSet(t.Context(), "requirepass", canaryPassword).Err())
	c := redis.NewClient(&redis.Options{Addr: addr, Password: canaryPassword})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func appendRedisPassword(t *testing.T, config string) {
	t.Helper()
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	with := strings.Replace(string(text), "budget: 500ms", "budget: 500ms, password: "+canaryPassword, 1)
	require.NotEqual(t, string(text), with)
	require.NoError(t, os.WriteFile(config, []byte(with), 0o600))
}

// watchRedis searches every message that is published; the function that it returns searches every key and value.
func watchRedis(t *testing.T, c *redis.Client, s *leakSearch) (stored func()) {
	t.Helper()
	sub := c.PSubscribe(t.Context(), "*")
	_, err := sub.Receive(t.Context())
	require.NoError(t, err)
	var listening sync.WaitGroup
	listening.Go(func() {
		for m := range sub.Channel() {
			s.in("redis messages", []byte(m.Channel+" "+m.Payload))
		}
	})
	t.Cleanup(func() { _ = sub.Close(); listening.Wait() })
	return func() {
		ctx := t.Context()
		keys := 0
		for it := c.Scan(ctx, 0, "*", 1000).Iterator(); it.Next(ctx); keys++ {
			v, err := c.Get(ctx, it.Val()).Bytes()
			require.NoError(t, err)
			s.in("redis values", append([]byte(it.Val()+" "), v...))
		}
		require.Greater(t, keys, 3, "there is hardly anything in Redis")
	}
}

// leakSetUp stores the secrets that are stored.
func leakSetUp(t *testing.T, p *process, s *leakSearch) {
	t.Helper()
	p.change("POST", "/prompts", fmt.Sprintf(`{"name":%q,"note":%q,"content":{"model":"echo","messages":[{"role":"system","content":"%s {{who}}"},`+
		`{"role":"user","content":"{{value}}"}],"variables":{"value":{"schema":{"type":"string","maxLength":60}},"who":{"schema":{"type":"string"}}}}}`,
		leakName, canaryNote, canaryPrompt))
	p.change("PUT", "/prompts/leak%2Fprompt/labels/production", `{"version":1}`)
	p.change("POST", "/providers", fmt.Sprintf(`{"name":"stored","kind":"openai","base_url":"https://api.example.com/v1","credential":%q,"models":["never"]}`, canaryStored))
	for _, path := range []string{"/providers", "/providers/stored", "/keys", "/events", "/calls"} {
		s.in("management answers", []byte(strings.ReplaceAll(p.send("GET", "/api/v1"+path, "").body, canaryNote, "")))
	}
}

// leakCalls makes calls, most of which fail, and searches the answers that are errors.
func leakCalls(t *testing.T, p *process, s *leakSearch) {
	t.Helper()
	failed := func(a answer, status ...int) {
		t.Helper()
		if len(status) > 0 {
			require.Equal(t, status[0], a.status, "%s", a)
		}
		text, err := json.Marshal(a.header)
		require.NoError(t, err)
		s.in("error answers", append(text, a.body...))
	}
	post := func(path, body string, header ...string) answer { return p.send("POST", path, body, header...) }
	const chat = "/v1/chat/completions"
	body := func(model, value, more string) string {
		return fmt.Sprintf(`{"model":%q,"user":%q,"prompt":{"id":%q,"variables":{"value":%q,"who":%q}},"messages":[{"role":"user","content":%q}]%s}`,
			model, canaryUser, leakName, value, canaryVariable, canaryMessage, more)
	}
	ok := post(chat, body("default", canaryVariable, ""))
	require.Equal(t, http.StatusOK, ok.status, "%s", ok)
	require.Contains(t, ok.body, canaryMessage)
	require.Equal(t, http.StatusOK, post(chat, body("default", canaryVariable, `,"stream":true`)).status)
	require.Equal(t, http.StatusOK, post("/v1/prompts/leak%2Fprompt/render", fmt.Sprintf(`{"variables":{"value":"x","who":%q}}`, canaryVariable)).status)

	// What a provider repeats of a prompt is in no answer of a key that may only run it.
	weak := strings.TrimSpace(p.cli("key", "create", "weak "+strconv.Itoa(s.places["error answers"]), "--call", leakName+"@production"))
	for _, more := range []string{"", `,"stream":true`} {
		a := p.send("POST", "/v1/responses", fmt.Sprintf(`{"prompt":{"id":%q,"variables":{"value":"v","who":"w"}},"input":"i"%s}`, leakName, more), "Authorization", "Bearer "+weak)
		require.Equal(t, http.StatusOK, a.status, "%s", a)
		require.Contains(t, a.body, wire.Managed)
		s.in("answers of the Responses API", []byte(a.body))
		if more == "" {
			for _, path := range []string{"", "/input_items"} {
				kept := p.send("GET", "/v1/responses/"+gjson.Get(a.body, "id").Str+path, "", "Authorization", "Bearer "+weak)
				require.Equal(t, http.StatusOK, kept.status, "%s", kept)
				require.Contains(t, kept.body, wire.Managed)
				s.in("what a provider keeps", []byte(kept.body))
			}
		}
	}

	const messages = "/v1/messages"
	message := func(model, more string) string {
		return fmt.Sprintf(`{"model":%q,"max_tokens":9,"metadata":{"user_id":%q},"system":%q,"prompt":{"id":%q,"variables":{"value":%q,"who":%q}},"messages":[{"role":"user","content":%q}]%s}`,
			model, canaryUser, canaryMessage, leakName, canaryVariable, canaryVariable, canaryMessage, more)
	}
	for _, path := range []string{messages, messages + "/count_tokens"} {
		require.Equal(t, http.StatusOK, post(path, message("default", "")).status)
	}
	require.Equal(t, http.StatusOK, post(messages, message("default", `,"stream":true`)).status)
	for _, model := range []string{"an-401", "an-403", "an-500", "an-redirect", "an-html", "an-strange", "an-broken"} {
		failed(post(messages, message(model, "")), 502)
		failed(post(messages, message(model, `,"stream":true`)))
	}
	failed(post(messages, strings.Replace(message("default", ""), `"max_tokens":9,`, "", 1)), 400)
	failed(post(messages, message("default", `,"container":"`+canaryMessage+`"`)), 501)
	failed(send(p.url, p.key+"x", "POST", messages, message("default", "")), 401)

	for model, status := range map[string]int{"up-401": 502, "up-403": 502, "up-500": 502, "up-redirect": 502, "up-html": 502, "up-strange": 502, "up-broken": 502} {
		failed(post(chat, body(model, canaryVariable, "")), status)
		failed(post(chat, body(model, canaryVariable, `,"stream":true`)))
	}
	good := body("default", canaryVariable, "")
	failed(post(chat, good[:len(good)-3]), 400)
	failed(post(chat, `{"messages":"`+canaryMessage+`\q"}`), 400)
	failed(post(chat, `{"model":"echo","messages":[],"twice":"`+canaryMessage+`","twice":"`+canaryMessage+`"}`), 400)
	failed(post(chat, body("default", strings.Repeat(canaryVariable, 9), "")), 400)
	failed(post(chat, strings.Replace(good, `"value":`, `"value":[1],"other":`, 1)), 400)
	failed(post(chat, good, "X-Promptgate-Variables", "{"+canaryVariable), 400)
	failed(post(chat, good, "Content-Encoding", "gzip"))
	failed(post("/v1/prompts/leak%2Fprompt/render", `{"variables":{"value":"`+strings.Repeat(canaryVariable, 9)+`"}}`), 400)
	failed(post("/v1/messages/batches", good), 501)
	failed(post("/no/such/"+p.key+"?key="+p.key, good), 404)
	failed(p.send("GET", "/v1/models?api_key="+p.key, ""))
	failed(send(p.url, p.key[:len(p.key)-1]+"x", "POST", chat, good), 401)
	failed(send(p.url, p.key+"x", "POST", chat, good), 401)
	failed(send(p.url, "sk-"+canaryCredential, "POST", chat, good), 401)

	call := ok.header.Get("X-Promptgate-Call-Id")
	feedback := fmt.Sprintf(`{"call_id":%q,"name":"helpful","value":true,"comment":%q,"user":%q}`, call, canaryComment, canaryUser)
	require.Less(t, post("/v1/feedback", feedback).status, 300)
	failed(post("/v1/feedback", strings.Replace(feedback, `"value":true`, `"value":{"a":"`+canaryComment+`"}`, 1)), 400)
	failed(post("/v1/feedback", feedback[:len(feedback)-2]), 400)

	version := "/api/v1/prompts/leak%2Fprompt/versions"
	failed(post(version, `{"content":{"messages":[{"role":"user","content":"{{#open}} `+canaryPrompt+`"}]}}`), 400)
	failed(post(version, `{"content":{"messages":[{"role":"user","content":"x"}],"tools":"`+canaryPrompt+`"}}`), 400)
	failed(post(version, `{"content":{"messages":[{"role":"user","content":["`+canaryPrompt+`"]}]}}`), 400)
	failed(post(version, `{"nope":"`+canaryPrompt+`"}`), 400)
	failed(post("/api/v1/providers", fmt.Sprintf(`{"name":"bad","kind":"openai","base_url":"http://127.0.0.1:1/v1","credential":%q}`, canaryStored)), 400)
	failed(post("/api/v1/providers", fmt.Sprintf(`{"name":"bad","kind":"openai","base_url":"https://x.example.com","credential":{"a":%q}}`, canaryStored)), 400)
	failed(rawRequest(t, p, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization Bearer "+p.key+"\r\n\r\n"))
}

// rawRequest sends bytes that are no HTTP and returns what comes back.
func rawRequest(t *testing.T, p *process, text string) (a answer) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, text)
	require.NoError(t, err)
	body, _ := io.ReadAll(bufio.NewReader(conn))
	return answer{body: string(body)}
}
