package wire

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/metrics"
)

func TestCompletion(t *testing.T) {
	full := `{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"{\"usage\":{}} \\",` +
		`"tool_calls":[{"id":"inner","usage":{"prompt_tokens":1}}]},"logprobs":{"content":[{"finish_reason":"no"}]},"finish_reason":"stop"}],"usage":` + usageObject + `}`
	want := Completion{ID: "chatcmpl-1", Model: "gpt-4o", Finish: "stop", Usage: usageTokens()}
	for name, body := range map[string]string{
		"as it comes": full,
		"indented":    " \n" + strings.NewReplacer(`{"`, "{\n  \"", `":`, `" : `, `,"`, " ,\n\"").Replace(strings.Replace(full, `{\"usage\":{}}`, "x", 1)),
		"usage first": `{"usage":` + usageObject + `,"model":"gpt-4o","id":"chatcmpl-1","choices":[{"finish_reason":"stop","x":[[{}]]},{"finish_reason":"length"}],"error":null}`,
	} {
		t.Run(name, func(t *testing.T) {
			said, _ := ParseAnswer([]byte(body))
			id, usage := said.ID, said.Usage
			assert.Equal(t, want.ID, id)
			assert.Equal(t, want.Usage, usage)
			var s ResponseScanner
			s.Reset(Chat{})
			for i := range len(body) {
				n, err := s.Write([]byte{body[i]})
				require.NoError(t, err)
				require.Equal(t, 1, n)
			}
			assert.Equal(t, want, s.Result())
			s.Reset(Chat{})
			assert.Equal(t, Completion{}, s.Result())
		})
	}
	// A cut body yields what stands before the cut, and never panics.
	for i := range full {
		said, _ := ParseAnswer([]byte(full[:i]))
		id, usage := said.ID, said.Usage
		if i > 40 {
			assert.Equal(t, "chatcmpl-1", id)
		}
		assert.Equal(t, i == len(full)-1, usage.Reported)
	}
}

// answered is what a scanner makes of a body that comes in one piece.
func answered(body string) Completion {
	var s ResponseScanner
	s.Reset(Chat{})
	s.feed([]byte(body))
	return s.Result()
}

func TestCompletionOdd(t *testing.T) {
	for _, body := range []string{"", "x", "[]", `[{"id":"a"}]`, `"id"`, `{"id":1,"model":null,"usage":[],"choices":{"finish_reason":"x"}}`, "<html>id</html>",
		`}}}}`, `{"id":"` + strings.Repeat("x", 300) + `"}`, `{"usage":{"prompt_tokens":` + strings.Repeat(" ", 3000) + `1}}`, "{\"id\":\"\xff\\ud800\"}"} {
		said, _ := ParseAnswer([]byte(body))
		usage := said.Usage
		assert.False(t, usage.Reported, body)
		assert.Empty(t, answered(body).Finish, body)
	}
	deep := `{"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,"id":"deep"}`
	said, _ := ParseAnswer([]byte(deep))
	id := said.ID
	assert.Equal(t, "deep", id)
	assert.Equal(t, "deep", answered(deep).ID)
	assert.Equal(t, `{"message":"no"}`, string(answered(`{"error": {"message":"no"}}`).Error))
	assert.Equal(t, "é\"", answered(`{"model":"\u00e9\""}`).Model)
	long := answered(`{"error":"` + strings.Repeat("e", 5000) + `","id":"after"}`)
	assert.Len(t, long.Error, maxCapture)
	assert.Equal(t, "after", long.ID)
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		name, usage string
		want        metrics.Tokens
	}{
		{"OpenAI", usageObject, usageTokens()},
		{"embeddings", `{"prompt_tokens":8,"total_tokens":8}`, metrics.Tokens{Input: 8, Reported: true}},
		{"zeros report nothing", `{"prompt_tokens":0,"completion_tokens":0}`, metrics.Tokens{}},
		{"responses", `{"input_tokens":36,"input_tokens_details":{"cached_tokens":6},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":7},"total_tokens":123}`,
			metrics.Tokens{Input: 36, CachedInput: 6, Output: 87, Reasoning: 7, Reported: true}},
		{"Anthropic", `{"input_tokens":10,"cache_creation_input_tokens":20,"cache_read_input_tokens":30,"output_tokens":5}`,
			metrics.Tokens{Input: 60, CachedInput: 30, CacheWrite: 20, Output: 5, Reported: true}},
		{"Anthropic's beside OpenAI's", `{"prompt_tokens":60,"completion_tokens":5,"cache_read_input_tokens":30,"cache_creation_input_tokens":20}`,
			metrics.Tokens{Input: 60, CachedInput: 30, CacheWrite: 20, Output: 5, Reported: true}},
		{"DeepSeek", `{"prompt_tokens":60,"completion_tokens":5,"prompt_cache_hit_tokens":40,"prompt_cache_miss_tokens":20}`,
			metrics.Tokens{Input: 60, CachedInput: 40, Output: 5, Reported: true}},
		{"reasoning beside the output", `{"prompt_tokens":10,"completion_tokens":5,"total_tokens":115,"completion_tokens_details":{"reasoning_tokens":100}}`,
			metrics.Tokens{Input: 10, Output: 105, Reasoning: 100, Reported: true}},
		{"details beyond the sum", `{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":20,"audio_tokens":3},"completion_tokens_details":{"reasoning_tokens":4,"audio_tokens":4}}`,
			metrics.Tokens{Input: 10, CachedInput: 10, Output: 5, Reasoning: 4, AudioOutput: 1, Reported: true}},
		{"nulls", `{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":null,"total_tokens":null}`, metrics.Tokens{Input: 1, Output: 2, Reported: true}},
		{"whole fraction", `{"prompt_tokens":1.0,"completion_tokens":2}`, metrics.Tokens{Input: 1, Output: 2, Reported: true}},
		{"negative", `{"prompt_tokens":-1,"completion_tokens":2}`, metrics.Tokens{}},
		{"negative detail", `{"prompt_tokens":1,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":-5}}`, metrics.Tokens{}},
		{"overflow", `{"prompt_tokens":9223372036854775807,"completion_tokens":2}`, metrics.Tokens{}},
		{"text", `{"prompt_tokens":"1","completion_tokens":2}`, metrics.Tokens{}},
		{"fraction", `{"prompt_tokens":1.5}`, metrics.Tokens{}},
		{"exponent", `{"prompt_tokens":1e3}`, metrics.Tokens{}},
		{"empty", `{}`, metrics.Tokens{}}, {"list", `[]`, metrics.Tokens{}}, {"null", `null`, metrics.Tokens{}}, {"cut", `{"prompt_tokens":1,"completion_tokens":2`, metrics.Tokens{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _, ok := parseUsage([]byte(c.usage))
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.want.Reported || c.name == "zeros report nothing", ok)
		})
	}
}

func FuzzCompletion(f *testing.F) {
	f.Add([]byte(`{"id":"a","choices":[{"finish_reason":"x"}],"usage":{"prompt_tokens":1}}`), 3)
	f.Fuzz(func(t *testing.T, body []byte, size int) {
		size = max(1, size&0xff)
		said, _ := ParseAnswer(body)
		id, usage := said.ID, said.Usage // whatever it holds
		if !json.Valid(body) || bytes.IndexByte(body, '{') != 0 {
			return
		}
		var s ResponseScanner
		s.Reset(Chat{})
		for p := body; len(p) > 0; p = p[min(size, len(p)):] {
			s.feed(p[:min(size, len(p))])
		}
		require.Equal(t, id, s.Result().ID, "the same whole as in pieces")
		require.Equal(t, usage, s.Result().Usage, "the same whole as in pieces")
	})
}
