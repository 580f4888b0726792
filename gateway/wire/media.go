package wire

import (
	"bytes"
	"strings"
)

// Images is OpenAI's images: generations, edits, variations. The last two are forms.
type Images struct {
	passed
	verb string
}

var _ Passed = Images{}

// Name implements API.
func (i Images) Name() string { return "images/" + i.verb }

// Endpoint implements API.
func (i Images) Endpoint() string { return "images/" + i.verb }

// Multipart implements Passed.
func (i Images) Multipart() bool { return i.verb != generations }

const generations = "generations"

// Streams implements Passed.
func (Images) Streams(b *Body) (bool, error) { return b.Stream() }

// ReadAnswer implements API.
func (Images) ReadAnswer(body []byte) (Completion, bool) { return readListed(body, "data") }

// Speech is OpenAI's speech, which answers with sound.
type Speech struct{ passed }

var _ Passed = Speech{}

// Name implements API.
func (Speech) Name() string { return "audio/speech" }

// Endpoint implements API.
func (Speech) Endpoint() string { return "audio/speech" }

// Unserved implements API: a voice that the provider keeps may be another project's.
func (Speech) Unserved(b *Body) (param string) {
	if voice, _ := b.Get("voice"); len(voice) > 0 && voice[0] == '{' {
		return "voice"
	}
	return ""
}

// Streams implements Passed.
func (Speech) Streams(b *Body) (bool, error) { return b.Text("stream_format") == "sse", nil }

// Media implements Passed.
func (Speech) Media(_ *Body, kind string) bool {
	return strings.HasPrefix(kind, "audio/") || kind == "application/octet-stream" || kind == "binary/octet-stream"
}

// Accept implements Passed.
func (Speech) Accept() string { return anything }

const anything = "*/*"

// ReadAnswer implements API: JSON is no sound, so all that it can tell is an error.
func (Speech) ReadAnswer(body []byte) (Completion, bool) { return readListed(body, "") }

// Transcriptions is OpenAI's transcriptions and translations of sound that a form holds.
type Transcriptions struct {
	passed
	verb string
}

var _ Passed = Transcriptions{}

// Name implements API.
func (t Transcriptions) Name() string { return "audio/" + t.verb }

// Endpoint implements API.
func (t Transcriptions) Endpoint() string { return "audio/" + t.verb }

// Multipart implements Passed.
func (Transcriptions) Multipart() bool { return true }

// Streams implements Passed.
func (Transcriptions) Streams(b *Body) (bool, error) { return b.Stream() }

// Media implements Passed: text is an answer to who asked for text, and to others an error page.
func (Transcriptions) Media(b *Body, kind string) bool {
	switch b.Text("response_format") {
	case "text", "srt", "vtt":
		return strings.HasPrefix(kind, "text/") || kind == "application/x-subrip" || kind == "application/octet-stream"
	}
	return false
}

// Accept implements Passed.
func (Transcriptions) Accept() string { return anything }

// ReadAnswer implements API: a "text", which is empty for silence. Some providers answer with a mere string.
func (Transcriptions) ReadAnswer(body []byte) (c Completion, whole bool) {
	body = bytes.TrimSpace(body)
	if len(body) > 0 && body[0] == '"' {
		if end := skipString(body, 0); end == len(body) {
			return Completion{Answers: 1, Bytes: len(body)}, true
		}
		return c, false
	}
	c, whole = readListed(body, "")
	for key, value := range membersOf(body) {
		if string(key) == `"text"` && value[0] == '"' {
			c.Answers, c.Bytes = 1, len(value)
		}
	}
	return c, whole
}
