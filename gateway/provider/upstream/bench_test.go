package upstream

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
)

// BenchmarkDo compares connections of our own with http.Transport under the same checks, and with http.Transport alone. The server's work is in all.
func BenchmarkDo(b *testing.B) {
	answer := `{"choices":[{"message":{"content":"` + strings.Repeat("a", 900) + `"}}]}`
	event := "data: {\"choices\":[{\"delta\":{\"content\":\"word\"}}]}\n\n"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("Accept") != acceptStream[0] {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, answer)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for range 100 {
			_, _ = io.WriteString(w, event)
			_ = http.NewResponseController(w).Flush()
		}
	}))
	defer s.Close()
	body := []byte(`{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("q", 900) + `"}]}`)
	for _, stream := range []bool{false, true} {
		name := map[bool]string{false: "JSON", true: "SSE"}[stream]
		for _, way := range []string{"direct", "transport"} {
			c, err := New(Options{BaseURL: s.URL, AllowPrivate: true, APIs: []string{provider.APIChat},
				Secrets: map[string]provider.Secret{"Authorization": provider.NewSecret("Bearer sk")}})
			require.NoError(b, err)
			if way == "transport" {
				c.direct = nil
			}
			b.Run(name+"/"+way, func(b *testing.B) {
				benchDo(b, c, &provider.Request{API: provider.APIChat, Endpoint: "x", Body: body, Stream: stream})
			})
			_ = c.Close()
		}
		b.Run(name+"/bare", func(b *testing.B) { benchRoundTrip(b, s.URL+"/x", body, stream) })
	}
}

func benchDo(b *testing.B, c *Client, r *provider.Request) {
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		resp, err := c.Do(b.Context(), r)
		if err != nil {
			b.Fatal(err)
		}
		drain(b, resp.Body, buf)
	}
}

func benchRoundTrip(b *testing.B, url string, body []byte, stream bool) {
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	defer tr.CloseIdleConnections()
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer sk")
		if stream {
			req.Header.Set("Accept", acceptStream[0])
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		drain(b, resp.Body, buf)
	}
}

func drain(b *testing.B, body io.ReadCloser, buf []byte) {
	for {
		_, err := body.Read(buf)
		if err == io.EOF { //nolint:errorlint // the reader's own word for the end
			break
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	_ = body.Close()
}
