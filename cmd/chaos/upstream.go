package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"
)

const (
	chunks     = 10
	chunkEvery = 15 * time.Millisecond // so that streams are under way whenever a replica dies
)

// newUpstream is a provider that speaks OpenAI's chat completions and never fails.
func newUpstream() *httptest.Server {
	var n atomic.Int64
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		id := fmt.Sprintf("chatcmpl-%d", n.Add(1))
		if !bytes.Contains(body, []byte(`"stream":true`)) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"id":%q,"object":"chat.completion","created":1,"model":"gpt-4o-mini","choices":[{"index":0,"message":`+
				`{"role":"assistant","content":"done"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}`, id)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range chunks {
			_, _ = fmt.Fprintf(w, `data: {"id":%q,"object":"chat.completion.chunk","created":1,"model":"gpt-4o-mini","choices":[{"index":0,`+
				`"delta":{"content":"%d "},"finish_reason":null}]}`+"\n\n", id, i)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(chunkEvery):
			}
		}
		_, _ = fmt.Fprintf(w, `data: {"id":%q,"object":"chat.completion.chunk","created":1,"model":"gpt-4o-mini","choices":[],`+
			`"usage":{"prompt_tokens":9,"completion_tokens":10,"total_tokens":19}}`+"\n\ndata: [DONE]\n\n", id)
	}))
}
