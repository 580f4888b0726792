package wire

import "github.com/promptgate/promptgate/internal/fault"

// InputTokens counts the tokens of a request for a response: the same body, and no answer of a model to it. It costs nothing.
type InputTokens struct{ Responses }

// Compaction makes a long input shorter, for later requests to go on with. Its answer repeats messages of its input, so that it is for calls without a prompt.
type Compaction struct{ Responses }

var (
	_ API = InputTokens{}
	_ API = Compaction{}
)

// Endpoint implements API.
func (InputTokens) Endpoint() string { return "responses/input_tokens" }

// Endpoint implements API.
func (Compaction) Endpoint() string { return "responses/compact" }

// Free implements API.
func (InputTokens) Free() bool { return true }

// Keeps implements API: a count is nothing to go on from.
func (InputTokens) Keeps() bool { return false }

// RunsOn implements API.
func (InputTokens) RunsOn(*Body, []Edit) bool { return false }

// RunsOn implements API.
func (Compaction) RunsOn(*Body, []Edit) bool { return false }

// ReadAnswer implements API: a count is an answer, spelled as the Messages API spells one.
func (InputTokens) ReadAnswer(body []byte) (c Completion, whole bool) {
	return CountTokens{}.ReadAnswer(body)
}

// Compose implements API.
func (Compaction) Compose(_ *Body, _ Prompt, dst []byte, _ []Edit) (Composed, error) {
	return Composed{Rendered: dst}, fault.New(fault.InvalidPromptReference,
		"What a prompt began is not compacted: the answer would repeat the prompt. Leave \"prompt\" out, and send what is to be compacted as \"input\".").WithParam("prompt")
}
