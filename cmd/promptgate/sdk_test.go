package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	goopenai "github.com/sashabaranov/go-openai"
	"github.com/stretchr/testify/require"
)

// sdkCase is one request, made by each of the SDKs.
type sdkCase struct {
	Name    string            `json:"name"`
	BaseURL string            `json:"base_url"`
	Key     string            `json:"key"`
	Body    map[string]any    `json:"body"`
	Headers map[string]string `json:"headers,omitempty"`
	API     string            `json:"api,omitempty"` // "responses"; "" for chat completions

	text   string            // that the answer must hold
	status int               // of the error; 0 for an answer
	code   string            // of the error
	raises map[string]string // the SDK's own exception, by SDK
	cut    bool              // the provider breaks off its stream, after some chunks
}

// sdkResult is what an SDK made of it.
type sdkResult struct {
	Name    string  `json:"name"`
	ID      string  `json:"id"`
	Model   string  `json:"model"`
	Text    string  `json:"text"`
	Chunks  int     `json:"chunks"`
	Usage   *int    `json:"usage"`
	Error   string  `json:"error"`
	Status  int     `json:"status"`
	Code    *string `json:"code"`
	Message string  `json:"message"`
}

// failingUpstream answers as a provider in trouble does, by the model's name.
func failingUpstream(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		answer := func(status int, text string) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
		switch {
		case bytes.Contains(body, []byte("up-429")):
			w.Header().Set("Retry-After", "3600")
			answer(429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`)
		case bytes.Contains(body, []byte("up-400")):
			answer(400, `{"error":{"message":"max_tokens is too large","type":"invalid_request_error","param":"max_tokens","code":"invalid_value"}}`)
		case bytes.Contains(body, []byte("up-cut")):
			w.Header().Set("Content-Type", "text/event-stream")
			chunk := `event: response.output_text.delta` + "\n" + `data: {"type":"response.output_text.delta","sequence_number":3,"item_id":"m","output_index":0,"content_index":0,"logprobs":[],"delta":"a"}` + "\n\n"
			if !strings.HasSuffix(r.URL.Path, "/responses") {
				chunk = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"up","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}` + "\n\n"
			}
			_, _ = io.WriteString(w, chunk+chunk)
			if bytes.Contains(body, []byte("up-cut-inside")) {
				_, _ = io.WriteString(w, chunk[:60])
			}
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case bytes.Contains(body, []byte("up-401")):
			answer(401, `{"error":{"message":"Incorrect API key provided: sk-upstream","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`)
		default:
			answer(500, `{"error":{"message":"boom","type":"server_error","param":null,"code":null}}`)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func sdkConfig(t *testing.T, upstream string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "promptgate.yaml")
	text := fmt.Sprintf("providers:\n  - {name: echo, kind: echo, models: [\"gpt-*\", echo]}\n"+
		"  - {name: troubled, kind: openai, base_url: %q, api_key: sk-upstream, models: [\"up-*\"], allow_private: true}\n", upstream+"/v1")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func sdkCases(p *process, weak string) []sdkCase {
	user := []map[string]string{{"role": "user", "content": "where is my order?"}}
	prompt := map[string]any{"id": "support/triage", "label": "production", "variables": map[string]any{"ticket": "charged twice"}}
	calls := []sdkCase{
		{Name: "prompt", Body: map[string]any{"model": "default", "messages": []any{}, "prompt": prompt}, text: "charged twice"},
		{Name: "prompt by model", Body: map[string]any{"model": "prompt/support/reply@production", "messages": user}, text: "where is my order?"},
		{Name: "no prompt", Body: map[string]any{"model": "gpt-4o-mini", "messages": user}, text: "where is my order?"},
	}
	var all []sdkCase
	for _, c := range calls {
		all = append(all, c)
		body := map[string]any{"stream": true}
		for k, v := range c.Body {
			body[k] = v
		}
		c.Name, c.Body = c.Name+", streamed", body
		all = append(all, c)
	}
	refs := func(id, label string, vars map[string]any) map[string]any {
		return map[string]any{"model": "default", "messages": []any{}, "prompt": map[string]any{"id": id, "label": label, "variables": vars}}
	}
	bare := func(model string) map[string]any { return map[string]any{"model": model, "messages": user} }
	stream := func(model string) map[string]any {
		return map[string]any{"model": model, "messages": user, "stream": true}
	}
	raises := func(name string) map[string]string { return map[string]string{"node": name, "python": name} }
	ok := map[string]any{"ticket": "x"}
	all = append(all, []sdkCase{
		{Name: "400", Body: refs("support/triage", "production", nil), status: 400, code: "missing_variable", raises: raises("BadRequestError")},
		{Name: "400 of the provider", Body: bare("up-400"), status: 400, code: "invalid_value", raises: raises("BadRequestError")},
		{Name: "401", Key: "pg_wrong", Body: refs("support/triage", "production", ok), status: 401, code: "invalid_api_key", raises: raises("AuthenticationError")},
		{Name: "403", Key: weak, Body: refs("support/triage", "staging", ok), status: 403, code: "permission_denied", raises: raises("PermissionDeniedError")},
		{Name: "404", Body: refs("support/none", "production", nil), status: 404, code: "prompt_not_found", raises: raises("NotFoundError")},
		{Name: "429 of the provider", Body: bare("up-429"), status: 429, code: "insufficient_quota", raises: raises("RateLimitError")},
		{Name: "502", Body: bare("up-500"), status: 502, code: "provider_error", raises: raises("InternalServerError")},
		{Name: "a stream cut between events", Body: stream("up-cut"), cut: true, code: "provider_truncated", raises: raises("APIError")},
		{Name: "a stream cut inside an event", Body: stream("up-cut-inside"), cut: true, code: "provider_truncated", raises: raises("APIError")},
		{Name: "502 credential", Body: bare("up-401"), status: 502, code: "provider_auth", raises: raises("InternalServerError")},
	}...)
	all = append(all, responseCases(weak)...)
	all = append(all, passedCases(weak)...)
	for i := range all {
		all[i].BaseURL = p.url + "/v1"
		if all[i].Key == "" {
			all[i].Key = p.key
		}
	}
	return all
}

// What the SDKs' scripts tell of their steps.
const (
	keptSteps         = "queued completed True [managed prompt] True cancelled NotFoundError"
	batchSteps        = "a.txt hello True NotFoundError completed v 1 True one True NotFoundError"
	conversationSteps = "conv True charged twice my name is Ada True True NotFoundError"
)

// responseCases are those of the Responses API: first the call of one of OpenAI's prompt objects, as it stands in code that was written for them.
func responseCases(weak string) []sdkCase {
	const api = "responses"
	prompt := map[string]any{"id": "support/triage", "variables": map[string]any{"ticket": map[string]any{"type": "input_text", "text": "charged twice"}}}
	raises := func(name string) map[string]string { return map[string]string{"node": name, "python": name} }
	bare := func(model string) map[string]any {
		return map[string]any{"model": model, "input": "where is my order?"}
	}
	stream := func(model string) map[string]any { return map[string]any{"model": model, "input": "x", "stream": true} }
	return []sdkCase{
		{API: api, Name: "a prompt object", Body: map[string]any{"prompt": prompt}, text: "charged twice"},
		{API: api, Name: "a prompt object, streamed", Body: map[string]any{"prompt": prompt, "stream": true}, text: "charged twice"},
		{API: api, Name: "a prompt object by a key that may only run it", Key: weak, Body: map[string]any{"prompt": prompt, "stream": true}, text: "charged twice"},
		{API: api, Name: "a response", Body: bare("gpt-4o-mini"), text: "where is my order?"},
		{API: api, Name: "a response, streamed", Body: map[string]any{"model": "gpt-4o-mini", "input": "where is my order?", "stream": true}, text: "where is my order?"},
		{API: api, Name: "a missing variable", Body: map[string]any{"prompt": map[string]any{"id": "support/triage"}}, status: 400, code: "missing_variable", raises: raises("BadRequestError")},
		{API: api, Name: "a foreign response", Body: map[string]any{"prompt": prompt, "input": "x", "previous_response_id": "resp_1"}, status: 400, code: "stateful_reference_refused", raises: raises("BadRequestError")},
		{API: api, Name: "401", Key: "pg_wrong", Body: bare("gpt-4o"), status: 401, code: "invalid_api_key", raises: raises("AuthenticationError")},
		{API: api, Name: "429", Body: bare("up-429"), status: 429, code: "insufficient_quota", raises: raises("RateLimitError")},
		{API: api, Name: "502", Body: bare("up-500"), status: 502, code: "provider_error", raises: raises("InternalServerError")},
		{API: api, Name: "cut between events", Body: stream("up-cut"), cut: true, code: "provider_truncated", raises: raises("APIError")},
		{API: api, Name: "cut inside an event", Body: stream("up-cut-inside"), cut: true, code: "provider_truncated", raises: raises("APIError")},
		{API: "kept", Name: "in the background, by a key that may only run it", Key: weak, Body: map[string]any{"prompt": prompt}, text: keptSteps},
		{API: "conversation", Name: "a conversation", Body: map[string]any{"prompt": prompt}, text: conversationSteps},
		{API: "batch", Name: "files and a batch", Body: map[string]any{"model": "gpt-4o-mini"}, text: batchSteps},
	}
}

// passedCases are those of the endpoints that run no prompt.
func passedCases(weak string) []sdkCase {
	raises := func(name string) map[string]string { return map[string]string{"node": name, "python": name} }
	const embed, hear = "embeddings", "transcriptions"
	body := func(model string) map[string]any { return map[string]any{"model": model, "input": "x"} }
	sound := func(model string) map[string]any { return map[string]any{"model": model} }
	return []sdkCase{
		{API: "passed", Name: "endpoints without prompts", Body: sound("gpt-4o-mini"), text: passedSteps},
		{API: embed, Name: "embeddings: 400 of the provider", Body: body("up-400"), status: 400, code: "invalid_value", raises: raises("BadRequestError")},
		{API: embed, Name: "embeddings: a prompt", Body: body("prompt/support/triage"), status: 400, code: "invalid_prompt_reference", raises: raises("BadRequestError")},
		{API: embed, Name: "embeddings: 403", Key: weak, Body: body("gpt-4o"), status: 403, code: "permission_denied", raises: raises("PermissionDeniedError")},
		{API: embed, Name: "embeddings: 429", Body: body("up-429"), status: 429, code: "insufficient_quota", raises: raises("RateLimitError")},
		{API: hear, Name: "transcriptions: 403", Key: weak, Body: sound("gpt-4o"), status: 403, code: "permission_denied", raises: raises("PermissionDeniedError")},
		{API: hear, Name: "transcriptions: 404", Body: sound("none"), status: 404, code: "model_not_found", raises: raises("NotFoundError")},
		{API: hear, Name: "transcriptions: 502", Body: sound("up-500"), status: 502, code: "provider_error", raises: raises("InternalServerError")},
		{API: hear, Name: "transcriptions: 502 credential", Body: sound("up-401"), status: 502, code: "provider_auth", raises: raises("InternalServerError")},
	}
}

// passedSteps is what the scripts tell of one call of each.
const passedSteps = "2 8 True 2 once upon True False PNG PNG PNG RIFF [echo] heard 844 bytes of hi.wav True"

// TestGoOpenAIPassed: go-openai at the endpoints that run no prompt.
func TestGoOpenAIPassed(t *testing.T) {
	p := startGateway(t, t.TempDir(), nil, "--demo")
	cfg := goopenai.DefaultConfig(p.key)
	cfg.BaseURL = p.url + "/v1"
	client, ctx := goopenai.NewClientWithConfig(cfg), t.Context()
	const model = "gpt-4o-mini"

	vectors, err := client.CreateEmbeddings(ctx, goopenai.EmbeddingRequest{Model: model, Input: []string{"a", "b"}, Dimensions: 8})
	require.NoError(t, err)
	require.Len(t, vectors.Data, 2)
	require.Len(t, vectors.Data[0].Embedding, 8)
	packed, err := client.CreateEmbeddings(ctx, goopenai.EmbeddingRequest{Model: model, Input: "a", Dimensions: 8, EncodingFormat: goopenai.EmbeddingEncodingFormatBase64})
	require.NoError(t, err)
	require.InDeltaSlice(t, vectors.Data[0].Embedding, packed.Data[0].Embedding, 1e-6)

	whole, err := client.CreateCompletion(ctx, goopenai.CompletionRequest{Model: "gpt-3.5-turbo-instruct", Prompt: "once upon"})
	require.NoError(t, err)
	require.Contains(t, whole.Choices[0].Text, "once upon")
	stream, err := client.CreateCompletionStream(ctx, goopenai.CompletionRequest{Model: "gpt-3.5-turbo-instruct", Prompt: "once upon"})
	require.NoError(t, err)
	defer stream.Close()
	said := ""
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		said += part.Choices[0].Text
	}
	require.Equal(t, whole.Choices[0].Text, said)

	judged, err := client.Moderations(ctx, goopenai.ModerationRequest{Model: "omni-moderation-latest", Input: "x"})
	require.NoError(t, err)
	require.False(t, judged.Results[0].Flagged)
	drawn, err := client.CreateImage(ctx, goopenai.ImageRequest{Model: model, Prompt: "a cat"})
	require.NoError(t, err)
	require.NotEmpty(t, drawn.Data[0].B64JSON)
	edited, err := client.CreateEditImage(ctx, goopenai.ImageEditRequest{Model: model, Prompt: "a hat", N: 1,
		Image: goopenai.WrapReader(strings.NewReader("\x89PNG"), "a.png", "image/png")})
	require.NoError(t, err)
	require.NotEmpty(t, edited.Data[0].B64JSON)
	speech, err := client.CreateSpeech(ctx, goopenai.CreateSpeechRequest{Model: model, Input: "hi", Voice: goopenai.VoiceAlloy, ResponseFormat: goopenai.SpeechResponseFormatWav})
	require.NoError(t, err)
	defer speech.Close()
	sound, err := io.ReadAll(speech)
	require.NoError(t, err)
	heard, err := client.CreateTranscription(ctx, goopenai.AudioRequest{Model: model, FilePath: "hi.wav", Reader: bytes.NewReader(sound)})
	require.NoError(t, err)
	require.Equal(t, "[echo] heard 844 bytes of hi.wav", heard.Text)
	plain, err := client.CreateTranslation(ctx, goopenai.AudioRequest{Model: model, FilePath: "hi.wav", Reader: bytes.NewReader(sound), Format: goopenai.AudioResponseFormatText})
	require.NoError(t, err)
	require.Equal(t, heard.Text, strings.TrimSpace(plain.Text))

	_, err = client.CreateEmbeddings(ctx, goopenai.EmbeddingRequest{Model: "prompt/support/triage", Input: "x"})
	var api *goopenai.APIError
	require.ErrorAs(t, err, &api)
	require.Equal(t, 400, api.HTTPStatusCode)
	require.Equal(t, "invalid_prompt_reference", api.Code)
}

// TestSDKs: the official SDKs and go-openai work with nothing changed but the base URL, and raise their own typed errors with our
// messages.
func TestSDKs(t *testing.T) {
	upstream := failingUpstream(t)
	p := startGateway(t, t.TempDir(), nil, "--demo", "--config", sdkConfig(t, upstream.URL))
	weak := strings.TrimSpace(p.cli("key", "create", "weak", "--call", "support/triage@production"))
	cases := sdkCases(p, weak)

	root, err := filepath.Abs("../../.cache")
	require.NoError(t, err)
	clients := map[string]func() []sdkResult{
		"node": func() []sdkResult {
			return runSDK(t, cases, []string{"SDK_ROOT=" + filepath.Join(root, "node")}, "node", "testdata/sdk/client.mjs")
		},
		"python": func() []sdkResult {
			return runSDK(t, cases, nil, filepath.Join(root, "venv", "bin", "python"), "testdata/sdk/client.py")
		},
		"go-openai": func() []sdkResult { return runGoOpenAI(t, chats(cases)) },
	}
	for name, run := range clients {
		t.Run(name, func(t *testing.T) {
			results, cases := run(), cases
			if name == "go-openai" { // which has no Responses API
				cases = chats(cases)
			}
			require.Len(t, results, len(cases))
			for i, c := range cases {
				t.Run(c.Name, func(t *testing.T) { checkSDK(t, name, c, results[i]) })
			}
		})
	}
}

func chats(cases []sdkCase) []sdkCase {
	return slices.DeleteFunc(slices.Clone(cases), func(c sdkCase) bool { return c.API != "" })
}

func checkSDK(t *testing.T, sdk string, c sdkCase, r sdkResult) {
	require.Equal(t, c.Name, r.Name)
	if c.status == 0 && !c.cut {
		require.Empty(t, r.Error, "%s", r.Message)
		require.Contains(t, r.Text, c.text)
		require.NotEmpty(t, r.ID)
		if c.API == "kept" || c.API == "conversation" || c.API == "batch" { // scripts of several calls
			return
		}
		if c.Body["stream"] == true {
			require.Greater(t, r.Chunks, 2)
			require.Nil(t, r.Usage, "usage that the caller did not ask for must be withheld")
		} else {
			require.NotNil(t, r.Usage)
		}
		return
	}
	if want := c.raises[sdk]; want != "" {
		require.Equal(t, want, r.Error)
	}
	if c.cut {
		require.NotEmpty(t, r.Error, "the part must not pass for the whole")
	}
	require.Equal(t, c.status, r.Status)
	require.NotNil(t, r.Code)
	require.Equal(t, c.code, *r.Code)
	require.NotEmpty(t, r.Message)
	require.NotContains(t, r.Message, "sk-upstream")
}

// runSDK gives all cases to a script and reads one result a line.
func runSDK(t *testing.T, cases []sdkCase, env []string, command string, args ...string) []sdkResult {
	t.Helper()
	if _, err := exec.LookPath(command); err != nil {
		require.NoError(t, err, "run `make tools`: it installs the SDKs into .cache")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	in, err := json.Marshal(cases)
	require.NoError(t, err)
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Env = cleanEnv(env...)
	cmd.Stdin = bytes.NewReader(in)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	require.NoError(t, err, "run `make tools` when the SDK is missing\n%s", &errOut)
	var results []sdkResult
	for line := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n") {
		var r sdkResult
		require.NoError(t, json.Unmarshal([]byte(line), &r), line)
		results = append(results, r)
	}
	return results
}

// withFields adds body fields that go-openai's types do not know, as its users do: in the HTTP client.
type withFields map[string]any

func (f withFields) Do(r *http.Request) (*http.Response, error) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return nil, err
	}
	for k, v := range f {
		body[k] = v
	}
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	return http.DefaultClient.Do(r)
}

func runGoOpenAI(t *testing.T, cases []sdkCase) []sdkResult {
	t.Helper()
	var results []sdkResult
	for _, c := range cases {
		cfg := goopenai.DefaultConfig(c.Key)
		cfg.BaseURL = c.BaseURL
		if ref, ok := c.Body["prompt"]; ok {
			cfg.HTTPClient = withFields{"prompt": ref}
		}
		r := callGoOpenAI(goopenai.NewClientWithConfig(cfg), c)
		r.Name = c.Name
		results = append(results, r)
	}
	return results
}

func callGoOpenAI(client *goopenai.Client, c sdkCase) (r sdkResult) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req := goopenai.ChatCompletionRequest{Model: c.Body["model"].(string)}
	if list, ok := c.Body["messages"].([]map[string]string); ok {
		for _, m := range list {
			req.Messages = append(req.Messages, goopenai.ChatCompletionMessage{Role: m["role"], Content: m["content"]})
		}
	}
	var err error
	if c.Body["stream"] == true {
		err = streamGoOpenAI(ctx, client, req, &r)
	} else {
		var answer goopenai.ChatCompletionResponse
		if answer, err = client.CreateChatCompletion(ctx, req); err == nil {
			r.ID, r.Model, r.Text, r.Usage = answer.ID, answer.Model, answer.Choices[0].Message.Content, &answer.Usage.TotalTokens
		}
	}
	var api *goopenai.APIError
	if errors.As(err, &api) {
		code := fmt.Sprint(api.Code)
		r.Error, r.Status, r.Code, r.Message = "APIError", api.HTTPStatusCode, &code, api.Message
	} else if err != nil {
		r.Error, r.Message = "other", err.Error()
	}
	return r
}

func streamGoOpenAI(ctx context.Context, client *goopenai.Client, req goopenai.ChatCompletionRequest, r *sdkResult) error {
	s, err := client.CreateChatCompletionStream(ctx, req)
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		chunk, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r.Chunks++
		r.ID, r.Model = chunk.ID, chunk.Model
		if len(chunk.Choices) > 0 {
			r.Text += chunk.Choices[0].Delta.Content
		}
		if chunk.Usage != nil {
			r.Usage = &chunk.Usage.TotalTokens
		}
	}
}
