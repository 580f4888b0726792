package ledger

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/metrics/metricstest"
)

func genText(label string, t *rapid.T) string { return rapid.StringN(0, 40, 200).Draw(t, label) }

func genTokens(t *rapid.T) metrics.Tokens {
	n := rapid.Int64()
	return metrics.Tokens{
		Input: n.Draw(t, "in"), CachedInput: n.Draw(t, "cached"), CacheWrite: n.Draw(t, "write"), AudioInput: n.Draw(t, "audio in"),
		Output: n.Draw(t, "out"), Reasoning: n.Draw(t, "reasoning"), AudioOutput: n.Draw(t, "audio out"),
		Reported: rapid.Bool().Draw(t, "reported"), Estimated: rapid.Bool().Draw(t, "estimated"),
	}
}

func genTime(t *rapid.T) time.Time {
	return time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
}

func genDuration(t *rapid.T) time.Duration { return time.Duration(rapid.Int64().Draw(t, "duration")) }

func genCall(t *rapid.T) *metrics.Call {
	cost := rapid.Ptr(rapid.Int64(), true)
	c := &metrics.Call{
		ID: genText("id", t), Project: genText("project", t), Principal: genText("principal", t), PromptID: genText("prompt", t),
		PromptName: genText("name", t), Version: rapid.Int().Draw(t, "version"), Label: genText("label", t), Digest: genText("digest", t),
		Provider: genText("provider", t), Model: genText("model", t), Endpoint: genText("endpoint", t),
		Stream: rapid.Bool().Draw(t, "stream"), CompletionID: genText("completion", t), EndUser: genText("user", t), Start: genTime(t),
		Variant: genText("variant", t), Purpose: metrics.Purpose("p" + genText("purpose", t)),
		FirstToken: genDuration(t), Total: genDuration(t), Overhead: genDuration(t), Status: rapid.Int().Draw(t, "status"),
		ErrorCode: genText("code", t), Outcome: metrics.Outcome(genText("outcome", t)), Tokens: genTokens(t), CostMicros: cost.Draw(t, "cost"),
	}
	for range rapid.IntRange(0, 4).Draw(t, "attempts") {
		c.Attempts = append(c.Attempts, metrics.Attempt{
			Provider: genText("provider", t), Model: genText("model", t), Start: genTime(t), FirstToken: genDuration(t), Total: genDuration(t),
			Status: rapid.Int().Draw(t, "status"), Outcome: metrics.Outcome(genText("outcome", t)), Tokens: genTokens(t), CostMicros: cost.Draw(t, "cost"),
		})
	}
	return c
}

func genFeedback(t *rapid.T) *feedbackRecord {
	f := &feedbackRecord{}
	for _, s := range [...]*string{&f.ID, &f.Project, &f.CallID, &f.Name, &f.Category, &f.User, &f.Source} {
		*s = genText("text", t)
	}
	switch rapid.IntRange(0, 2).Draw(t, "value") {
	case 0:
		v := rapid.Bool().Draw(t, "bool")
		f.Bool = &v
	case 1:
		v := rapid.Float64().Draw(t, "number")
		f.Number = &v
	}
	f.At = genTime(t)
	if b := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "sealed"); len(b) > 0 {
		f.Sealed = b
	}
	return f
}

func TestEveryRecordComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		call := genCall(t)
		got, none, err := decode(appendCall(nil, call))
		if err != nil || none != nil || !assert.ObjectsAreEqual(call, got) {
			t.Fatalf("%v\n%+v\n%+v", err, call, got)
		}
		f := genFeedback(t)
		noCall, feedback, err := decode(appendFeedback(nil, f))
		if err != nil || noCall != nil || !assert.ObjectsAreEqual(f, feedback) {
			t.Fatalf("%v\n%+v\n%+v", err, f, feedback)
		}
	})
}

func TestCutRecordsAreNoRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := appendCall(nil, genCall(t))
		n := rapid.IntRange(0, len(b)-1).Draw(t, "length")
		if _, _, err := decode(b[:n]); err == nil {
			t.Fatal("half a record was read")
		}
		if _, _, err := decode(append(b, 0)); err == nil {
			t.Fatal("a record and a half was read")
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(appendCall(nil, &metrics.Call{ID: "x", Attempts: []metrics.Attempt{{}}}))
	f.Add(appendFeedback(nil, &feedbackRecord{}))
	f.Fuzz(func(t *testing.T, b []byte) { _, _, _ = decode(b) })
}

func TestLongTextIsCutBetweenCharacters(t *testing.T) {
	call, _, err := decode(appendCall(nil, &metrics.Call{Model: strings.Repeat("ü", maxText)}))
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("ü", maxText/2), call.Model)
}

// frames is a stretch of frames with the given payloads.
func frames(payloads ...string) []byte {
	var out []byte
	for _, p := range payloads {
		b := append(make([]byte, frameHeader), p...)
		finishFrame(b, crc32.MakeTable(crc32.Castagnoli))
		out = append(out, b...)
	}
	return out
}

func scanAll(b []byte) (out []string, s *scanner) {
	s = &scanner{b: b, table: crc32.MakeTable(crc32.Castagnoli)}
	for p := s.next(); p != nil; p = s.next() {
		out = append(out, string(p))
	}
	return out, s
}

// TestEveryAlteredByteIsDetected changes each byte of a segment to each other value, and cuts it at each place.
func TestEveryAlteredByteIsDetected(t *testing.T) {
	payloads := []string{"first record", "second\xC5\x9E record", "third"}
	whole := frames(payloads...)
	for i := range whole {
		for delta := byte(1); delta != 0; delta++ {
			b := slices.Clone(whole)
			b[i] += delta
			got, s := scanAll(b)
			require.Len(t, got, 2, "byte %d + %d: %q", i, delta, got)
			require.Subset(t, payloads, got)
			require.True(t, s.damaged == 1 || s.torn)
			require.Equal(t, len(b), s.pos)
		}
		got, s := scanAll(whole[:i])
		require.Equal(t, payloads[:len(got)], append([]string{}, got...))
		require.Zero(t, s.damaged)
		require.Equal(t, len(frames(payloads[:len(got)]...)) != i, s.torn, "cut at %d", i)
	}
}

func TestSketch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Int64Range(1, int64(time.Hour/time.Microsecond)), 1, 200).Draw(t, "µs")
		cut := rapid.IntRange(0, len(values)).Draw(t, "cut")
		var whole, left, right Sketch
		for i, v := range values {
			d := time.Duration(v) * time.Microsecond
			whole.Add(d)
			if i < cut {
				left.Add(d)
			} else {
				right.Add(d)
			}
		}
		d := &decoder{b: right.append(nil)}
		decoded := d.sketch()
		if d.bad || len(d.b) > 0 {
			t.Fatalf("%v cannot be read", right)
		}
		left.Merge(&decoded)
		if !assert.ObjectsAreEqual(whole, left) {
			t.Fatalf("the parts do not add up to the whole: %v, %v", whole, left)
		}
		slices.Sort(values)
		for _, q := range []float64{0, .5, .95, .99, 1} {
			exact := float64(values[max(1, int(math.Ceil(q*float64(len(values)))))-1])
			if got := float64(whole.Quantile(q)) / 1e3; math.Abs(got-exact) > 0.0201*exact+0.001 {
				t.Fatalf("q%v is %v, want %v", q, got, exact)
			}
		}
	})
	var empty Sketch
	assert.Zero(t, empty.Quantile(.5))
	var odd Sketch
	odd.Add(-time.Second)
	odd.Add(math.MaxInt64)
	assert.EqualValues(t, 2, odd.Count())
	for _, bad := range [][]byte{nil, {5}, {1, 0, 0}, {2, 3, 1, 0, 1}, {1, 255, 255, 3, 1}} {
		d := &decoder{b: bad}
		d.sketch()
		assert.True(t, d.bad, "%v", bad)
	}
}

// FuzzFigures: nothing that stands in a database makes reading figures panic, and what can be read is written again the same.
func FuzzFigures(f *testing.F) {
	var some figures
	for n := range 3 {
		some.add(metricstest.Sample("p", n))
	}
	f.Add(some.append(nil))
	f.Add(new(figures).append(nil))
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		var read, again figures
		if read.read(b) != nil {
			return
		}
		require.NoError(t, again.read(read.append(nil)))
		assert.Equal(t, read, again)
	})
}

// TestFeedbackKeepsNoBatch: a score that somebody keeps does not keep the batch's other records in memory.
func TestFeedbackKeepsNoBatch(t *testing.T) {
	score := &feedbackRecord{Feedback: metrics.Feedback{ID: "fb", Project: "p", CallID: "c", Name: "helpful", Category: "yes", User: "u", Source: "user"}}
	b := &batch{}
	f := &flusher{}
	require.Zero(t, f.decode(b, [][]byte{appendCall(nil, metricstest.Sample("p", 1)), appendFeedback(nil, score)}))
	require.Len(t, b.calls, 1)
	require.Len(t, b.feedback, 1)
	start := uintptr(unsafe.Pointer(unsafe.StringData(b.calls[0].call.ID))) // the beginning of the batch's text, nearly
	end := start + uintptr(len(appendCall(nil, metricstest.Sample("p", 1)))+len(appendFeedback(nil, score)))
	got := b.feedback[0]
	for _, s := range []string{got.ID, got.Project, got.CallID, got.Name, got.Category, got.User, got.Source} {
		at := uintptr(unsafe.Pointer(unsafe.StringData(s)))
		assert.False(t, at >= start && at < end, "%q is a part of it", s)
	}
}

// TestRecordsGrow: what a newer release wrote is read without what this one does not know, in records, attempts and scores; what an older one wrote is
// read whole.
func TestRecordsGrow(t *testing.T) {
	call := metricstest.Sample("p", 1)
	b := appendCall(nil, call)
	b[1] = callLayout + 3
	got, _, err := decode(append(slices.Clone(b), "a field of the future"...))
	require.NoError(t, err)
	require.Equal(t, appendCall(nil, call), appendCall(nil, got))

	attempt := appendAttempt(nil, &call.Attempts[1])
	grown := append(slices.Clone(attempt), 1, 2, 3)
	binary.LittleEndian.PutUint16(grown, uint16(len(grown)-2))
	future := bytes.Replace(b, attempt, grown, 1)
	require.NotEqual(t, b, future)
	got, _, err = decode(future)
	require.NoError(t, err)
	require.Equal(t, appendCall(nil, call), appendCall(nil, got))

	yes := true
	score := &feedbackRecord{Feedback: metrics.Feedback{ID: "1", Scorer: "token", Project: "p", CallID: "c", Name: "n", Bool: &yes, Source: "user", At: metricstest.Start}}
	b = appendFeedback(nil, score)
	b[1]++
	_, read, err := decode(append(slices.Clone(b), "more"...))
	require.NoError(t, err)
	require.Equal(t, "token", read.Scorer)

	// Before growing: no lengths in front of attempts, nothing behind the last field, no scorer.
	old := slices.Clone(b[:len(b)-len("token")-1])
	old[1] = 1
	_, read, err = decode(old)
	require.NoError(t, err)
	require.Equal(t, "id:1", read.Scorer)
	_, _, err = decode(append(old, 0))
	require.ErrorIs(t, err, errRecord)
	plain := *call
	plain.Attempts, plain.Variant, plain.Purpose = nil, "", ""
	b = appendCall(nil, &plain)
	b[1] = 2
	_, _, err = decode(b)
	require.ErrorIs(t, err, errRecord, "the fields of a later layout")
	b = b[:len(b)-2]
	got, _, err = decode(b)
	require.NoError(t, err)
	require.Equal(t, metrics.PurposeProduction, got.Purpose, "before there were others")
	b[1] = 1
	got, _, err = decode(b)
	require.NoError(t, err)
	require.Equal(t, call.ID, got.ID)
	b = append(b[:len(b)-1], 1)
	b = append(b, attempt[2:]...)
	got, _, err = decode(b)
	require.NoError(t, err)
	require.Equal(t, call.Attempts[1].Provider, got.Attempts[0].Provider)
}
