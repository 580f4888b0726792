package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/names"
)

// knownFields are fields of requests that providers take, OpenAI's and those of others. A field that is none of them, and near to none, is some
// provider's own.
func knownFields() []string {
	return []string{
		"audio", "echo", "enable_thinking", "extra_body", "frequency_penalty", "function_call", "functions", "generation_config", "grammar",
		"guided_choice", "guided_grammar", "guided_json", "guided_regex", "ignore_eos", "include_reasoning", "input", "length_penalty", "logit_bias",
		"logprobs", "max_completion_tokens", "max_output_tokens", "max_tokens", "max_tool_calls", "messages", "metadata", "min_p", "min_tokens",
		"mirostat", "modalities", "model", "models", "n", "num_beams", "parallel_tool_calls", "plugins", "prediction", "presence_penalty",
		"prompt_cache_key", "prompt_cache_retention", "provider", "reasoning", "reasoning_effort", "reasoning_format", "repetition_penalty",
		"response_format", "route", "safe_prompt", "safety_identifier", "safety_settings", "seed", "service_tier", "skip_special_tokens", "stop",
		"stop_sequences", "stop_token_ids", "store", "stream", "stream_options", "suffix", "system", "temperature", "text", "thinking",
		"tool_choice", "tool_resources", "tools", "top_a", "top_k", "top_logprobs", "top_p", "transforms", "truncation", "typical_p", "user",
		"verbosity", "web_search_options",
	}
}

// Misspelt refuses what is valid and probably not meant: a parameter or a lock that is nearly a field that providers know, a tool that none
// would take, a response format of no type. Fields unlike any known are some provider's own and pass. What before holds as well, the
// version that c is to follow, was meant; nil for none. Saving asks it unless its author insists. Errors are InvalidTemplate.
func Misspelt(c Content, before *Content) error {
	if before == nil {
		before = &Content{}
	}
	known := knownFields()
	for _, name := range slices.Sorted(maps.Keys(c.Parameters)) {
		if _, meant := before.Parameters[name]; !meant {
			if err := misspeltField("parameters."+name, name, known); err != nil {
				return err
			}
		}
	}
	for i, name := range c.Locked {
		if !slices.Contains(before.Locked, name) && c.Parameters[name] == nil {
			if err := misspeltField(fmt.Sprintf("locked[%d]", i), name, known); err != nil {
				return err
			}
		}
	}
	if !bytes.Equal(compactJSON(c.Tools), compactJSON(before.Tools)) {
		if err := doubtfulTools(c.Tools); err != nil {
			return err
		}
	}
	if len(c.ResponseFormat) > 0 && !bytes.Equal(compactJSON(c.ResponseFormat), compactJSON(before.ResponseFormat)) {
		return doubtfulFormat(c.ResponseFormat)
	}
	return nil
}

func misspeltField(path, name string, known []string) error {
	if slices.Contains(known, name) {
		return nil
	}
	if meant := names.Nearest(name, known); meant != "" {
		return doubt(path, "%q is nearly %q; correct it", name, meant)
	}
	return nil
}

func doubtfulTools(raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	n := 0
	_, err := eachItem(trimSpace(raw), func(at int) (int, error) {
		tool := trimSpace(raw)[at:]
		tool = tool[:skipValue(tool, 0)]
		path := fmt.Sprintf("tools[%d]", n)
		n++
		kind, function, name := member(tool, "type"), member(tool, "function"), member(tool, "name")
		switch {
		case kindOf(kind) != '"':
			return 0, doubt(path, `no provider takes a tool without a "type", such as "function"; add it`)
		case unquote(kind) == "function" && kindOf(member(function, "name")) != '"' && kindOf(name) != '"':
			return 0, doubt(path, `a tool of type "function" has its "name" under "function"; add it`)
		}
		if kind := unquote(kind); kind != "function" && names.Nearest(kind, []string{"function"}) != "" {
			return 0, doubt(path+".type", `%q is nearly "function"; correct it`, kind)
		}
		return 0, nil
	})
	return err
}

func doubtfulFormat(raw json.RawMessage) error {
	kind := member(trimSpace(raw), "type")
	if kindOf(kind) != '"' {
		return doubt("response_format", `it has no "type"; add "text", "json_object" or "json_schema"`)
	}
	known := []string{"text", "json_object", "json_schema"}
	if got := unquote(kind); !slices.Contains(known, got) {
		if meant := names.Nearest(got, known); meant != "" {
			return doubt("response_format.type", "%q is nearly %q; correct it", got, meant)
		}
	}
	return nil
}

// member is the member of an object under a name, nil when raw is no object or has none.
func member(raw []byte, name string) []byte {
	if kindOf(raw) != '{' {
		return nil
	}
	var found []byte
	_, _ = eachMember(raw, func(key []byte, value int) (int, error) {
		end := skipValue(raw, value)
		if string(keyText(key)) == name {
			found = raw[value:end]
		}
		return end, nil
	})
	return found
}

// doubt is the fault for what may be meant after all.
func doubt(path, format string, args ...any) *fault.Error {
	return invalid(path, format+`, or save it with "insist": true (--insist) if it is meant`, args...)
}
