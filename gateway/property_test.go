package gateway_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"
	"pgregory.net/rapid"
)

// anyJSON draws a JSON text with the oddities that a decode and encode would lose: zeros, exponents, escapes, spaces, order.
func anyJSON(depth int) *rapid.Generator[string] {
	scalars := rapid.SampledFrom([]string{"0", "-0", "0.0", "1e3", "1E+2", "1.0", "123456789012345678901234567890", "null", "true", "false",
		`""`, `"\u00e9"`, `"é"`, `"\/"`, `"{{ticket}}"`, `"<&>"`, `"\u2028"`})
	if depth == 0 {
		return scalars
	}
	return rapid.Custom(func(t *rapid.T) string {
		space := rapid.SampledFrom([]string{"", " ", "\n\t", "\r\n"}).Draw(t, "space")
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			out := "[" + space
			for i, v := range rapid.SliceOfN(anyJSON(depth-1), 0, 3).Draw(t, "items") {
				if i > 0 {
					out += space + ","
				}
				out += v
			}
			return out + space + "]"
		case 1:
			out := "{" + space
			for i, k := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "cache_control", "temperature", "é"}), 0, 3, rapid.ID[string]).Draw(t, "keys") {
				if i > 0 {
					out += "," + space
				}
				out += `"` + k + `"` + space + ":" + anyJSON(depth-1).Draw(t, "value")
			}
			return out + space + "}"
		default:
			return scalars.Draw(t, "scalar")
		}
	})
}

// callerFields are members that a caller may send and that the prompt says nothing about.
var callerFields = []string{"seed", "top_p", "logit_bias", "metadata", "service_tier", "parallel_tool_calls", "x_unknown", "n", "stop", "max_tokens"}

// What reaches the provider differs from what the caller sent at declared paths only.
func TestOnlyDeclaredPathsDiffer(t *testing.T) {
	e := newEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.SampledFrom(callerFields), 0, 6, rapid.ID[string]).Draw(t, "fields")
		type member struct{ name, value string }
		var members []member
		for _, n := range names {
			members = append(members, member{n, anyJSON(2).Draw(t, n)})
		}
		managed := rapid.Bool().Draw(t, "managed")
		own := ""
		if rapid.Bool().Draw(t, "messages") {
			own = `[{"role":"user","content":` + rapid.SampledFrom([]string{`"\u00e9 {{ticket}}"`, `[{"type":"text","text":"x","cache_control":{}}]`}).Draw(t, "content") + `}]`
			members = append(members, member{"messages", own})
		}
		if managed {
			members = append(members, member{"prompt", `{"id":"support/triage","variables":{"ticket":"T"}}`})
		} else {
			members = append(members, member{"model", `"gpt-test"`})
		}
		members = rapid.Permutation(members).Draw(t, "order")
		body := "{"
		for i, m := range members {
			if i > 0 {
				body += rapid.SampledFrom([]string{",", " , ", ",\n"}).Draw(t, "comma")
			}
			body += `"` + m.name + `":` + m.value
		}
		body += "}"

		a := e.chat(body)
		require.Equal(t, http.StatusOK, a.status, "%s\n%s", body, a.body)
		sent, _ := e.upstream.last()
		if !managed {
			require.Equal(t, body, string(sent))
			return
		}
		require.True(t, json.Valid(sent), string(sent))
		left := map[string]bool{}
		gjson.ParseBytes(sent).ForEach(func(k, _ gjson.Result) bool { left[k.String()] = true; return true })
		for _, n := range names {
			require.True(t, left[n])
			delete(left, n)
		}
		for _, m := range members {
			if m.name != "prompt" && m.name != "messages" {
				require.Equal(t, m.value, gjson.GetBytes(sent, m.name).Raw, "kept byte for byte")
			}
		}
		require.Equal(t, map[string]bool{"model": true, "messages": true, "temperature": true}, left)
		if own != "" {
			require.Equal(t, gjson.Get(own, "0").Raw, gjson.GetBytes(sent, "messages.2").Raw, "the caller's messages are verbatim")
		}
	})
}
