package wire

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDeltasAreReadAsAnyEvent: the short way for pieces of an answer comes to what reading every member does, for each event of the fixture.
func TestDeltasAreReadAsAnyEvent(t *testing.T) {
	fixture, err := os.ReadFile("../testdata/responses.sse")
	require.NoError(t, err)
	short := 0
	for _, line := range bytes.Split(fixture, []byte("\n")) {
		data, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data: "))
		if !ok || !bytes.HasPrefix(data, []byte("{")) {
			continue
		}
		if moreOfAnswer(data) {
			short++
		}
		var fast, slow StreamResult
		Responses{}.ReadEvent(&fast, Event{Data: data})
		spaced := append([]byte("{ "), data[1:]...) // which the short way does not take
		require.False(t, moreOfAnswer(spaced))
		Responses{}.ReadEvent(&slow, Event{Data: spaced})
		slow.Error, fast.Error = nil, nil // they hold the bytes
		require.Equal(t, slow, fast, string(data))
	}
	require.Greater(t, short, 5)
	for _, other := range []string{
		`{"type":"response.completed","response":{}}`, `{"type":"error"}`, `{"type":"response.delta.done"}`, `{"type":"x.delta"}`, `{"sequence_number":1,"type":"response.x.delta"}`,
		`{"type":"response.output_text.delta`,
	} {
		require.False(t, moreOfAnswer([]byte(other)), other)
	}
}

func BenchmarkReadDelta(b *testing.B) {
	data := []byte(`{"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"a word ","logprobs":[]}`)
	b.ReportAllocs()
	for b.Loop() {
		var r StreamResult
		Responses{}.ReadEvent(&r, Event{Data: data})
	}
}
