package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/metrics"
)

const (
	chunkRole   = `{"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-4o","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}`
	chunkText   = `{"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-4o","choices":[{"index":0,"delta":{"content":"Hel\"usage\":lo"},"finish_reason":null}],"usage":null}`
	chunkFinish = `{"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}`
	usageObject = `{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":3,"audio_tokens":1},"completion_tokens_details":{"reasoning_tokens":4,"audio_tokens":2}}`
	chunkUsage  = `{"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-4o","choices":[],"usage":` + usageObject + `}`
)

func usageTokens() metrics.Tokens {
	return metrics.Tokens{Input: 19, CachedInput: 3, AudioInput: 1, Output: 10, Reasoning: 4, AudioOutput: 2, Reported: true}
}

// relay sends the pieces through a scanner and returns what came out, with the scanner after Finish.
func relay(t require.TestingT, withhold bool, pieces ...[]byte) ([]byte, *StreamScanner) {
	s := new(StreamScanner)
	s.Reset(Chat{}, withhold)
	var got []byte
	var out [][]byte
	for _, p := range pieces {
		own := bytes.Clone(p)
		out = s.Feed(own, out[:0])
		for _, b := range out {
			got = append(got, b...)
		}
		for i := range own { // the reader uses its buffer again
			own[i] = '#'
		}
		require.LessOrEqual(t, cap(s.hold)+cap(s.spare), 2*holdMax)
		require.LessOrEqual(t, cap(s.big.json.buf), maxCapture+1)
	}
	for _, b := range s.Finish(out[:0]) {
		got = append(got, b...)
	}
	return got, s
}

func everyByte(s string) [][]byte {
	pieces := make([][]byte, len(s))
	for i := range len(s) {
		pieces[i] = []byte{s[i]}
	}
	return pieces
}

func sse(end string, data ...string) string {
	var out strings.Builder
	for _, d := range data {
		out.WriteString("data: " + d + end + end)
	}
	return out.String()
}

func TestStreamTypical(t *testing.T) {
	for _, end := range []string{"\n", "\r\n", "\r"} {
		before := sse(end, chunkRole, chunkText, chunkFinish)
		in := before + sse(end, chunkUsage, "[DONE]")
		for name, pieces := range map[string][][]byte{"at once": {[]byte(in)}, "one byte per write": everyByte(in)} {
			t.Run(fmt.Sprintf("%q %s", end, name), func(t *testing.T) {
				got, s := relay(t, false, pieces...)
				assert.Equal(t, in, string(got))
				r := s.Result()
				assert.False(t, r.Withheld)
				assert.Equal(t, 4, r.Events)

				got, s = relay(t, true, pieces...)
				assert.Equal(t, before+sse(end, "[DONE]"), string(got))
				r = s.Result()
				assert.Equal(t, StreamResult{Usage: usageTokens(), ID: "chatcmpl-1", Model: "gpt-4o", Finish: "stop", Events: 3, Started: true,
					Done: true, Withheld: true}, *r)
				assert.True(t, r.Complete())
			})
		}
	}
}

func TestStreamStartsWithContent(t *testing.T) {
	for delta, want := range map[string]bool{
		`{"role":"assistant"}`: false, `{"role":"assistant","content":""}`: false, `{"content":null}`: false, `{"content":" "}`: true,
		`{"tool_calls":[{"index":0}]}`: true, `{"tool_calls":[]}`: false, `{"reasoning_content":"hm"}`: true, `{"refusal":"no"}`: true,
	} {
		_, s := relay(t, false, []byte(sse("\n", `{"id":"x","choices":[{"delta":`+delta+`}]}`)))
		assert.Equal(t, want, s.Result().Started, delta)
	}
	_, s := relay(t, false, []byte(sse("\n", `{"id":"x","choices":[{"text":"legacy"}]}`)))
	assert.True(t, s.Result().Started)
}

func TestStreamForwardsAtOnce(t *testing.T) {
	var s StreamScanner
	s.Reset(Chat{}, true)
	feed := func(p string) string { return string(bytes.Join(s.Feed([]byte(p), nil), nil)) }
	assert.Equal(t, ": ping\n", feed(": ping\n"), "a comment does not wait for a blank line")
	assert.Equal(t, "\n", feed("\n"))
	assert.Empty(t, feed("data: {\"a\""))
	assert.Equal(t, "data: {\"a\":1}\n\n", feed(":1}\n\ndata"))
	assert.Equal(t, "data: x\n\n: ping\n", feed(": x\n\n: ping\n"), "an event goes as soon as it is complete")
	assert.Empty(t, feed("event: y\n"))
	assert.Empty(t, feed(": inside of an event\n"))
	assert.Equal(t, "event: y\n: inside of an event\ndata: z\n\n", feed("data: z\n\n"))
	long := "data: " + strings.Repeat("x", holdMax)
	assert.Equal(t, long, feed(long), "what is too long to keep goes as it comes")
	assert.Equal(t, "y", feed("y"))
}

func TestStreamWithholdsOnlyTheUsageChunk(t *testing.T) {
	for name, data := range map[string]string{
		"choices with usage":      `{"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":` + usageObject + `}`,
		"no choices at all":       `{"id":"1","usage":` + usageObject + `}`,
		"usage is null":           `{"id":"1","choices":[],"usage":null}`,
		"no usage":                `{"id":"1","choices":[],"prompt_filter_results":[{"a":1}]}`,
		"choices is null":         `{"id":"1","choices":null,"usage":` + usageObject + `}`,
		"with an error":           `{"id":"1","choices":[],"usage":` + usageObject + `,"error":{"message":"x"}}`,
		"usage inside":            `{"id":"1","choices":[],"x":{"usage":` + usageObject + `}}`,
		"usage in a text":         `{"id":"1","choices":[],"x":"{\"usage\":{\"prompt_tokens\":1}}"}`,
		"no JSON":                 `{"choices":[],"usage":{"prompt_tokens":1`,
		"no list":                 `{"choices":[:],"usage":` + usageObject + `}`,
		"negative figures":        `{"choices":[],"usage":{"prompt_tokens":-1,"completion_tokens":1}}`,
		"longer than can be kept": `{"choices":[],"pad":"` + strings.Repeat("x", holdMax) + `","usage":` + usageObject + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			in := sse("\n", chunkText, data, "[DONE]")
			for _, pieces := range [][][]byte{{[]byte(in)}, everyByte(in)} {
				if name == "longer than can be kept" && len(pieces) == 1 {
					continue // whole in the reader's buffer, it need not be kept: it is withheld
				}
				got, s := relay(t, true, pieces...)
				assert.Equal(t, in, string(got))
				assert.False(t, s.Result().Withheld)
			}
		})
	}
	for name, data := range map[string]string{
		"spaces":          ` { "choices" : [ ] , "usage" : ` + usageObject + ` } `,
		"usage first":     `{"usage":` + usageObject + `,"choices":[]}`,
		"null error":      `{"choices":[],"usage":` + usageObject + `,"error":null}`,
		"over many lines": "{\"choices\":\ndata: [],\ndata:\"usage\":" + usageObject + "}",
		"with an id line": "{\"choices\":[],\ndata: \"usage\":" + usageObject + "}\nid: 7",
	} {
		t.Run(name, func(t *testing.T) {
			before, after := sse("\n", chunkText), sse("\n", "[DONE]")
			in := before + sse("\n", data) + after
			for _, pieces := range [][][]byte{{[]byte(in)}, everyByte(in)} {
				got, s := relay(t, true, pieces...)
				assert.Equal(t, before+after, string(got))
				assert.Equal(t, usageTokens(), s.Result().Usage)
			}
		})
	}
}

func TestStreamUsageWithChoices(t *testing.T) {
	last := `{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"length"}],"usage":` + usageObject + `}`
	_, s := relay(t, true, []byte(sse("\n", chunkText, last, "[DONE]")))
	assert.Equal(t, usageTokens(), s.Result().Usage)
	assert.Equal(t, "length", s.Result().Finish)
	// Cumulative reports: the last one counts.
	_, s = relay(t, false, []byte(sse("\n", last, `{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":99}}`)))
	assert.Equal(t, int64(99), s.Result().Usage.Output)
}

// Lines of 4 MiB and more, in every order of the members, keep their bytes, their figures and the bound on memory.
func TestStreamHugeEvents(t *testing.T) {
	big := strings.Repeat(`x\"usage\":{}\\`, 5<<20/14)
	event := `{"id":"big","model":"m","choices":[{"index":0,"delta":{"content":"` + big + `"},"finish_reason":"tool_calls"}],"usage":` + usageObject + `}`
	for name, in := range map[string]string{
		"LF": sse("\n", event, "[DONE]"), "CRLF": sse("\r\n", event, "[DONE]"), "CR": sse("\r", event, "[DONE]"),
		"many lines": "event: x\nid: 3\ndata: " + strings.ReplaceAll(event, `,"`, ",\ndata:\"") + "\n\n" + sse("\n", "[DONE]"),
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1000, 4096, 32 << 10, len(in)} {
				var pieces [][]byte
				for p := []byte(in); len(p) > 0; p = p[min(size, len(p)):] {
					pieces = append(pieces, p[:min(size, len(p))])
				}
				got, s := relay(t, true, pieces...)
				require.True(t, bytes.Equal([]byte(in), got))
				r := *s.Result()
				assert.Equal(t, StreamResult{Usage: usageTokens(), ID: "big", Model: "m", Finish: "tool_calls", Events: 1, Started: true, Done: true}, r)
			}
		})
	}
}

func TestStreamErrors(t *testing.T) {
	for name, in := range map[string]string{
		"in the data":     sse("\n", chunkText, `{"error":{"message":"boom","code":"x"}}`),
		"event: error":    sse("\n", chunkText) + "event: error\ndata: {\"error\":{\"message\":\"boom\"}}\n\n",
		"no object":       sse("\n", chunkText) + "event: error\ndata: boom\n\n",
		"beside choices":  sse("\n", chunkText, `{"id":"1","error":{"message":"boom"},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}`, "[DONE]"),
		"in a huge event": sse("\n", chunkText, `{"pad":"`+strings.Repeat("x", 10000)+`","error":{"message":"boom"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			for _, pieces := range [][][]byte{{[]byte(in)}, everyByte(in)} {
				got, s := relay(t, true, pieces...)
				assert.Equal(t, in, string(got))
				assert.Contains(t, string(s.Result().Error), "boom")
				assert.False(t, s.Result().Complete())
			}
		})
	}
	_, s := relay(t, false, []byte(sse("\n", `{"error":null,"id":"x"}`)))
	assert.Nil(t, s.Result().Error)
	_, s = relay(t, false, []byte(sse("\n", `{"error":"`+strings.Repeat("y", 100000)+`"}`)))
	assert.Len(t, s.Result().Error, maxCapture)
}

func TestStreamCut(t *testing.T) {
	whole := sse("\n", chunkRole, chunkText)
	for name, c := range map[string]struct {
		tail      string
		relayed   string
		truncated bool
		prefix    string // of the error event
	}{
		"between events":       {"", "", false, ""},
		"inside of JSON":       {`data: {"id":"chatcmpl-1","cho`, "", true, ""},
		"inside of a text":     {`data: {"id":"chat`, "", true, ""},
		"inside of [DONE]":     {`data: [DO`, "", true, ""},
		"before the blank":     {"data: " + chunkText, "data: " + chunkText, false, "\n\n"},
		"after a line":         {"data: " + chunkText + "\n", "data: " + chunkText + "\n", false, "\n\n"},
		"inside of a comment":  {": pi", ": pi", false, "\n\n"},
		"inside of a name":     {"da", "da", false, "\n\n"},
		"inside of a huge one": {`data: {"x":"` + strings.Repeat("x", 9000), `data: {"x":"` + strings.Repeat("x", 9000), true, "\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pieces := range [][][]byte{{[]byte(whole + c.tail)}, everyByte(whole + c.tail)} {
				got, s := relay(t, true, pieces...)
				assert.Equal(t, whole+c.relayed, string(got))
				assert.Equal(t, c.truncated, s.Result().Truncated)
				assert.False(t, s.Result().Complete())
				event := string(s.Truncation("call_1"))
				assert.True(t, strings.HasPrefix(event, c.prefix+"data: {"), event)
				assert.True(t, strings.HasSuffix(event, "}\n\n"))
				assert.NotContains(t, event, "[DONE]")
				var e struct {
					Error struct{ Code, Message string }
				}
				require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(strings.TrimSpace(event), "data: ")), &e))
				assert.Equal(t, "provider_truncated", e.Error.Code)
				assert.Contains(t, e.Error.Message, "call_1")
			}
		})
	}
	// [DONE] without its blank line is an end all the same.
	got, s := relay(t, true, []byte(whole+"data: [DONE]"))
	assert.Equal(t, whole+"data: [DONE]", string(got))
	assert.True(t, s.Result().Complete())
	// A usage chunk at the very end is withheld there too.
	got, s = relay(t, true, []byte(whole+"data: "+chunkUsage+"\n"))
	assert.Equal(t, whole, string(got))
	assert.True(t, s.Result().Withheld)
}

func TestStreamOddities(t *testing.T) {
	for name, in := range map[string]string{
		"empty": "", "blank lines": "\n\n\r\n\r\r\n", "BOM": "\xef\xbb\xbf" + sse("\n", chunkRole, "[DONE]"), "no space": "data:" + chunkRole + "\n\ndata:[DONE]\n\n",
		"no colon": "data\n\n", "unknown fields": "foo: bar\nretry: 3\n\n", "no SSE at all": "<html>\n<body>\n\noops", "NUL": "data: \x00\n\n\x00",
		"empty data": "data:\ndata:\n\n", "comment inside": "data: {\"id\":\"c\",\n: ping\n: ping\ndata: \"model\":\"m\"}\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			for _, pieces := range [][][]byte{{[]byte(in)}, everyByte(in)} {
				got, _ := relay(t, true, pieces...)
				assert.Equal(t, in, string(got))
			}
		})
	}
	_, s := relay(t, false, []byte("\xef\xbb\xbf"+sse("\n", chunkRole)))
	assert.Equal(t, "chatcmpl-1", s.Result().ID)
	_, s = relay(t, false, []byte("data: {\"id\":\"c\",\n: ping\ndata: \"model\":\"m\"}\n\n"))
	assert.Equal(t, "m", s.Result().Model)
}

// Whatever the stream and however it is cut into writes: what comes out is what came in, less the one event that is withheld; and
// what is read does not depend on the cutting.
func TestStreamKeepsBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		withhold := rapid.Bool().Draw(t, "withhold")
		end := rapid.SampledFrom([]string{"\n", "\r\n", "\r"}).Draw(t, "end")
		var in, want strings.Builder
		pieces := rapid.SliceOfN(rapid.SampledFrom([]string{
			"data: " + chunkRole, "data:" + chunkText, "data: " + chunkFinish, "data: " + chunkUsage, "data: [DONE]", ": ping", "", "event: x\ndata: y",
			"id: 1\ndata: {\"a\":\n: c\ndata:1}", "data: " + strings.Repeat("z", 5000), "data: {\"p\":\"" + strings.Repeat("z", 4070) + "\"}",
		}), 0, 12).Draw(t, "events")
		for _, piece := range pieces {
			ev := strings.ReplaceAll(piece+"\n\n", "\n", end)
			in.WriteString(ev)
			if !withhold || piece != "data: "+chunkUsage {
				want.WriteString(ev)
			}
		}
		rest := []byte(in.String())
		var cut [][]byte
		for len(rest) > 0 {
			n := min(len(rest), rapid.OneOf(rapid.IntRange(1, 3), rapid.IntRange(1, 200), rapid.IntRange(1, 6000)).Draw(t, "size"))
			cut, rest = append(cut, rest[:n]), rest[n:]
		}
		got, s := relay(t, withhold, cut...)
		require.Equal(t, want.String(), string(got))
		_, whole := relay(t, withhold, []byte(in.String()))
		require.Equal(t, *whole.Result(), *s.Result())
	})
}

func FuzzStream(f *testing.F) {
	f.Add([]byte(sse("\r\n", chunkRole, chunkText, chunkUsage, "[DONE]")), 7)
	f.Add([]byte(": x\r\rdata: {\ndata\n\n"), 1)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		size = max(1, size&0xfff)
		var pieces [][]byte
		for p := in; len(p) > 0; p = p[min(size, len(p)):] {
			pieces = append(pieces, p[:min(size, len(p))])
		}
		got, s := relay(t, false, pieces...)
		if !s.Result().Truncated {
			require.Equal(t, string(in), string(got))
		}
		require.True(t, bytes.HasPrefix(in, got))
		got, s = relay(t, true, pieces...)
		if !s.Result().Truncated && !s.Result().Withheld {
			require.Equal(t, string(in), string(got))
		}
	})
}

func TestStreamScannerIsReused(t *testing.T) {
	_, s := relay(t, true, everyByte(sse("\n", chunkText, chunkUsage, "[DONE]")+"data: {\"x\":1")...)
	s.Reset(Chat{}, false)
	assert.Equal(t, StreamResult{}, *s.Result())
	in := sse("\n", chunkUsage)
	assert.Equal(t, in, string(bytes.Join(s.Feed([]byte(in), nil), nil)))
}
