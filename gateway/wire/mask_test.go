package wire

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// drawValue draws a JSON value whose members often have the names that are looked for.
func drawValue(t *rapid.T, depth int) any {
	names := rapid.SampledFrom([]string{"instructions", "input", "tools", "text", "response", "error", "message", "output", "a\"b", "ü"})
	kind := rapid.IntRange(0, 5).Draw(t, "kind")
	switch {
	case kind == 0:
		return nil
	case kind == 1:
		return rapid.SampledFrom([]string{"", "CANARY", `"}],`, `\`, "data: x", "a\nb"}).Draw(t, "text")
	case kind == 2:
		return float64(rapid.IntRange(-3, 99).Draw(t, "number"))
	case kind == 3 && depth < 5:
		list := make([]any, rapid.IntRange(0, 3).Draw(t, "length"))
		for i := range list {
			list[i] = drawValue(t, depth+1)
		}
		return list
	case depth < 5:
		return drawObject(t, names, depth)
	}
	return true
}

func drawObject(t *rapid.T, names *rapid.Generator[string], depth int) map[string]any {
	object := map[string]any{}
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		object[names.Draw(t, "name")] = drawValue(t, depth+1)
	}
	return object
}

// masked is what Mask should make of a decoded answer: the same rules, written as a walk over a tree.
func masked(v any, events bool, path ...string) any {
	object, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for name, value := range object {
		at := append(append([]string{}, path...), name)
		whole := strings.Join(at, "/")
		top := len(at) == 1 && !events || len(at) == 2 && at[0] == "response" && events
		inError := len(at) == 2 && at[0] == "error" || len(at) == 3 && at[0] == "response" && at[1] == "error"
		_, isObject := value.(map[string]any)
		switch {
		case value == nil:
			out[name] = nil
		case top && (name == "instructions" || name == "input"), whole == "message", whole == "param", inError && name != "type" && name != "code",
			(whole == "error" || whole == "response/error") && !isObject:
			out[name] = Managed
		case top && name == "tools":
			out[name] = []any{}
		case top && name == "text":
			out[name] = nil
		case len(at) < maskDepth:
			out[name] = masked(value, events, at...)
		default:
			out[name] = value
		}
	}
	return out
}

// TestMask: what comes out is the answer with those members replaced, and the same whatever the pieces are in which it comes, white space and all.
func TestMask(t *testing.T) {
	names := []string{"instructions", "input", "tools", "text"}
	rapid.Check(t, func(t *rapid.T) {
		answer := drawObject(t, rapid.SampledFrom([]string{"instructions", "input", "tools", "text", "response", "error", "message"}), 0)
		text, err := json.Marshal(answer)
		require.NoError(t, err)
		if rapid.Bool().Draw(t, "indented") {
			text, err = json.MarshalIndent(answer, "", "\t")
			require.NoError(t, err)
		}
		events := rapid.Bool().Draw(t, "events")
		in := text
		if events {
			end := rapid.SampledFrom([]string{"\n", "\r\n", "\r"}).Draw(t, "end")
			lines := strings.ReplaceAll(string(text), "\n", end+"data: ")
			in = []byte("event: x" + end + "data:" + lines + end + end + "data: {\"open\":[" + end + end + "data: " + lines + end + end)
		}
		m := NewMask(names, events)
		var out []byte
		for rest := in; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			out = m.Append(out, rest[:n])
			rest = rest[n:]
		}
		require.Equal(t, string(NewMask(names, events).Append(nil, in)), string(out))
		if events {
			plain := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(out))
			whole := strings.Split(plain, "\n\n")
			for _, ev := range []string{strings.TrimPrefix(whole[0], "event: x\n"), whole[2]} {
				requireMasked(t, answer, true, strings.ReplaceAll(strings.TrimPrefix(ev, "data:"), "\ndata: ", "\n"))
			}
			return
		}
		requireMasked(t, answer, false, string(out))
	})
}

func requireMasked(t *rapid.T, answer map[string]any, events bool, text string) {
	var got any
	require.NoError(t, json.Unmarshal([]byte(text), &got), text)
	require.Equal(t, masked(answer, events), got)
}

// TestMaskWhole: what comes whole comes to the same as byte by byte, whatever it is, and so does what follows it.
func TestMaskWhole(t *testing.T) {
	tokens := rapid.SampledFrom([]string{
		"{", "}", "[", "]", `"`, ":", ",", `\`, " ", "null", "-1.5e3", "\n", "\r", "\r\n", "\n\n", "\xef\xbb\xbf", "data:", "data: ", "event: error\n", "event: x\ndata: {", "id: 1\n", ": c\n",
		"\n\nevent: x\ndata: {", "}\n\n", `"}` + "\n\n", "\n\ndata: {", "data: [DONE]\n\n", `{"response":{`, `"error":`, `"instructions":`, `"tools":`, `"message":`, `"param":`, `"data":[{`, `"content":`,
		`"type":"error"`, `"x":`, `"x" : `, `"abc"`, `"a\"b\\"`, `"err\u006fr":`, `"delta":"words"`, `"item":{"a":[1,{"b":"}"}]}`, `"output":[{"text":"x"}]`, `"messages"`,
		"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\" some\"}\n\n", "data: {\"type\":\"response.completed\",\"response\":{\"instructions\":\"Be brief.\"}}\n\n",
	})
	masks := map[string]func() *Mask{
		"answer": func() *Mask { return NewMask([]string{"instructions", "tools"}, false) }, "events": func() *Mask { return NewMask([]string{"instructions", "tools"}, true) },
		"items": NewItemsMask, "errors": newErrorMask,
	}
	for name, mask := range masks {
		t.Run(name, func(t *testing.T) {
			same := func(t require.TestingT, in string) {
				whole, bytewise := mask(), mask()
				for range 2 {
					var want []byte
					for i := range len(in) {
						want = bytewise.Append(want, []byte(in[i:i+1]))
					}
					require.Equal(t, string(want), string(whole.Append(nil, []byte(in))))
				}
			}
			for _, answer := range []string{
				`{"data":{"x":{"content":"CANARY"}},"y":{"instructions":"z"}}`, `{"response":{"error":{"message":"CANARY","type":"t"}}}`, `{"error":{"message":"CANARY"},"message":"CANARY"}`,
				`{"type":"error","detail":"CANARY","code":"c"}`, `{"response":{"instructions":"CANARY","error":{"message":"CANARY"},"id":"r"},"error":"CANARY","param":"CANARY"}`,
			} {
				same(t, answer)
				same(t, "data: "+answer+"\n\n")
				same(t, "event: x\ndata: "+answer+"\n\n")
			}
			for _, none := range []string{`{"x":1,:"instructions":"CANARY"}`, `{"error":"x":{"a":"CANARY"}}`} { // no JSON
				same(t, none)
			}
			rapid.Check(t, func(t *rapid.T) {
				same(t, strings.Join(rapid.SliceOfN(tokens, 1, 30).Draw(t, "tokens"), ""))
			})
		})
	}
}

func BenchmarkMask(b *testing.B) {
	for name, of := range map[string]string{
		"event": "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":7,\"item_id\":\"m\",\"delta\":\" some words\"}\n\n",
		"first": "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"instructions\":\"Be brief.\",\"tools\":[]}}\n\n",
		"json": `{"id":"resp_1","object":"response","created_at":1,"model":"m","error":null,"instructions":"Be brief.","tools":[],"output":[{"id":"msg_1","type":"message",` +
			`"role":"assistant","content":[{"type":"output_text","annotations":[],"text":"` + strings.Repeat("Your parcel left.\\n", 40) + `"}]}]}`,
	} {
		b.Run(name, func(b *testing.B) {
			m := NewMask([]string{"instructions", "input"}, name != "json")
			var out []byte
			in := []byte(of)
			b.SetBytes(int64(len(of)))
			b.ReportAllocs()
			for b.Loop() {
				m.restart()
				out = m.Append(out[:0], in)
			}
		})
	}
}
