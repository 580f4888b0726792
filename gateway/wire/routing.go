package wire

import (
	"slices"
	"strings"
)

// RoutingFields are the fields by which gateways and providers that route themselves let a request choose other models, other providers, other
// credentials, or what costs extra. "models" is none of them: it is a list of names.
func RoutingFields() []string {
	return []string{
		"fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "model_list", "model_group", "route", "router", "router_settings_override",
		"provider", "providers", "preset", "engine", "deployment_id", "api_base", "base_url", "api_key", "api_type", "api_version", "custom_llm_provider",
		"user_config", "plugins", "portkey_config", "config",
		anyField, "extra_headers", "litellm_params",
	}
}

// anyField is what gateways that merge it over the request itself take: it may hold every other field.
const anyField = "extra_body"

// EchoFields are the fields by which providers are asked to answer with the request that they got, as text or as tokens.
func EchoFields() []string {
	return []string{
		"debug", "echo", "prompt_logprobs", "return_token_ids", "return_tokens_as_token_ids", "return_prompt", "include_prompt", "echo_upstream_body",
		"enable_response_messages", "_debug_render_only",
		anyField,
	}
}

// FirstOf is the first top-level member that is called like one of names, without regard to case, and is not null nor changed by an edit; "" when there
// is none.
func (b *Body) FirstOf(names []string, edits []Edit) string {
	for i := range b.members {
		m := &b.members[i]
		if m.known || isNull(b.raw[m.ValueStart:m.ValueEnd]) || editOf(edits, m.Name) != nil {
			continue
		}
		if slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, m.Name) }) {
			return m.Name
		}
	}
	return ""
}
