package admin

import (
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Envelope is an error answer of the data plane, in OpenAI's shape.
type Envelope struct {
	Error EnvelopeError `json:"error"`
}

// EnvelopeError is what went wrong with a call.
type EnvelopeError struct {
	Message string  `json:"message" doc:"What is wrong and what to do"`
	Type    string  `json:"type" example:"invalid_request_error"`
	Param   *string `json:"param" doc:"The field at fault"`
	Code    string  `json:"code" doc:"Stable, for programs" example:"missing_variable"`
}

// MessagesEnvelope is an error answer of the Messages API, in Anthropic's shape.
type MessagesEnvelope struct {
	Type      string        `json:"type" enum:"error"`
	Error     MessagesError `json:"error"`
	RequestID *string       `json:"request_id" doc:"The call's id"`
}

// MessagesError is what went wrong with a call of the Messages API.
type MessagesError struct {
	Type    string         `json:"type" example:"invalid_request_error" doc:"Anthropic's, by the status"`
	Message string         `json:"message" doc:"What is wrong and what to do"`
	Code    string         `json:"code" doc:"Stable, for programs" example:"missing_variable"`
	Param   *string        `json:"param" doc:"The field at fault"`
	Details map[string]Raw `json:"details,omitempty" doc:"error_code is code, where Anthropic's SDKs look for it"`
}

// PromptReference names a prompt in a call.
type PromptReference struct {
	ID        string         `json:"id" doc:"Name, alias or id" example:"support/triage"`
	Version   Raw            `json:"version,omitempty" doc:"A number, or a text of digits as OpenAI's SDKs send it; excludes label"`
	Label     string         `json:"label,omitempty" doc:"The project's default label when neither is given" example:"production"`
	Variables map[string]Raw `json:"variables,omitempty" doc:"Values by name, inserted verbatim"`
}

// ScoreRequest scores one call, named in one of three ways.
type ScoreRequest struct {
	CallID       string `json:"call_id,omitempty" doc:"x-promptgate-call-id of the answer"`
	CompletionID string `json:"completion_id,omitempty" doc:"The id in the provider's answer"`
	Token        string `json:"token,omitempty" doc:"x-promptgate-feedback-token of the answer: no key is needed with it"`
	Name         string `json:"name" maxLength:"64" example:"helpful"`
	Value        Raw    `json:"value" doc:"true or false, a number, or a category"`
	Comment      string `json:"comment,omitempty"`
	User         string `json:"user,omitempty"`
	ID           string `json:"id,omitempty" doc:"Scoring again under the same id changes nothing"`
}

// Rendering is a resolved and rendered prompt that was sent to nobody.
type Rendering struct {
	Object   string `json:"object" enum:"prompt.rendering"`
	Prompt   string `json:"prompt"`
	PromptID string `json:"prompt_id"`
	Version  int    `json:"version"`
	Label    string `json:"label,omitempty"`
	Digest   string `json:"digest"`
	Model    string `json:"model,omitempty"`
	Messages []Raw  `json:"messages"`
	Request  Raw    `json:"request" doc:"The whole body that a provider would get"`
	Success  bool   `json:"success" doc:"true: with data, the envelope that Portkey's SDKs read"`
	Data     Raw    `json:"data" doc:"As request"`
}

// endpoint is one address of the data plane. Its handlers are not huma's: they relay bytes and never decode a body into a struct.
type endpoint struct {
	id, method, path string
	summary, about   string
	tag              string
	open             bool // asks for no key
	body             *huma.Schema
	form             bool // the body is multipart/form-data
	answer           *huma.Response
	status           int // of success
	refused          []int
	envelope         reflect.Type // of errors; nil: Envelope
	scim             bool         // asks for a directory's token
}

// dataPlane adds what applications call to the document, so that one document tells all. A test compares it with the router.
func (a *API) dataPlane() {
	calling := []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusRequestEntityTooLarge,
		http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	}
	anthropics := reflect.TypeFor[MessagesEnvelope]()
	rendering := []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusRequestEntityTooLarge,
		http.StatusInternalServerError, http.StatusServiceUnavailable,
	}
	for _, e := range slices.Concat(a.passing(append(calling, http.StatusNotImplemented)), []endpoint{
		{id: "chat-completions", method: http.MethodPost, path: "/v1/chat/completions", tag: "data plane", summary: "Call a model, with a managed prompt or without one",
			about: "OpenAI's chat completions, JSON or SSE. `prompt` names a managed prompt; every other field goes to the provider as it came." +
				" Needs `call` on the prompt under its label, or on the model.",
			body: a.chatBody(true), answer: answerOf("The provider's answer", "application/json", "text/event-stream"), refused: calling},
		{id: "responses", method: http.MethodPost, path: "/v1/responses", tag: "data plane", summary: "Create a response, with a managed prompt or without one",
			about: "OpenAI's Responses API, JSON or SSE; `prompt` as OpenAI defined it. Its id may be the `previous_response_id` of a later request by the same key for the same prompt." +
				" What a provider repeats of a prompt is replaced for keys that may not read it. With `background` it runs on after the request, and is recorded when it has ended. Needs `call` on the prompt under its label, or on the model.",
			body: a.responseBody(), answer: answerOf("The provider's answer", "application/json", "text/event-stream"), refused: append(calling, http.StatusNotImplemented)},
		{id: "azure-v1-responses", method: http.MethodPost, path: "/openai/v1/responses", tag: "data plane", summary: "Azure's address of responses",
			body: a.responseBody(), answer: answerOf("The provider's answer", "application/json", "text/event-stream"), refused: append(calling, http.StatusNotImplemented)},
		{id: "messages", method: http.MethodPost, path: "/v1/messages", tag: "data plane", summary: "Create a message, with a managed prompt or without one",
			about: "Anthropic's Messages API, JSON or SSE. A prompt's leading system text becomes `system`, its other messages turns. The headers anthropic-version and anthropic-beta go along." +
				" Errors have Anthropic's shape. Needs `call` on the prompt under its label, or on the model.",
			body: a.messageBody(), answer: answerOf("The provider's answer", "application/json", "text/event-stream"), refused: append(calling, http.StatusNotImplemented), envelope: anthropics},
		{id: "count-message-tokens", method: http.MethodPost, path: "/v1/messages/count_tokens", tag: "data plane", summary: "Count the tokens of a message's request",
			about: "As messages, and costs nothing.",
			body:  a.messageBody(), answer: answerOf("The provider's count", "application/json"), refused: append(calling, http.StatusNotImplemented), envelope: anthropics},
		{id: "prompt-completions", method: http.MethodPost, path: "/v1/prompts/{name}/completions", tag: "data plane", summary: "Call a managed prompt named in the path",
			about: "As chat-completions; the body gives version or label, and variables. Needs `call` on the prompt under its label.",
			body:  a.chatBody(false), answer: answerOf("The provider's answer", "application/json", "text/event-stream"), refused: calling},
		{id: "render-prompt", method: http.MethodPost, path: "/v1/prompts/{name}/render", tag: "data plane", summary: "Resolve and render a prompt, calling nobody",
			about: "Needs `read` on the prompt.", body: a.chatBody(false), answer: a.answerAs("What a provider would get", reflect.TypeFor[Rendering]()), refused: rendering},
		{id: "list-models", method: http.MethodGet, path: "/v1/models", tag: "data plane", summary: "List the models and prompts that this key may call",
			about:  "Prompts stand in it as `prompt/<name>@<label>`. To requests with the header anthropic-version the list has Anthropic's form. Needs a valid key and nothing more.",
			answer: answerOf("OpenAI's list of models", "application/json"), refused: []int{401, 403, 429, 500, 503}},
		{id: "get-model", method: http.MethodGet, path: "/v1/models/{id}", tag: "data plane", summary: "Show one model or prompt that this key may call",
			about:  "For each that list-models names, and each model that a pattern of a provider serves. Needs a valid key and nothing more.",
			answer: answerOf("OpenAI's model", "application/json"), refused: []int{401, 403, 404, 429, 500, 503}},
		{id: "azure-chat-completions", method: http.MethodPost, path: "/openai/deployments/{path}", tag: "data plane", summary: "Azure's address of chat-completions",
			about: "`{path}` is `{model}/chat/completions`, `{model}/embeddings` and so on for the endpoints of images and audio. As those below /v1, with the model of the address; the query's api-version is not looked at.",
			body:  a.chatBody(true), answer: answerOf("The provider's answer", "application/json", "text/event-stream"), refused: calling},
		{id: "azure-v1-chat-completions", method: http.MethodPost, path: "/openai/v1/chat/completions", tag: "data plane", summary: "Azure's other address of chat-completions",
			body: a.chatBody(true), answer: answerOf("The provider's answer", "application/json", "text/event-stream"), refused: calling},
		{id: "azure-v1-list-models", method: http.MethodGet, path: "/openai/v1/models", tag: "data plane", summary: "Azure's address of list-models",
			answer: answerOf("OpenAI's list of models", "application/json"), refused: []int{401, 403, 429, 500, 503}},
		{id: "azure-v1-get-model", method: http.MethodGet, path: "/openai/v1/models/{id}", tag: "data plane", summary: "Azure's address of get-model",
			answer: answerOf("OpenAI's model", "application/json"), refused: []int{401, 403, 404, 429, 500, 503}},
		{id: "give-feedback", method: http.MethodPost, path: "/v1/feedback", tag: "data plane", summary: "Score a call",
			about: "Needs `feedback` on the call's prompt, or a call's own token instead of a key.", body: a.schemaOf(reflect.TypeFor[ScoreRequest]()),
			answer: answerOf("The score was taken", "application/json"), status: http.StatusAccepted, refused: []int{400, 401, 403, 404, 413, 429, 500, 503}},
		{id: "livez", method: http.MethodGet, path: "/livez", tag: "operations", summary: "Whether the process serves HTTP", open: true, answer: answerOf("It does", "text/plain")},
		{id: "readyz", method: http.MethodGet, path: "/readyz", tag: "operations", summary: "Whether to send calls here", open: true,
			about: "With ?verbose it says why, as JSON. Stands on the operations' listener when one is configured.", answer: answerOf("Send calls", "text/plain", "application/json"), refused: []int{503}},
		{id: "head-livez", method: http.MethodHead, path: "/livez", tag: "operations", summary: "As GET, by the status alone", open: true, answer: answerOf("It does")},
		{id: "head-readyz", method: http.MethodHead, path: "/readyz", tag: "operations", summary: "As GET, by the status alone", open: true,
			answer: answerOf("Send calls"), refused: []int{503}},
		{id: "metrics", method: http.MethodGet, path: "/metrics", tag: "operations", summary: "Prometheus metrics", open: true,
			about: "Stands on the operations' listener, or, when none is configured, on a main listener that is loopback.", answer: answerOf("Prometheus' text format", "text/plain"), refused: []int{503}},
	}) {
		a.describe(e)
	}
	for _, e := range a.keptEndpoints() {
		a.describe(e)
	}
}

func (a *API) describe(e endpoint) {
	op := &huma.Operation{
		OperationID: e.id, Method: e.method, Path: e.path, Summary: e.summary, Description: e.about, Tags: []string{e.tag},
		Security: []map[string][]string{{"key": {}}}, Responses: map[string]*huma.Response{},
	}
	if e.scim {
		op.Security = []map[string][]string{{"scim": {}}}
		op.Extensions = map[string]any{"x-permission": "scim"}
	}
	if e.open {
		op.Security = []map[string][]string{}
		op.Extensions = map[string]any{"x-permission": "open"}
	}
	if e.answer != nil {
		op.Responses[strconv.Itoa(max(e.status, http.StatusOK))] = e.answer
	}
	for _, status := range e.refused {
		envelope := e.envelope
		if envelope == nil {
			envelope = reflect.TypeFor[Envelope]()
		}
		op.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status), Content: map[string]*huma.MediaType{e.media(): {Schema: a.schemaOf(envelope)}},
		}
	}
	if e.body != nil {
		kind := e.media()
		if e.form {
			kind = "multipart/form-data"
		}
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{kind: {Schema: e.body}}}
	}
	for _, name := range pathParams(e.path) {
		about := "The prompt's name, percent-encoded or with its slashes"
		switch name {
		case "path":
			about = "The rest of the address"
		case "id":
			about = "A model's id as list-models gives it, percent-encoded or with its slashes"
			if !strings.Contains(e.path, "/models/") {
				about = "The provider's id"
			}
			if e.scim {
				about = "Its id"
			}
		case "token":
			about = "The link's"
		case "provider":
			about = "The identity provider's id"
		case "file":
			about = "style.css or passkey.js"
		case "item":
			about = "The provider's id of the item"
		}
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: name, In: "path", Required: true, Description: about, Schema: &huma.Schema{Type: huma.TypeString},
		})
	}
	a.huma.OpenAPI().AddOperation(op)
}

// media is the type of bodies and errors.
func (e endpoint) media() string {
	if e.scim {
		return "application/scim+json"
	}
	return "application/json"
}

func (a *API) schemaOf(t reflect.Type) *huma.Schema {
	return a.huma.OpenAPI().Components.Schemas.Schema(t, true, t.Name())
}

func answerOf(about string, contentTypes ...string) *huma.Response {
	out := &huma.Response{Description: about, Content: map[string]*huma.MediaType{}}
	for _, t := range contentTypes {
		schema := &huma.Schema{Type: huma.TypeString}
		if t == "application/json" {
			schema = &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
		}
		out.Content[t] = &huma.MediaType{Schema: schema}
	}
	return out
}

func (a *API) answerAs(about string, t reflect.Type) *huma.Response {
	return &huma.Response{Description: about, Content: map[string]*huma.MediaType{"application/json": {Schema: a.schemaOf(t)}}}
}

// responseBody is OpenAI's request for a response. Fields that are not listed here go to the provider untouched.
func (a *API) responseBody() *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		Properties: map[string]*huma.Schema{
			"model":        {Type: huma.TypeString, Description: "A model or alias, `default`, or prompt/<name>@<label>; left out, the prompt's"},
			"input":        {Description: "A text or a list of items: it follows the prompt's own messages, or takes their placeholder"},
			"instructions": {Type: huma.TypeString, Description: "Beside a prompt they follow the prompt's own"}, "previous_response_id": {Type: huma.TypeString},
			"conversation": {Description: "One that create-conversation made: its id, or an object with it"}, "background": {Type: huma.TypeBoolean},
			"stream": {Type: huma.TypeBoolean}, "prompt": a.schemaOf(reflect.TypeFor[PromptReference]()),
		},
	}
}

// messageBody is Anthropic's request for a message. Fields that are not listed here go to the provider untouched.
func (a *API) messageBody() *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		Properties: map[string]*huma.Schema{
			"model":      {Type: huma.TypeString, Description: "A model or alias, `default`, or prompt/<name>@<label>; left out, the prompt's"},
			"max_tokens": {Type: huma.TypeInteger, Description: "Left out, the prompt's"},
			"messages":   {Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}, Description: "Follow the prompt's own, or take its placeholder"},
			"system":     {Description: "A text or a list of text blocks: beside a prompt they follow the prompt's own"},
			"stream":     {Type: huma.TypeBoolean}, "prompt": a.schemaOf(reflect.TypeFor[PromptReference]()),
		},
	}
}

// chatBody is OpenAI's chat completion request with our field. Fields that are not listed here go to the provider untouched.
func (a *API) chatBody(named bool) *huma.Schema {
	reference := a.schemaOf(reflect.TypeFor[PromptReference]())
	out := &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true,
		Properties: map[string]*huma.Schema{
			"model":    {Type: huma.TypeString, Description: "A model or alias, `default`, or prompt/<name>@<label>"},
			"messages": {Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}, Description: "Follow the prompt's own, or take its placeholder"},
			"stream":   {Type: huma.TypeBoolean},
		},
	}
	if named {
		out.Properties["prompt"] = reference
		return out
	}
	out.Properties["version"] = &huma.Schema{Type: huma.TypeInteger}
	out.Properties["label"] = &huma.Schema{Type: huma.TypeString}
	out.Properties["variables"] = &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
	return out
}

// pathParams are the names in braces.
func pathParams(path string) []string {
	var names []string
	for segment := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			names = append(names, strings.TrimSuffix(name, "}"))
		}
	}
	return names
}
