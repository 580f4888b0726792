package echo_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"image/png"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway/provider"
)

// post asks an endpoint that runs no prompt; a body that begins with a hyphen is a form with the boundary "b".
func post(t *testing.T, api, body string) (status int, answer []byte, kind string) {
	t.Helper()
	r := &provider.Request{API: api, Endpoint: api, Body: []byte(body), Stream: strings.Contains(body, `"stream":true`)}
	if strings.HasPrefix(body, "-") {
		r.Header = http.Header{"Content-Type": {"multipart/form-data; boundary=b"}}
	}
	resp, err := fixed().Do(t.Context(), r)
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if resp.ContentLength >= 0 {
		require.EqualValues(t, len(b), resp.ContentLength)
	}
	return resp.Status, b, resp.Header.Get("Content-Type")
}

// formOf is a form of pairs of names and values; a value that begins with "@" is a file of that content.
func formOf(t *testing.T, pairs ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	require.NoError(t, w.SetBoundary("b"))
	for i := 0; i < len(pairs); i += 2 {
		content, file := strings.CutPrefix(pairs[i+1], "@")
		part, err := w.CreateFormField(pairs[i])
		if file {
			part, err = w.CreateFormFile(pairs[i], "a.mp3")
		}
		require.NoError(t, err)
		_, err = io.WriteString(part, content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.String()
}

// Vectors have the length that was asked for and are unit vectors; the same text has the same one, in either encoding, and another text another.
func TestEmbeddings(t *testing.T) {
	vector := func(v gjson.Result) (out []float64) {
		for _, x := range v.Array() {
			out = append(out, x.Num)
		}
		return out
	}
	status, b, kind := post(t, provider.APIEmbeddings, `{"model":"m","input":["a","b c","a"],"dimensions":12}`)
	require.Equal(t, 200, status, "%s", b)
	require.Equal(t, "application/json", kind)
	data := gjson.GetBytes(b, "data").Array()
	require.Len(t, data, 3)
	first, second := vector(data[0].Get("embedding")), vector(data[1].Get("embedding"))
	require.Len(t, first, 12)
	sum := 0.0
	for _, x := range first {
		sum += x * x
	}
	require.InDelta(t, 1, sum, 1e-5)
	require.Equal(t, first, vector(data[2].Get("embedding")))
	require.NotEqual(t, first, second)
	require.EqualValues(t, 4, gjson.GetBytes(b, "usage.prompt_tokens").Int(), "a, b, c, a")
	require.Equal(t, "echo", gjson.GetBytes(b, "model").Str)

	_, b, _ = post(t, provider.APIEmbeddings, `{"model":"m","input":"a","dimensions":12,"encoding_format":"base64"}`)
	raw, err := base64.StdEncoding.DecodeString(gjson.GetBytes(b, "data.0.embedding").Str)
	require.NoError(t, err)
	require.Len(t, raw, 48)
	for i, want := range first {
		require.InDelta(t, want, math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])), 1e-6)
	}
	_, b, _ = post(t, provider.APIEmbeddings, `{"model":"m","input":[1,2,3]}`)
	require.EqualValues(t, 1, gjson.GetBytes(b, "data.#").Int(), "tokens are one text")
	require.EqualValues(t, 256, gjson.GetBytes(b, "data.0.embedding.#").Int())
	_, b, _ = post(t, provider.APIEmbeddings, `{"model":"m","input":[[1,2],[3]]}`)
	require.EqualValues(t, 2, gjson.GetBytes(b, "data.#").Int())
}

// Legacy completions say what chats say, whole and in events.
func TestCompletions(t *testing.T) {
	const fields = `"model":"m","prompt":"once upon a time"`
	_, whole, _ := post(t, provider.APICompletions, "{"+fields+"}")
	said := gjson.GetBytes(whole, "choices.0.text").Str
	require.True(t, strings.HasSuffix(said, "last user message: once upon a time"), said)
	require.Equal(t, "text_completion", gjson.GetBytes(whole, "object").Str)
	require.Equal(t, "stop", gjson.GetBytes(whole, "choices.0.finish_reason").Str)
	for more, usage := range map[string]bool{`,"stream_options":{"include_usage":true}`: true, "": false} {
		_, events, kind := post(t, provider.APICompletions, `{"stream":true,`+fields+more+"}")
		require.Contains(t, kind, "text/event-stream")
		parts, counted, finish := "", "", ""
		lines := strings.Split(strings.TrimSpace(string(events)), "\n\n")
		require.Equal(t, "data: [DONE]", lines[len(lines)-1])
		for _, line := range lines[:len(lines)-1] {
			e := gjson.Parse(strings.TrimPrefix(line, "data: "))
			parts += e.Get("choices.0.text").Str
			finish += e.Get("choices.0.finish_reason").Str
			if e.Get("usage").IsObject() {
				counted = e.Get("usage").Raw
				require.Empty(t, e.Get("choices").Array())
			}
		}
		require.Equal(t, said, parts)
		require.Equal(t, "stop", finish)
		if usage {
			require.Equal(t, gjson.GetBytes(whole, "usage").Raw, counted)
		} else {
			require.Empty(t, counted)
		}
	}
	_, b, _ := post(t, provider.APICompletions, `{"model":"m","prompt":["once upon"],"max_tokens":2}`)
	require.Equal(t, "length", gjson.GetBytes(b, "choices.0.finish_reason").Str)
}

// Nothing is flagged, one result for each text.
func TestModerations(t *testing.T) {
	_, b, _ := post(t, provider.APIModerations, `{"model":"m","input":["a","b"]}`)
	require.EqualValues(t, 2, gjson.GetBytes(b, "results.#").Int())
	require.False(t, gjson.GetBytes(b, "results.1.flagged").Bool())
	require.Len(t, gjson.GetBytes(b, "results.0.categories").Map(), 13)
	require.Equal(t, "echo", gjson.GetBytes(b, "model").Str)
	_, b, _ = post(t, provider.APIModerations, `{"model":"m","input":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]}`)
	require.EqualValues(t, 1, gjson.GetBytes(b, "results.#").Int(), "parts of one input")
}

// Pictures are pictures, sound is sound, and what was heard is told.
func TestMedia(t *testing.T) {
	for api, body := range map[string]string{
		provider.APIImageGenerations: `{"model":"m","prompt":"a cat","n":2}`,
		provider.APIImageEdits:       formOf(t, "model", "m", "prompt", "a hat", "image[]", "@x", "n", "2"),
		provider.APIImageVariations:  formOf(t, "image", "@x", "model", "m", "n", "2"),
	} {
		status, b, _ := post(t, api, body)
		require.Equal(t, 200, status, "%s", b)
		require.EqualValues(t, 2, gjson.GetBytes(b, "data.#").Int())
		raw, err := base64.StdEncoding.DecodeString(gjson.GetBytes(b, "data.1.b64_json").Str)
		require.NoError(t, err)
		_, err = png.Decode(bytes.NewReader(raw))
		require.NoError(t, err)
	}
	status, wav, kind := post(t, provider.APISpeech, `{"model":"m","input":"hi","voice":"alloy","response_format":"wav"}`)
	require.Equal(t, 200, status)
	require.Equal(t, "audio/wav", kind)
	assert.Equal(t, "RIFF", string(wav[:4]))
	assert.EqualValues(t, len(wav)-8, binary.LittleEndian.Uint32(wav[4:]))
	assert.Equal(t, "WAVEfmt ", string(wav[8:16]))
	assert.EqualValues(t, 8000, binary.LittleEndian.Uint32(wav[24:]))
	assert.EqualValues(t, len(wav)-44, binary.LittleEndian.Uint32(wav[40:]))
	_, pcm, kind := post(t, provider.APISpeech, `{"model":"m","input":"hi","response_format":"pcm"}`)
	require.Equal(t, "audio/pcm", kind)
	require.Len(t, pcm, 4800)

	_, b, _ := post(t, provider.APITranscriptions, formOf(t, "model", "m", "file", "@12345"))
	require.JSONEq(t, `{"text":"[echo] heard 5 bytes of a.mp3"}`, string(b))
	_, b, kind = post(t, provider.APITranslations, formOf(t, "model", "m", "file", "@12345", "response_format", "text"))
	require.Equal(t, "[echo] heard 5 bytes of a.mp3\n", string(b))
	require.Contains(t, kind, "text/plain")
}

// What an echo cannot do it refuses by name.
func TestPassedRefusals(t *testing.T) {
	for _, c := range []struct{ api, body, param string }{
		{provider.APIEmbeddings, `{"input":"x"}`, "model"}, {provider.APIEmbeddings, `{"model":"m"}`, "input"}, {provider.APIEmbeddings, `{"model":"m","input":[]}`, "input"},
		{provider.APIEmbeddings, `{"model":"m","input":""}`, "input"}, {provider.APIEmbeddings, `{"model":"m","input":"x","dimensions":0}`, "dimensions"},
		{provider.APIEmbeddings, `{"model":"m","input":"x","dimensions":1e9}`, "dimensions"}, {provider.APIEmbeddings, `{"model":"m","input":"x","dimensions":1.5}`, "dimensions"},
		{provider.APIEmbeddings, `{"model":"m","input":"x","encoding_format":"int8"}`, "encoding_format"}, {provider.APIEmbeddings, `[]`, ""},
		{provider.APICompletions, `{"model":"m"}`, "prompt"}, {provider.APICompletions, `{"model":"m","prompt":["a","b"]}`, "prompt"},
		{provider.APICompletions, `{"model":"m","prompt":"x","n":2}`, "n"}, {provider.APICompletions, `{"model":"m","prompt":"x","best_of":2}`, "best_of"},
		{provider.APIModerations, `{"model":"m"}`, "input"}, {provider.APIImageGenerations, `{"model":"m"}`, "prompt"},
		{provider.APIImageGenerations, `{"model":"m","prompt":"x","response_format":"url"}`, "response_format"}, {provider.APIImageGenerations, `{"model":"m","prompt":"x","n":11}`, "n"},
		{provider.APIImageGenerations, `{"model":"m","prompt":"x","output_format":"webp"}`, "output_format"}, {provider.APIImageGenerations, `{"model":"m","prompt":"x","stream":true}`, "stream"},
		{provider.APIImageEdits, formOf(t, "model", "m", "prompt", "x"), "image"}, {provider.APIImageVariations, formOf(t, "image", "@x"), "model"},
		{provider.APISpeech, `{"model":"m"}`, "input"}, {provider.APISpeech, `{"model":"m","input":"x"}`, "response_format"},
		{provider.APISpeech, `{"model":"m","input":"x","response_format":"wav","stream_format":"sse"}`, "stream_format"},
		{provider.APITranscriptions, formOf(t, "model", "m"), "file"}, {provider.APITranscriptions, formOf(t, "model", "m", "file", "@x", "stream", "true"), "stream"},
		{provider.APITranscriptions, formOf(t, "model", "m", "file", "@x", "response_format", "srt"), "response_format"}, {provider.APITranscriptions, "--b\r\nx", ""},
	} {
		status, b, _ := post(t, c.api, c.body)
		assert.Equal(t, 400, status, "%s %s", c.api, c.body)
		assert.Equal(t, c.param, gjson.GetBytes(b, "error.param").String(), "%s %s", c.api, b)
		assert.NotEmpty(t, gjson.GetBytes(b, "error.message").String())
	}
}
