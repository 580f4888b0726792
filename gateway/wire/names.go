package wire

import (
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// maxQuoted bounds what of a caller's text is repeated in a message, in bytes.
const maxQuoted = 80

// quoteForMessage is s in quotes, cut to a length that suits a message.
func quoteForMessage(s string) string {
	cut := s
	if len(cut) > maxQuoted {
		end := maxQuoted
		for end > 0 && !utf8.RuneStart(cut[end]) {
			end--
		}
		cut = cut[:end] + "…"
	}
	// Replaces invalid UTF-8 and says so in its error: a message has no use for that.
	q, _ := jsontext.AppendQuote(nil, cut)
	return string(q)
}

// decodeName is a member's name from its quoted form. The names of the table cost no allocation.
func decodeName(quoted []byte) (name string, known bool) {
	inner := quoted[1 : len(quoted)-1]
	if name = knownName(inner); name != "" {
		return name, true
	}
	name, _ = stringOf(quoted) // the decoder has accepted it
	if known := knownName([]byte(name)); known != "" {
		return known, true
	}
	return name, false
}

// knownName is the table of names that bodies commonly hold: "" for any other. It saves allocations; nothing else depends on a name being in
// it, but that those of fieldsRead and formOf are.
func knownName(b []byte) string {
	switch string(b) {
	case "model":
		return "model"
	case "messages":
		return "messages"
	case "stream":
		return "stream"
	case "stream_options":
		return "stream_options"
	case "tools":
		return "tools"
	case "tool_choice":
		return "tool_choice"
	case "parallel_tool_calls":
		return "parallel_tool_calls"
	case "functions":
		return "functions"
	case "function_call":
		return "function_call"
	case "response_format":
		return "response_format"
	case "temperature":
		return "temperature"
	case "top_p":
		return "top_p"
	case "n":
		return "n"
	case "stop":
		return "stop"
	case "max_tokens":
		return "max_tokens"
	case "max_completion_tokens":
		return "max_completion_tokens"
	case "presence_penalty":
		return "presence_penalty"
	case "frequency_penalty":
		return "frequency_penalty"
	case "logit_bias":
		return "logit_bias"
	case "logprobs":
		return "logprobs"
	case "top_logprobs":
		return "top_logprobs"
	case "seed":
		return "seed"
	}
	return lessKnownName(b)
}

func lessKnownName(b []byte) string {
	switch string(b) {
	case "user":
		return "user"
	case "metadata":
		return "metadata"
	case "store":
		return "store"
	case "service_tier":
		return "service_tier"
	case "reasoning_effort":
		return "reasoning_effort"
	case "modalities":
		return "modalities"
	case "input":
		return "input"
	case "instructions":
		return "instructions"
	case "previous_response_id":
		return "previous_response_id"
	case "conversation":
		return "conversation"
	case "background":
		return "background"
	case "request_id":
		return "request_id"
	case "max_output_tokens":
		return "max_output_tokens"
	case "text":
		return "text"
	case "safety_identifier":
		return "safety_identifier"
	case "models":
		return "models"
	case "prompt":
		return "prompt"
	case "prompt_id":
		return "prompt_id"
	case "prompt_variables":
		return "prompt_variables"
	case "prompt_version":
		return "prompt_version"
	case "prompt_label":
		return "prompt_label"
	case "environment":
		return "environment"
	case "version_id":
		return "version_id"
	case "inputs":
		return "inputs"
	case "variables":
		return "variables"
	case "version":
		return "version"
	case "label":
		return "label"
	case "draft":
		return "draft"
	}
	return messagesName(b)
}

func messagesName(b []byte) string {
	switch string(b) {
	case "system":
		return "system"
	case "thinking":
		return "thinking"
	case "stop_sequences":
		return "stop_sequences"
	case "top_k":
		return "top_k"
	case "output_config":
		return "output_config"
	case "container":
		return "container"
	case "thread":
		return "thread"
	case "diagnostics":
		return "diagnostics"
	}
	return ""
}

// fieldsRead are the fields whose value the gateway acts on. A parser upstream that ignores case would take "Model" for model, and then
// what we checked would not be what the provider runs. The names of other gateways' forms that are everyday words (environment,
// version_id, inputs) are ours only where a prompt is named: ParseReference looks at those.
func fieldsRead() [29]string {
	return [...]string{
		"model", "models", "messages", "prompt", "prompt_id", "prompt_variables", "prompt_version", "prompt_label", "stream", "stream_options",
		"tools", "functions", "response_format", "max_tokens", "max_completion_tokens", "user", "input", "instructions",
		"previous_response_id", "conversation", "background", "request_id", "max_output_tokens", "text", "safety_identifier",
		"system", "container", "thread", "diagnostics",
	}
}

// foldedField is the field that name equals but for its case, "" when there is none. It folds as encoding/json does.
func foldedField(name string) string {
	for _, f := range fieldsRead() {
		if strings.EqualFold(f, name) && f != name {
			return f
		}
	}
	return ""
}

// isNull reports whether v is JSON's null.
func isNull(v []byte) bool { return string(v) == "null" }

// stringOf is the decoded string that v is; ok is false for any other kind of value.
func stringOf(v []byte) (s string, ok bool) {
	if len(v) < 2 || v[0] != '"' {
		return "", false
	}
	if plain, ok := plainString(v); ok {
		return string(plain), true
	}
	b, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return "", false
	}
	return string(b), true
}

// plainString is what stands between the quotes when no escape does.
func plainString(v []byte) ([]byte, bool) {
	inner := v[1 : len(v)-1]
	for _, c := range inner {
		if c == '\\' {
			return nil, false
		}
	}
	return inner, true
}
