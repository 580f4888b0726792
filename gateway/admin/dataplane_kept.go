package admin

import (
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

// keptEndpoints are the addresses of what providers keep for callers: responses, conversations, files and batches.
func (a *API) keptEndpoints() (all []endpoint) {
	const (
		whose = " It is there for the key that made it, as long as that may run the prompt that it was made by; to everybody else it is not there. It is asked of the provider that keeps it."
		hides = " What it repeats of a prompt is replaced for keys that may not read it."
	)
	refused := []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusNotImplemented, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	}
	object := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
	for _, e := range []endpoint{
		{
			id: "count-input-tokens", method: http.MethodPost, path: "/responses/input_tokens", summary: "Count the tokens of a response's request",
			about: "As create-response, with a managed prompt or without one; it costs nothing. Needs `call` on the prompt under its label, or on the model.", body: a.responseBody(),
		},
		{
			id: "compact-response", method: http.MethodPost, path: "/responses/compact", summary: "Make a long input shorter",
			about: "Without a prompt, since the answer repeats messages. Needs `call` on the model.", body: a.responseBody(),
		},
		{id: "get-response", method: http.MethodGet, path: "/responses/{id}", summary: "Show a response", about: "With `stream=true` as events." + whose + hides},
		{id: "delete-response", method: http.MethodDelete, path: "/responses/{id}", summary: "Delete a response", about: "One that still runs in the background is not deleted (409): what it costs is not known yet." + whose},
		{id: "cancel-response", method: http.MethodPost, path: "/responses/{id}/cancel", summary: "Cancel a response that runs in the background", about: whose[1:] + hides},
		{id: "list-input-items", method: http.MethodGet, path: "/responses/{id}/input_items", summary: "List the items that a response was made of", about: whose[1:] + hides},
		{
			id: "create-conversation", method: http.MethodPost, path: "/conversations", summary: "Begin a conversation that responses go on in",
			about: "`model`, or `prompt`, says which provider keeps it, and goes no further; with neither, the project has one that can. Needs `call` on that model or prompt, else on every model.", body: object,
		},
		{id: "get-conversation", method: http.MethodGet, path: "/conversations/{id}", summary: "Show a conversation", about: whose[1:]},
		{id: "update-conversation", method: http.MethodPost, path: "/conversations/{id}", summary: "Change a conversation's metadata", about: whose[1:], body: object},
		{id: "delete-conversation", method: http.MethodDelete, path: "/conversations/{id}", summary: "Delete a conversation", about: whose[1:]},
		{id: "list-items", method: http.MethodGet, path: "/conversations/{id}/items", summary: "List a conversation's items", about: whose[1:]},
		{id: "create-items", method: http.MethodPost, path: "/conversations/{id}/items", summary: "Add items to a conversation", about: whose[1:], body: object},
		{id: "get-item", method: http.MethodGet, path: "/conversations/{id}/items/{item}", summary: "Show one item", about: whose[1:]},
		{
			id: "create-file", method: http.MethodPost, path: "/files", summary: "Upload a file that a provider keeps", form: true, body: fileForm(),
			about: "The form goes on byte for byte, without what says which provider keeps it: `model`, or a prompt in `x-promptgate-prompt` or `prompt_id`; with neither, the project has one that can, and a file for a batch goes where" +
				" its lines' model leads. Needs `call` on that model or prompt, else on every model. Of a file with the purpose `batch` each line is judged as the call that it will be; when one fails, nothing is sent.",
		},
		{id: "list-files", method: http.MethodGet, path: "/files", summary: "Refused: a provider lists what every key made", about: "Answers 501."},
		{id: "get-file", method: http.MethodGet, path: "/files/{id}", summary: "Show a file", about: whose[1:]},
		{id: "delete-file", method: http.MethodDelete, path: "/files/{id}", summary: "Delete a file", about: whose[1:]},
		{id: "get-file-content", method: http.MethodGet, path: "/files/{id}/content", summary: "Read what a file holds", about: whose[1:]},
		{
			id: "create-batch", method: http.MethodPost, path: "/batches", summary: "Have a file of requests answered later", body: object,
			about: "`input_file_id` is a file that this key uploaded with the purpose `batch`. Needs `call` on the model of its lines, as it is made as well. A batch is asked about until it has ended, and recorded then, with the usage that its provider reports.",
		},
		{id: "list-batches", method: http.MethodGet, path: "/batches", summary: "Refused: a provider lists what every key made", about: "Answers 501."},
		{id: "get-batch", method: http.MethodGet, path: "/batches/{id}", summary: "Show a batch", about: whose[1:] + " The files that it names are this key's."},
		{id: "cancel-batch", method: http.MethodPost, path: "/batches/{id}/cancel", summary: "Cancel a batch", about: whose[1:]},
		{id: "delete-item", method: http.MethodDelete, path: "/conversations/{id}/items/{item}", summary: "Delete one item", about: whose[1:]},
	} {
		e.tag, e.refused, e.answer = "data plane", refused, answerOf("The provider's answer", "application/json")
		if e.id == "get-response" {
			e.answer = answerOf("The provider's answer", "application/json", "text/event-stream")
		}
		switch e.id {
		case "delete-response":
			e.refused = append(slices.Clip(refused), http.StatusConflict)
		case "get-file-content":
			e.answer = answerOf("What the file holds, of any type", "application/octet-stream")
		case "list-files", "list-batches":
			e.answer = nil
		}
		azure := e
		e.path, azure.path = "/v1"+e.path, "/openai/v1"+e.path
		azure.id, azure.about, azure.summary = "azure-v1-"+e.id, "", "Azure's address of "+e.id
		all = append(all, e, azure)
	}
	return all
}

// fileForm is the form of an upload.
func fileForm() *huma.Schema {
	text := &huma.Schema{Type: huma.TypeString}
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: true, Required: []string{"file", "purpose"},
		Properties: map[string]*huma.Schema{"file": {Type: huma.TypeString, Format: "binary"}, "purpose": text, "model": text, "prompt_id": text},
	}
}
