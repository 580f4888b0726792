package wire

import "github.com/promptgate/promptgate/metrics"

// Completion is what an answer's JSON body said.
type Completion struct {
	ID     string
	Model  string
	Finish string
	Usage  metrics.Tokens
}

// ParseCompletion reads an answer's body, or the beginning of one: what stands before a cut is found.
func ParseCompletion(body []byte) Completion { return Completion{} }
