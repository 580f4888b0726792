package openai_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/openai"
)

func benchUpstream(b *testing.B) (url string, body []byte) {
	b.Helper()
	answer := `{"choices":[{"message":{"content":"` + strings.Repeat("a", 900) + `"}}]}`
	url = upstream(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, answer)
	})
	return url, []byte(`{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("q", 900) + `"}]}`)
}

// Compare with BenchmarkRoundTrip: the difference is what the watch, the checks and the guarded buffer cost.
func BenchmarkDo(b *testing.B) {
	url, body := benchUpstream(b)
	p := make1(b, openai.Options{BaseURL: url, AllowPrivate: true, Credential: provider.NewSecret("sk")})
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		resp, err := p.Do(b.Context(), &provider.Request{Endpoint: "chat/completions", Body: body})
		if err != nil {
			b.Fatal(err)
		}
		drain(b, resp.Body, buf)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	url, body := benchUpstream(b)
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	defer tr.CloseIdleConnections()
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url+"/chat/completions", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer sk")
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
		if err == io.EOF {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	_ = body.Close()
}
