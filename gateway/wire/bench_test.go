package wire

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/registry/template"
)

// body1K is a request of about 1 KB, as an SDK sends it.
func body1K() []byte {
	return []byte(`{"model":"gpt-4o-mini","temperature":0,"max_tokens":256,"messages":[{"role":"system","content":"You are a helpful support agent. Answer shortly."},` +
		`{"role":"user","content":"` + strings.Repeat("My card was charged twice, and I do not know why. ", 12) + `"}],"prompt":{"id":"support/triage","label":"production",` +
		`"variables":{"ticket":"My card was charged twice","name":"Ann"}},"user":"u_123","stream":true}`)
}

func BenchmarkScan1K(b *testing.B) {
	raw := body1K()
	var body Body
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if err := body.Scan(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScanSmall(b *testing.B) {
	raw := []byte(`{"model":"default","messages":[],"prompt":{"id":"support/triage","variables":{"ticket":"My card"}}}`)
	var body Body
	b.ReportAllocs()
	for b.Loop() {
		if err := body.Scan(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkReference(b *testing.B, raw string, h http.Header) {
	var body Body
	require.NoError(b, body.Scan([]byte(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseReference(&body, h); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReference(b *testing.B) {
	h := http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer x"}, "User-Agent": {"x"}}
	b.Run("object", func(b *testing.B) { benchmarkReference(b, string(body1K()), h) })
	b.Run("model", func(b *testing.B) {
		benchmarkReference(b, `{"model":"prompt/support/triage@production","messages":[],"temperature":0}`, h)
	})
	b.Run("none", func(b *testing.B) {
		benchmarkReference(b, `{"model":"gpt-4o","messages":[],"temperature":0,"max_tokens":1,"stream":true,"user":"u"}`, h)
	})
}

func BenchmarkMergeAndSplice1K(b *testing.B) {
	c := &template.Content{
		Model: "gpt-4o-mini", Tools: []byte(`[{"type":"function","function":{"name":"f"}}]`),
		Parameters: map[string]json.RawMessage{"temperature": []byte("0.2"), "top_p": []byte("1"), "max_tokens": []byte("100")},
	}
	var body Body
	require.NoError(b, body.Scan(body1K()))
	dst := make([]byte, 0, 4096)
	edits := make([]Edit, 0, 16)
	messages := []byte(`[{"role":"user","content":"` + strings.Repeat("x", 800) + `"}]`)
	locked := []string{"model", "tools", "response_format"}
	b.ReportAllocs()
	for b.Loop() {
		m, err := Merge(&body, &template.Content{Model: "gpt-4o-mini", Tools: c.Tools, Parameters: c.Parameters}, Locks{More: locked}, edits[:0])
		if err != nil {
			b.Fatal(err)
		}
		m.Edits = append(m.Edits, Edit{Name: "messages", Value: messages}, Remove("prompt"), Set("model", m.Model))
		dst = body.Splice(dst[:0], m.Edits)
	}
}

func BenchmarkStreamChunk(b *testing.B) {
	first := `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{"role":"assistant","content":"x"},"finish_reason":null}],"usage":null}` + "\n\n"
	chunk := `data: {"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4o-mini-2024-07-18","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":" Hello"},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n"
	var s StreamScanner
	s.Reset(Chat{}, true)
	out := make([][]byte, 0, 4)
	out = s.Feed([]byte(first), out)
	p := []byte(chunk)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		out = s.Feed(p, out[:0])
	}
	if !s.res.Started || len(out) != 1 {
		b.Fatal("wrong")
	}
}

func BenchmarkStreamChunkSplit(b *testing.B) {
	chunk := `data: {"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4o-mini-2024-07-18","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":" Hello"},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n"
	var s StreamScanner
	s.Reset(Chat{}, true)
	out := make([][]byte, 0, 4)
	p := []byte(chunk)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		out = s.Feed(p[:100], out[:0])
		out = s.Feed(p[100:], out[:0])
	}
}

func BenchmarkUsage1K(b *testing.B) {
	raw := []byte(`{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"` +
		strings.Repeat("All good. ", 80) + `","refusal":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,` +
		`"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}}`)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if said, _ := ParseAnswer(raw); !said.Usage.Reported {
			b.Fatal("no usage")
		}
	}
}

// BenchmarkCompose is what putting a prompt into a request of each shape costs, its variables included.
func BenchmarkCompose(b *testing.B) {
	compiled, err := template.Compile(template.Content{
		Model:     "gpt-4o-mini",
		Messages:  []template.Message{{Role: "system", Text: "You are a support assistant of {{shop}}. " + strings.Repeat("Be brief. ", 12)}},
		Variables: map[string]template.Variable{"shop": {Required: true}}, Parameters: map[string]json.RawMessage{"temperature": []byte("0.2")},
	}, nil)
	require.NoError(b, err)
	text := strings.Repeat("Where is my parcel? ", 40)
	for _, c := range []struct {
		api  API
		body string
	}{
		{Chat{}, `"messages":[{"role":"user","content":"` + text + `"}]`},
		{Responses{}, `"input":"` + text + `"`},
		{Messages{}, `"max_tokens":500,"messages":[{"role":"user","content":"` + text + `"}]`},
	} {
		b.Run(c.api.Name(), func(b *testing.B) {
			var body Body
			require.NoError(b, body.Scan([]byte(`{`+c.body+`}`)))
			vars := map[string]json.RawMessage{"shop": []byte(`"Acme"`)}
			var values template.Values
			var dst []byte
			var edits []Edit
			var echoed []string
			b.ReportAllocs()
			for b.Loop() {
				if err := compiled.BindTo(b.Context(), &values, vars, nil); err != nil {
					b.Fatal(err)
				}
				out, err := c.api.Compose(&body, Prompt{Version: compiled, Values: &values, Echoed: echoed[:0]}, dst[:0], edits[:0])
				if err != nil {
					b.Fatal(err)
				}
				dst, edits, echoed = out.Rendered, out.Edits, out.Echoed
			}
		})
	}
}
