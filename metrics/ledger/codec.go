package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/promptgate/promptgate/metrics"
)

// The first byte of a record is its kind, the second the version of its layout. A new field goes behind all others of its record or attempt, and
// raises the version. A reader skips what stands behind the fields that it knows, so that a release reads what a newer one wrote; and it keeps reading
// the layouts before growing, whose fields end where the record does.
const (
	kindCall     = 'c'
	kindFeedback = 'f'

	growing        = 2 // layouts from here on may have more fields than a reader knows, and attempts have their lengths in front
	withPurpose    = 3 // calls: variant, purpose
	callLayout     = 3
	feedbackLayout = 2
)

const (
	maxText     = 1 << 10  // bytes of a name or an id; longer ones are cut
	maxSealed   = 32 << 10 // bytes of a sealed comment; longer ones are refused
	maxAttempts = 64
	maxRecord   = 256 << 10
)

const (
	flagStream = 1 << iota
	flagCost
)

const (
	flagReported = 1 << iota
	flagEstimated
)

// feedbackRecord is a feedback whose comment is sealed before it touches a disk.
type feedbackRecord struct {
	metrics.Feedback        // Comment is empty
	Sealed           []byte // nil without a comment
}

func appendText(b []byte, s string) []byte {
	if len(s) > maxText {
		s = cutText(s, maxText)
	}
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// cutText shortens s to at most n bytes without cutting a character in two.
func cutText(s string, n int) string {
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func appendTokens(b []byte, t *metrics.Tokens) []byte {
	var flags byte
	if t.Reported {
		flags |= flagReported
	}
	if t.Estimated {
		flags |= flagEstimated
	}
	b = append(b, flags)
	for _, n := range [...]int64{t.Input, t.CachedInput, t.CacheWrite, t.AudioInput, t.Output, t.Reasoning, t.AudioOutput} {
		b = binary.AppendVarint(b, n)
	}
	return b
}

// appendCost writes nothing for an unknown cost: a flag tells.
func appendCost(b []byte, cost *int64) []byte {
	if cost == nil {
		return b
	}
	return binary.AppendVarint(b, *cost)
}

func appendTime(b []byte, t time.Time) []byte {
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

// appendCall encodes c behind b.
func appendCall(b []byte, c *metrics.Call) []byte {
	var flags byte
	if c.Stream {
		flags |= flagStream
	}
	if c.CostMicros != nil {
		flags |= flagCost
	}
	b = append(b, kindCall, callLayout, flags)
	for _, s := range [...]string{c.ID, c.Project, c.Principal, c.PromptID, c.PromptName, c.Label, c.Digest, c.Provider, c.Model,
		c.Endpoint, c.CompletionID, c.EndUser, c.ErrorCode, string(c.Outcome)} {
		b = appendText(b, s)
	}
	b = binary.AppendVarint(b, int64(c.Version))
	b = binary.AppendVarint(b, int64(c.Status))
	b = appendTime(b, c.Start)
	b = binary.AppendVarint(b, int64(c.FirstToken))
	b = binary.AppendVarint(b, int64(c.Total))
	b = binary.AppendVarint(b, int64(c.Overhead))
	b = appendTokens(b, &c.Tokens)
	b = appendCost(b, c.CostMicros)
	attempts := c.Attempts[:min(len(c.Attempts), maxAttempts)]
	b = binary.AppendUvarint(b, uint64(len(attempts)))
	for i := range attempts {
		b = appendAttempt(b, &attempts[i])
	}
	b = appendText(b, c.Variant)
	if c.Purpose == metrics.PurposeProduction { // nearly all are: "" stands for it
		return append(b, 0)
	}
	return appendText(b, string(c.Purpose))
}

func appendAttempt(b []byte, a *metrics.Attempt) []byte {
	length := len(b)
	b = append(b, 0, 0) // at most 64 KiB: three texts of 1 KiB and some numbers
	var flags byte
	if a.CostMicros != nil {
		flags |= flagCost
	}
	b = append(b, flags)
	b = appendText(b, a.Provider)
	b = appendText(b, a.Model)
	b = appendText(b, string(a.Outcome))
	b = appendTime(b, a.Start)
	b = binary.AppendVarint(b, int64(a.FirstToken))
	b = binary.AppendVarint(b, int64(a.Total))
	b = binary.AppendVarint(b, int64(a.Status))
	b = appendTokens(b, &a.Tokens)
	b = appendCost(b, a.CostMicros)
	binary.LittleEndian.PutUint16(b[length:], uint16(len(b)-length-2))
	return b
}

const (
	valueNone = iota
	valueFalse
	valueTrue
	valueNumber
)

// appendFeedback encodes f behind b. The comment is taken from Sealed only.
func appendFeedback(b []byte, f *feedbackRecord) []byte {
	b = append(b, kindFeedback, feedbackLayout)
	for _, s := range [...]string{f.ID, f.Project, f.CallID, f.Name, f.Category, f.User, f.Source} {
		b = appendText(b, s)
	}
	switch {
	case f.Bool != nil && *f.Bool:
		b = append(b, valueTrue)
	case f.Bool != nil:
		b = append(b, valueFalse)
	case f.Number != nil:
		b = append(b, valueNumber)
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(*f.Number))
	default:
		b = append(b, valueNone)
	}
	b = appendTime(b, f.At)
	b = binary.AppendUvarint(b, uint64(len(f.Sealed)))
	b = append(b, f.Sealed...)
	return appendText(b, f.Scorer)
}

var errRecord = errors.New("record cannot be read")

// decoder reads fields; after the first fault it reads zeros.
type decoder struct {
	b    []byte
	text string // the whole record, which the texts are parts of: one allocation for all of them
	bad  bool
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > limit {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes(limit uint64) []byte {
	n := d.uvarint(limit)
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) string() string {
	n := len(d.bytes(maxText))
	end := len(d.text) - len(d.b)
	if d.bad {
		return ""
	}
	return d.text[end-n : end]
}

func (d *decoder) time() time.Time {
	s := d.varint()
	return time.Unix(s, int64(d.uvarint(uint64(time.Second-1)))).UTC()
}

func (d *decoder) tokens() metrics.Tokens {
	flags := d.byte()
	return metrics.Tokens{
		Reported: flags&flagReported != 0, Estimated: flags&flagEstimated != 0,
		Input: d.varint(), CachedInput: d.varint(), CacheWrite: d.varint(), AudioInput: d.varint(),
		Output: d.varint(), Reasoning: d.varint(), AudioOutput: d.varint(),
	}
}

func (d *decoder) cost(flags byte) *int64 {
	if flags&flagCost == 0 {
		return nil
	}
	v := d.varint()
	return &v
}

// decode reads one record: exactly one of the results is set. It never panics, whatever b holds.
func decode(b []byte) (*metrics.Call, *feedbackRecord, error) {
	call := &metrics.Call{}
	feedback, err := decodeInto(call, b, string(b))
	if err != nil || feedback != nil {
		return nil, feedback, err
	}
	return call, nil, nil
}

// decodeInto is decode for records of one text: it reads into call unless the record is of feedback. text is b once more; what is read are
// parts of it.
func decodeInto(call *metrics.Call, b []byte, text string) (feedback *feedbackRecord, err error) {
	d := &decoder{b: b, text: text}
	kind, layout, newer := d.byte(), d.byte(), false
	switch {
	case kind == kindCall && layout > 0:
		d.call(call, layout)
		newer = layout > callLayout
	case kind == kindFeedback && layout > 0:
		feedback = d.feedback(layout)
		newer = layout > feedbackLayout
	default:
		return nil, fmt.Errorf("%w: kind %q layout %d is unknown to this release", errRecord, kind, layout)
	}
	if d.bad || !newer && len(d.b) > 0 {
		return nil, fmt.Errorf("%w: kind %q has the wrong length", errRecord, kind)
	}
	return feedback, nil
}

func (d *decoder) call(c *metrics.Call, layout byte) {
	flags := d.byte()
	c.Stream = flags&flagStream != 0
	for _, s := range [...]*string{&c.ID, &c.Project, &c.Principal, &c.PromptID, &c.PromptName, &c.Label, &c.Digest, &c.Provider,
		&c.Model, &c.Endpoint, &c.CompletionID, &c.EndUser, &c.ErrorCode, (*string)(&c.Outcome)} {
		*s = d.string()
	}
	c.Version, c.Status = int(d.varint()), int(d.varint())
	c.Start = d.time()
	c.FirstToken, c.Total, c.Overhead = time.Duration(d.varint()), time.Duration(d.varint()), time.Duration(d.varint())
	c.Tokens = d.tokens()
	c.CostMicros = d.cost(flags)
	for range d.uvarint(maxAttempts) {
		length := -1
		if layout >= growing {
			length = d.length()
		}
		from := len(d.b)
		c.Attempts = append(c.Attempts, d.attempt())
		if layout >= growing {
			more := length - (from - len(d.b))
			d.skip(more)
			d.bad = d.bad || more > 0 && layout <= callLayout
		}
	}
	if layout >= withPurpose {
		c.Variant, c.Purpose = d.string(), metrics.Purpose(d.string())
	}
	if c.Purpose == "" {
		c.Purpose = metrics.PurposeProduction
	}
}

// length reads the length that stands in front of what may have grown.
func (d *decoder) length() int {
	if len(d.b) < 2 {
		d.fail()
		return 0
	}
	n := int(binary.LittleEndian.Uint16(d.b))
	d.b = d.b[2:]
	return n
}

// skip leaves out the n bytes that this release does not know.
func (d *decoder) skip(n int) {
	if n < 0 || n > len(d.b) {
		d.fail()
		return
	}
	d.b = d.b[n:]
}

func (d *decoder) attempt() metrics.Attempt {
	flags := d.byte()
	return metrics.Attempt{
		Provider: d.string(), Model: d.string(), Outcome: metrics.Outcome(d.string()), Start: d.time(),
		FirstToken: time.Duration(d.varint()), Total: time.Duration(d.varint()), Status: int(d.varint()),
		Tokens: d.tokens(), CostMicros: d.cost(flags),
	}
}

func (d *decoder) feedback(layout byte) *feedbackRecord {
	f := &feedbackRecord{}
	for _, s := range [...]*string{&f.ID, &f.Project, &f.CallID, &f.Name, &f.Category, &f.User, &f.Source} {
		*s = d.string()
	}
	switch kind := d.byte(); kind {
	case valueNone:
	case valueTrue, valueFalse:
		v := kind == valueTrue
		f.Bool = &v
	case valueNumber:
		if len(d.b) < 8 {
			d.fail()
			return f
		}
		v := math.Float64frombits(binary.LittleEndian.Uint64(d.b))
		d.b = d.b[8:]
		f.Number = &v
	default:
		d.fail()
	}
	f.At = d.time()
	if sealed := d.bytes(maxSealed); len(sealed) > 0 {
		f.Sealed = append([]byte(nil), sealed...)
	}
	if f.Scorer = "id:" + f.ID; layout >= growing {
		f.Scorer = d.string()
	}
	return f
}
