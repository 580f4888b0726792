package wire

import (
	"bytes"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

// StreamResult is what a relayed stream said.
type StreamResult struct {
	Usage     metrics.Tokens // the last reported
	Cost      int64          // micro-dollars that the provider says it cost; 0: it does not say
	Tier      string         // service_tier: which of its prices the provider applied
	Mixed     bool           // Completion.Mixed
	ID        string
	Model     string
	Items     []string // as Completion has them
	Finish    string   // finish_reason of the first choice that had one
	Events    int      // data events but for [DONE] and a withheld one: about the tokens of an answer whose usage was not reported
	Started   bool     // content, a tool call, reasoning or a refusal came
	Done      bool     // [DONE] came
	Withheld  bool     // the usage chunk was kept back
	Truncated bool     // the stream ended inside an event
	Error     []byte   // the provider's own error, sent mid-stream, at most 2 KiB of it; nil when none

	counts usageReader // of a shape that spreads its usage over events
}

// Complete reports whether the stream came to its end: [DONE], or at least a finish reason, and no error.
func (r *StreamResult) Complete() bool {
	return (r.Done || r.Finish != "") && r.Error == nil && !r.Truncated
}

// holdMax bounds an event that is kept until it is complete, in bytes. There are two such buffers: one may still be with the caller of
// Feed while the other fills.
const holdMax = 4 << 10

// Failed reports whether the stream told of an error: as such, or as the reason for which it finished.
func (r *StreamResult) Failed() bool { return r.Error != nil || r.Finish == finishError }

// StreamScanner relays server-sent events as the provider's bytes and reads them on the way. It keeps at most 8 KiB, however long a line
// is. An event is passed on when it is complete (until then no client can use it) or when it outgrows what is kept: so an event
// that a cut left short does not spoil the error event that follows. Call Reset before use. Not safe for concurrent use.
type StreamScanner struct {
	api      API
	withhold bool
	// HideErrors keeps back events that tell of an error: the provider's words may repeat the prompt. Of one that is too long to be kept, the words are
	// replaced. Set it after Reset.
	HideErrors bool
	hide       *Mask // of the event that is relayed as it comes; nil: nothing is replaced

	// Where in the stream the next byte stands.
	lineStart bool // it is the first of its line
	comment   bool // its line is a comment
	fields    bool // its event has a line that is no comment
	afterCR   bool // a line feed here would belong to the carriage return before it
	ended     bool // that carriage return ended an event or a comment
	dropped   bool // which was withheld

	hold, spare []byte // the event's bytes from earlier calls; the buffer to use next
	over        bool   // the event outgrew hold and is relayed as it comes
	mid         bool   // what was relayed ends inside an event
	big         bigEvent
	res         StreamResult

	// During one call: p[:sent] is settled, p[sent:start] may go, p[start:] is the event being read, after what is held of it.
	p           []byte
	sent, start int
	out         [][]byte
}

// Reset readies the scanner for a stream of a shape, keeping its buffers. With withhold the event that says nothing but the usage is kept back.
func (s *StreamScanner) Reset(api API, withhold bool) {
	*s = StreamScanner{api: api, withhold: withhold, lineStart: true, hold: s.hold[:0], spare: s.spare[:0], big: s.big}
}

// Result is what was read so far; it changes with the next call.
func (s *StreamScanner) Result() *StreamResult { return &s.res }

// Feed takes the provider's next bytes and appends to out what may go to the caller now: slices of p and of the scanner's own, valid
// until the next call. An event that is not complete yet may be kept for a later call, up to 4 KiB.
func (s *StreamScanner) Feed(p []byte, out [][]byte) [][]byte {
	s.p, s.sent, s.start, s.out = p, 0, 0, out
	lf := -1 // the next line feed, len(p) when there is none
	for i := s.attachLF(); i < len(p); {
		if s.lineStart && p[i] != '\n' && p[i] != '\r' {
			s.lineStart = false
			s.comment = p[i] == ':'
			s.fields = s.fields || !s.comment
		}
		if lf < i {
			if lf = bytes.IndexByte(p[i:], '\n'); lf < 0 {
				lf = len(p)
			} else {
				lf += i
			}
		}
		if i = lineEnd(p, i, lf); i < 0 {
			break
		}
		s.afterCR = i == len(p) && p[i-1] == '\r'
		s.ended = s.lineStart || s.comment && !s.fields
		s.lineStart, s.comment = true, false
		if s.ended {
			s.endEvent(i)
		}
	}
	s.endFeed()
	out, s.p, s.out = s.out, nil, nil
	return out
}

// attachLF gives a line feed that follows the last call's carriage return to the line that this ended. It returns where to go on.
func (s *StreamScanner) attachLF() int {
	if len(s.p) == 0 || !s.afterCR {
		return 0
	}
	s.afterCR = false
	if s.p[0] != '\n' {
		return 0
	}
	if s.ended {
		s.start = 1
		if s.dropped {
			s.sent = 1
		}
	}
	return 1
}

// lineEnd is the offset after the line that p[i] stands in, -1 when p does not hold its end. lf is the next line feed, or len(p).
func lineEnd(p []byte, i, lf int) int {
	if cr := bytes.IndexByte(p[i:lf], '\r'); cr >= 0 {
		end := i + cr + 1
		if end == lf && lf < len(p) {
			return end + 1
		}
		return end
	}
	if lf == len(p) {
		return -1
	}
	return lf + 1
}

// endEvent ends an event, or a comment between events, at p[end].
func (s *StreamScanner) endEvent(end int) {
	ev := s.p[s.start:end]
	if !s.over && len(s.hold) > 0 && len(s.hold)+len(ev) > holdMax {
		s.overflow()
	}
	s.dropped = false
	switch held := len(s.hold) > 0; {
	case s.over:
		s.big.feed(ev)
		s.pass(end)
		s.endBig()
		s.over, s.mid, s.hide = false, false, nil
	case held:
		s.hold = append(s.hold, ev...)
		if s.dropped = s.fields && s.inspect(s.hold); s.dropped {
			s.hold = s.hold[:0]
		} else {
			s.release()
		}
		s.sent = end
	default:
		if s.dropped = s.fields && s.inspect(ev); s.dropped {
			s.emit(s.start)
			s.sent = end
		}
	}
	s.start, s.fields = end, false
}

// endFeed keeps the event that p leaves open, or lets it go when it is too long to keep.
func (s *StreamScanner) endFeed() {
	rest := s.p[s.start:]
	if !s.over && len(s.hold)+len(rest) > holdMax {
		s.overflow()
	}
	switch {
	case s.over:
		s.big.feed(rest)
		s.pass(len(s.p))
		s.start = len(s.p)
	case len(rest) > 0:
		if cap(s.hold) < holdMax {
			s.hold = append(make([]byte, 0, holdMax), s.hold...)
		}
		s.hold = append(s.hold, rest...)
	}
	s.emit(s.start)
}

// emit lets p go up to the offset to.
func (s *StreamScanner) emit(to int) {
	if s.sent < to {
		s.out = append(s.out, s.p[s.sent:to])
		s.sent = to
	}
}

// namesError reports whether an event's first line names it an error.
func namesError(ev []byte) bool {
	name, ok := bytes.CutPrefix(ev, []byte("event:"))
	name, ended := bytes.CutPrefix(bytes.TrimPrefix(name, []byte(" ")), []byte("error"))
	return ok && ended && len(name) > 0 && (name[0] == '\n' || name[0] == '\r')
}

// pass lets the event that is relayed as it comes go up to the offset to.
func (s *StreamScanner) pass(to int) {
	if s.hide == nil {
		return // with all the rest
	}
	s.emit(s.start)
	if s.sent < to {
		s.out = append(s.out, s.hide.Append(nil, s.p[s.sent:to]))
		s.sent = to
	}
}

// release lets go what is held. The buffer stays untouched until the next call.
func (s *StreamScanner) release() {
	if len(s.hold) > 0 {
		s.out = append(s.out, s.hold)
		s.hold, s.spare = s.spare[:0], s.hold
	}
}

// overflow begins to relay an event as it comes.
func (s *StreamScanner) overflow() {
	s.big.reset(s.api)
	begins := s.hold
	if len(begins) == 0 {
		begins = s.p[s.start:]
	}
	if namesError(begins) {
		s.res.SetError([]byte(`"error"`))
	}
	s.big.feed(s.hold)
	if s.HideErrors {
		s.hide = newErrorMask()
		if len(s.hold) > 0 {
			s.out = append(s.out, s.hide.Append(nil, s.hold))
			s.hold = s.hold[:0]
		}
	}
	s.release()
	s.over, s.mid = true, true
}

// Finish is called when the provider's stream has ended, cleanly or not; it appends what was kept. An event cut in the middle of its JSON
// is dropped and reported as Truncated: the caller could not have read it.
func (s *StreamScanner) Finish(out [][]byte) [][]byte {
	s.out = out
	switch {
	case s.over:
		s.endBig()
		s.res.Truncated = s.res.Truncated || !s.big.json.whole()
	case s.fields && len(s.hold) > 0:
		if cutShort(eventOf(s.hold).Data) {
			s.res.Truncated = true
		} else if !s.inspect(s.hold) {
			s.release()
			s.mid = true
		}
	case len(s.hold) > 0:
		s.release()
		s.mid = true
	}
	s.hold, s.over, s.fields, s.hide = s.hold[:0], false, false, nil // what was not released is dropped
	out, s.out = s.out, nil
	return out
}

// Truncation is the error event that ends a stream which the provider cut. Call it after Finish.
func (s *StreamScanner) Truncation(callID string) []byte {
	return s.ErrorEvent(fault.New(fault.ProviderTruncated,
		"The provider's stream broke off before its end; what came is incomplete. Send the request again (call %s).", callID), callID)
}

// ErrorEvent is the event that ends a stream with an error of ours, with the line ends that it needs after what was relayed. Nothing follows it,
// a [DONE] least of all. Call it after Finish.
func (s *StreamScanner) ErrorEvent(err error, callID string) []byte {
	var event []byte
	if s.mid {
		event = append(event, "\n\n"...)
	}
	return s.api.AppendErrorEvent(event, err, callID)
}
