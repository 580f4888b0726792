package admin

import (
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// passing are the endpoints of the data plane that run no managed prompt, below both of its bases.
func (a *API) passing(refused []int) []endpoint {
	const tag = "data plane"
	text, whole, list := huma.TypeString, huma.TypeInteger, huma.TypeArray
	json, events := "application/json", "text/event-stream"
	all := []struct {
		path, summary, about string
		needed               []string
		more                 map[string]string
		answers              []string
	}{
		{"embeddings", "Embed texts", "", []string{"input"}, map[string]string{"dimensions": whole, "encoding_format": text}, []string{json}},
		{"completions", "Complete a text, as before chats", "`prompt` is the caller's text. A stream is asked for its usage as a chat's is.", []string{"prompt"},
			map[string]string{"stream": huma.TypeBoolean, "max_tokens": whole}, []string{json, events}},
		{"moderations", "Judge texts and images", "Recorded as free, without tokens.", []string{"input"}, nil, []string{json}},
		{"images/generations", "Make images", "", []string{"prompt"}, map[string]string{"n": whole, "size": text, "stream": huma.TypeBoolean}, []string{json, events}},
		{"images/edits", "Edit images", "", []string{"image", "prompt"}, map[string]string{"mask": "file", "stream": text}, []string{json, events}},
		{"images/variations", "Vary an image", "", []string{"image"}, nil, []string{json}},
		{"audio/speech", "Speak a text", "`stream_format: sse` asks for events. Custom voices, which a provider keeps, are not served.", []string{"input"},
			map[string]string{"voice": text, "response_format": text, "stream_format": text}, []string{"audio/*", "application/octet-stream", events}},
		{"audio/transcriptions", "Write down what is said", "", []string{"file"}, map[string]string{"response_format": text, "stream": text, "timestamp_granularities[]": list},
			[]string{json, "text/plain", events}},
		{"audio/translations", "Write down in English what is said", "", []string{"file"}, map[string]string{"response_format": text}, []string{json, "text/plain"}},
	}
	var out []endpoint
	for _, e := range all {
		body := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true, Required: append([]string{"model"}, e.needed...), Properties: map[string]*huma.Schema{
			"model": {Type: text, Description: "A model or alias. It has to be named here, also where a provider has a default"},
		}}
		form := false
		for _, name := range e.needed {
			body.Properties[name] = &huma.Schema{Description: "As OpenAI has it"}
			if name == "file" || name == "image" {
				form = true
				body.Properties[name] = &huma.Schema{Type: text, Format: "binary"}
			}
		}
		for name, kind := range e.more {
			body.Properties[name] = &huma.Schema{Type: kind}
			switch kind {
			case "file":
				body.Properties[name] = &huma.Schema{Type: text, Format: "binary"}
			case list:
				body.Properties[name].Items = &huma.Schema{Type: text}
			}
		}
		id := strings.ReplaceAll(e.path, "/", "-")
		about := strings.TrimSpace("OpenAI's, passed as it is; managed prompts do not run here. " + e.about + " Needs `call` on the model.")
		answer := answerOf("The provider's answer", e.answers...)
		out = append(out,
			endpoint{id: id, method: http.MethodPost, path: "/v1/" + e.path, tag: tag, summary: e.summary, about: about, body: body, form: form, answer: answer, refused: refused},
			endpoint{id: "azure-v1-" + id, method: http.MethodPost, path: "/openai/v1/" + e.path, tag: tag, summary: "Azure's address of " + id, body: body, form: form, answer: answer, refused: refused})
	}
	return out
}
