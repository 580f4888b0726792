package wire

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

// A version is saved in the words of a chat. Here they become those of the Messages API; what it has no word for is refused by name, since a prompt that runs
// without what its author asked for is another prompt. Names that no chat has are the API's own, and stay.

// inMessages is a version's configuration under the names that the Messages API has for it.
func inMessages(c *template.Content) (*template.Content, error) {
	out := *c
	out.Parameters = make(map[string]json.RawMessage, len(c.Parameters)+1)
	out.Locked, out.Ignored = inMessagesWords(c.Locked), inMessagesWords(c.Ignored)
	var config map[string]json.RawMessage
	if own := c.Parameters["output_config"]; len(own) > 0 {
		if err := json.Unmarshal(own, &config); err != nil {
			return nil, noWord("output_config", "must be an object")
		}
	}
	configure := func(name string, value json.RawMessage) {
		if config == nil {
			config = map[string]json.RawMessage{}
		}
		if config[name] == nil { // which says it in this API's words
			config[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Parameters)) {
		value := c.Parameters[name]
		switch name {
		case "output_config":
		case "reasoning_effort":
			switch effort := Word(value); effort {
			case "low", "medium", "high", "xhigh", "max":
				configure("effort", value)
			case "":
			default:
				return nil, noWord(name, "is "+quoteForMessage(effort))
			}
		default:
			if err := translate(out.Parameters, c.Parameters, name, value); err != nil {
				return nil, err
			}
		}
	}
	if err := format(c.ResponseFormat, configure); err != nil {
		return nil, err
	}
	if out.ResponseFormat = nil; config != nil {
		b, err := json.Marshal(config)
		if err != nil {
			return nil, err
		}
		out.Parameters["output_config"] = b
	}
	tools, err := messagesTools(c.Tools)
	out.Tools = tools
	return &out, err
}

// inCount is inMessages without what only an answer has a use for.
func inCount(c *template.Content) (*template.Content, error) {
	out, err := inMessages(c)
	if err != nil {
		return nil, err
	}
	for _, name := range [...]string{"max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "metadata", "service_tier", "container", "inference_geo", "diagnostics"} {
		delete(out.Parameters, name)
	}
	return out, nil
}

// inMessagesWords are names of fields with what the API has for each of them: a lock on one holds for the other.
func inMessagesWords(names []string) []string {
	out := slices.Clone(names)
	for _, name := range names {
		switch name {
		case "stop":
			out = append(out, "stop_sequences")
		case "response_format", "text":
			out = append(out, "output_config", "output_format")
		case "reasoning_effort", "reasoning":
			out = append(out, "output_config", "thinking")
		case "parallel_tool_calls":
			out = append(out, "tool_choice")
		case "user", "safety_identifier":
			out = append(out, "metadata")
		}
	}
	return out
}

// translate puts one parameter of all into to, under its name in the API.
func translate(to, all map[string]json.RawMessage, name string, value json.RawMessage) error {
	as := func(own string, value json.RawMessage) {
		if all[own] == nil || own == name { // which says it in this API's words
			to[own] = value
		}
	}
	switch name {
	case "max_completion_tokens", "max_output_tokens":
		as("max_tokens", value)
	case "stop":
		switch {
		case isNull(value):
		case value[0] == '"':
			as("stop_sequences", slices.Concat([]byte{'['}, value, []byte{']'}))
		default:
			as("stop_sequences", value)
		}
	case "user", "safety_identifier":
		as("metadata", slices.Concat([]byte(`{"user_id":`), value, []byte{'}'}))
	case "metadata":
		for key := range membersOf(value) {
			if string(key) != `"user_id"` {
				return noWord(name, "has "+string(key)+", and the API takes user_id alone")
			}
		}
		to[name] = value
	case "service_tier":
		switch tier := Word(value); tier {
		case "auto", "standard_only":
			to[name] = value
		case "default":
			to[name] = json.RawMessage(`"standard_only"`)
		case "":
		default:
			return noWord(name, "is "+quoteForMessage(tier))
		}
	case "tool_choice", "parallel_tool_calls":
		choice, err := messagesChoice(all["tool_choice"], all["parallel_tool_calls"])
		if err != nil {
			return err
		}
		if choice != nil {
			to["tool_choice"] = choice
		}
	default:
		if !isChatsOwn(name) {
			to[name] = value
		} else if !asksForNothing(name, value) {
			return noWord(name, "")
		}
	}
	return nil
}

// isChatsOwn reports whether a parameter is one that only other APIs than Messages have.
func isChatsOwn(name string) bool {
	return slices.Contains([]string{
		"audio", "frequency_penalty", "function_call", "functions", "include", "logit_bias", "logprobs", "max_tool_calls", "modalities", "n", "prediction",
		"presence_penalty", "prompt_cache_key", "prompt_cache_retention", "reasoning", "seed", "store", "text", "top_logprobs", "truncation", "verbosity",
		"web_search_options",
	}, name)
}

// asksForNothing reports whether a value is what holds without the parameter.
func asksForNothing(name string, value []byte) bool {
	switch string(value) {
	case "null", "false", "[]", "{}":
		return true
	case "0", "0.0":
		return name != "seed"
	case "1":
		return name == "n"
	case `["text"]`:
		return name == "modalities"
	}
	return false
}

func noWord(name, why string) error {
	if why != "" {
		why = " as it " + why
	}
	return fault.New(fault.InvalidRequest, "The prompt sets %q, for which the Messages API has no word%s: call the prompt as a chat, or ask an editor for a version without it.",
		name, why).WithParam(name)
}

// format puts a response_format into the configuration of the output.
func format(format json.RawMessage, configure func(name string, value json.RawMessage)) error {
	if len(format) == 0 || isNull(format) {
		return nil
	}
	flat, err := lifted(format, "json_schema")
	if err != nil {
		return err
	}
	switch kind := Word(memberOf(flat, "type")); kind {
	case "text":
		return nil
	case "json_schema":
		schema := memberOf(flat, "schema")
		if schema == nil {
			return noWord("response_format", "has no schema")
		}
		configure("format", slices.Concat([]byte(`{"type":"json_schema","schema":`), schema, []byte{'}'}))
		return nil
	default:
		return noWord("response_format", "is "+quoteForMessage(kind)+" (json_schema has one)")
	}
}

// messagesChoice is a tool_choice in the words of the API; nil for none.
func messagesChoice(choice, parallel json.RawMessage) (json.RawMessage, error) {
	out := ""
	switch word := Word(choice); {
	case word == "":
	case word == "auto" || word == "none":
		out = `{"type":"` + word + `"}`
	case word == "required":
		out = `{"type":"any"}`
	case choice[0] == '{':
		flat, err := lifted(choice, "function")
		if err != nil {
			return nil, err
		}
		switch kind := Word(memberOf(flat, "type")); kind {
		case "function":
			out = `{"type":"tool","name":` + string(appendString(nil, Word(memberOf(flat, "name")))) + `}`
		case "auto", "any", "none", "tool": // the API's own
			out = string(flat)
		default:
			return nil, noWord("tool_choice", "is of type "+quoteForMessage(kind))
		}
	default:
		return nil, noWord("tool_choice", "is "+quoteForMessage(word))
	}
	if string(parallel) == "false" && out != `{"type":"none"}` {
		if out == "" {
			out = `{"type":"auto"}`
		}
		if memberOf([]byte(out), "disable_parallel_tool_use") == nil {
			out = out[:len(out)-1] + `,"disable_parallel_tool_use":true}`
		}
	}
	if out == "" {
		return nil, nil
	}
	return json.RawMessage(out), nil
}

// messagesTools are a version's tools: functions as the API has them, its own as they are.
func messagesTools(tools json.RawMessage) (json.RawMessage, error) {
	if len(tools) == 0 || isNull(tools) {
		return nil, nil
	}
	list := []byte{'['}
	for tool := range elementsOf(tools) {
		if len(list) > 1 {
			list = append(list, ',')
		}
		flat, err := lifted(tool, "function")
		if err != nil {
			return nil, err
		}
		kind := Word(memberOf(flat, "type"))
		switch {
		case kind == "function":
			if list, err = appendFunction(list, flat); err != nil {
				return nil, err
			}
		case memberOf(flat, "custom") != nil || kind == "custom" && memberOf(flat, "input_schema") == nil:
			return nil, noWord("tools", "holds a tool of type custom without a schema")
		default:
			list = append(list, tool...)
		}
	}
	return append(list, ']'), nil
}

// appendFunction appends a function tool, whose own members stand beside its type.
func appendFunction(list []byte, tool json.RawMessage) ([]byte, error) {
	var f struct {
		Name         string          `json:"name"`
		Description  string          `json:"description,omitempty"`
		InputSchema  json.RawMessage `json:"input_schema"`
		Strict       bool            `json:"strict,omitempty"`
		CacheControl json.RawMessage `json:"cache_control,omitempty"`
		Parameters   json.RawMessage `json:"parameters,omitempty"`
	}
	if err := json.Unmarshal(tool, &f); err != nil {
		return nil, err
	}
	if f.InputSchema, f.Parameters = f.Parameters, nil; len(f.InputSchema) == 0 || isNull(f.InputSchema) {
		f.InputSchema = json.RawMessage(`{"type":"object"}`)
	}
	b, err := json.Marshal(f)
	return append(list, b...), err
}
