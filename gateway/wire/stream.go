package wire

import "github.com/promptgate/promptgate/metrics"

// StreamResult is what a relayed stream said.
type StreamResult struct {
	Usage     metrics.Tokens // the last reported
	ID        string
	Model     string
	Finish    string // finish_reason of the first choice
	Events    int    // data events, without [DONE] and the withheld one: about the tokens of an answer whose usage was not reported
	Started   bool   // content, a tool call, reasoning or a refusal came
	Done      bool   // [DONE] came
	Withheld  bool   // the usage chunk was kept back
	Truncated bool   // the stream ended inside an event
	Error     []byte // the provider's own error, sent mid-stream, at most 2 KiB of it; nil when none
}

// Complete reports whether the stream came to its end: [DONE], or a finish reason, and no error.
func (r *StreamResult) Complete() bool { return false }

// StreamScanner relays server-sent events as the provider's bytes and reads them on the way. It keeps at most 8 KiB, however long a line
// is. Not safe for concurrent use.
type StreamScanner struct{}

// Reset readies the scanner for a stream, keeping its buffers. With withhold the usage chunk with empty choices is kept back.
func (s *StreamScanner) Reset(withhold bool) {}

// Feed takes the provider's next bytes and appends to out what may go to the caller now: slices of p and of the scanner's own, valid
// until the next call. An event that is not complete yet may be kept for a later call, up to 4 KiB.
func (s *StreamScanner) Feed(p []byte, out [][]byte) [][]byte { return append(out, p) }

// Finish is called after a clean end of the provider's stream; it appends what was kept. An event cut in the middle of its JSON is dropped
// and reported as Truncated: the caller could not have read it.
func (s *StreamScanner) Finish(out [][]byte) [][]byte { return out }

// Result is what was read so far.
func (s *StreamScanner) Result() *StreamResult { return nil }

// Truncation is the error event that ends a stream which the provider cut, with the line ends that it needs after what was relayed.
// No [DONE] follows it.
func (s *StreamScanner) Truncation(callID string) []byte { return nil }

// ErrorEvent is err as an event of a stream: "data: {envelope}" and a blank line.
func ErrorEvent(err error) []byte { return nil }
