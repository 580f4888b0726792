package echo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway/provider"
)

const maxBatchLines = 50_000

// keptFile is a file that was uploaded, or that a batch made.
type keptFile struct {
	name, purpose string
	created       int64
	content       []byte
}

func (f *keptFile) json(id string) string {
	return fmt.Sprintf(`{"id":%s,"object":"file","bytes":%d,"created_at":%d,"expires_at":null,"filename":%s,"purpose":%s,"status":"processed","status_details":null}`,
		quote(id), len(f.content), f.created, quote(f.name), quote(f.purpose))
}

// putFile keeps a file.
func (k *keeper) putFile(f *keptFile) (id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id = newID("file-echo")
	k.files.put(id, f, len(f.content))
	return id
}

func (k *keeper) file(id string) *keptFile {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.files.byID[id]
}

// askFile answers what is asked about files.
func (p *Provider) askFile(r *provider.Request) *provider.Response {
	rest, _ := strings.CutPrefix(r.Endpoint, provider.APIFiles)
	if rest == "" && r.Method == "" {
		f, bad := readFile(r)
		if bad != nil {
			return refuse(r.API, http.StatusBadRequest, bad)
		}
		f.created = p.o.Now().Unix()
		return respond(http.StatusOK, []byte(f.json(p.kept.putFile(f))))
	}
	id, rest, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	f := p.kept.file(id)
	if f == nil {
		return refuse(r.API, http.StatusNotFound, &refusal{"file_not_found", "id", "The echo provider keeps no file " + strconv.Quote(id) + ": it keeps the last 1000 of this process, 64 MiB at most."})
	}
	switch r.Method + " " + rest {
	case "GET ":
		return respond(http.StatusOK, []byte(f.json(id)))
	case "GET content":
		res := respond(http.StatusOK, f.content)
		res.Header["Content-Type"] = []string{"application/octet-stream"}
		return res
	case "DELETE ":
		p.kept.mu.Lock()
		defer p.kept.mu.Unlock()
		p.kept.files.remove(id)
		return respond(http.StatusOK, fmt.Appendf(nil, `{"id":%s,"object":"file","deleted":true}`, quote(id)))
	}
	return nil
}

// readFile reads the form of an upload.
func readFile(r *provider.Request) (*keptFile, *refusal) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		return nil, &refusal{"invalid_form", "", "Send a form: multipart/form-data."}
	}
	f, found := &keptFile{}, false
	parts := multipart.NewReader(bytes.NewReader(r.Body), params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, &refusal{"invalid_form", "", "The form cannot be read."}
		}
		content, err := io.ReadAll(part)
		switch {
		case err != nil:
			return nil, &refusal{"invalid_form", "", "The form cannot be read."}
		case part.FormName() == "file":
			f.name, f.content, found = part.FileName(), content, true
		case part.FormName() == "purpose":
			f.purpose = string(content)
		}
	}
	switch {
	case !found:
		return nil, &refusal{"missing_required_parameter", "file", "You must provide a file."}
	case f.purpose == "":
		return nil, &refusal{"missing_required_parameter", "purpose", "You must provide a purpose."}
	case len(f.content) > maxKeptBytes:
		return nil, &refusal{"file_too_large", "file", "The echo provider keeps files of at most 64 MiB, all together."}
	}
	return f, nil
}

// askBatch answers what is asked about batches. One is answered as it is made: an echo has nothing to wait for.
func (p *Provider) askBatch(ctx context.Context, r *provider.Request) *provider.Response {
	rest, _ := strings.CutPrefix(r.Endpoint, provider.APIBatches)
	if rest == "" && r.Method == "" {
		body, bad := p.runBatch(ctx, r.Body)
		if bad != nil {
			return refuse(r.API, http.StatusBadRequest, bad)
		}
		return respond(http.StatusOK, []byte(body))
	}
	id, rest, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	p.kept.mu.Lock()
	defer p.kept.mu.Unlock()
	kept := p.kept.batches.byID[id]
	switch what := r.Method + " " + rest; {
	case kept == nil:
		return refuse(r.API, http.StatusNotFound, &refusal{"batch_not_found", "id", "The echo provider keeps no batch " + strconv.Quote(id) + ": it keeps the last 1000 of this process."})
	case what == "GET ", what == " cancel": // it ended long ago
		return respond(http.StatusOK, []byte(*kept))
	}
	return nil
}

// runBatch asks itself each line, and keeps the answers as a file.
func (p *Provider) runBatch(ctx context.Context, body []byte) (string, *refusal) {
	doc, bad := object(body)
	if bad != nil {
		return "", bad
	}
	in := doc.Get("input_file_id").Str
	f := p.kept.file(in)
	if f == nil || f.purpose != "batch" {
		return "", &refusal{"file_not_found", "input_file_id", "The echo provider keeps no file " + strconv.Quote(in) + " for batches."}
	}
	endpoint := doc.Get("endpoint").Str
	lines := strings.Split(strings.TrimRight(string(f.content), "\n"), "\n")
	if len(lines) > maxBatchLines {
		return "", &refusal{"too_many_lines", "input_file_id", "The file has more than 50000 lines."}
	}
	out, errs := batchFile{}, batchFile{}
	var input, output int64
	for _, line := range lines {
		asked := gjson.Parse(line)
		if !asked.IsObject() || asked.Get("url").Str != endpoint {
			return "", &refusal{"mismatched_endpoint", "endpoint", "Each line of the file must be a request to the batch's endpoint."}
		}
		status, said, err := p.answerLine(ctx, strings.TrimPrefix(endpoint, "/v1/"), asked.Get("body").Raw)
		if err != nil {
			return "", &refusal{"batch_interrupted", "", "The batch was interrupted."}
		}
		into := &out
		if status != http.StatusOK {
			into = &errs
		}
		into.add(asked.Get("custom_id").Str, status, said)
		usage := gjson.GetBytes(said, "usage")
		input += usage.Get("input_tokens").Int() + usage.Get("prompt_tokens").Int()
		output += usage.Get("output_tokens").Int() + usage.Get("completion_tokens").Int()
	}
	now := p.o.Now().Unix()
	metadata := "null"
	if m := doc.Get("metadata"); m.IsObject() {
		metadata = m.Raw
	}
	id := newID("batch_echo")
	kept := fmt.Sprintf(`{"id":%s,"object":"batch","endpoint":%s,"errors":null,"input_file_id":%s,"completion_window":"24h","status":"completed","output_file_id":%s,"error_file_id":%s,`+
		`"created_at":%d,"in_progress_at":%d,"expires_at":%d,"finalizing_at":%d,"completed_at":%d,"failed_at":null,"expired_at":null,"cancelling_at":null,"cancelled_at":null,`+
		`"request_counts":{"total":%d,"completed":%d,"failed":%d},"metadata":%s,"model":%s,"usage":{"input_tokens":%d,"input_tokens_details":{"cached_tokens":0},"output_tokens":%d,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":%d}}`,
		quote(id), quote(endpoint), quote(in), out.keep(p, id+"_output.jsonl", now), errs.keep(p, id+"_error.jsonl", now), now, now, now+86400, now, now,
		len(lines), out.n, errs.n, metadata, quote(Model), input, output, input+output)
	p.kept.mu.Lock()
	defer p.kept.mu.Unlock()
	p.kept.batches.put(id, &kept, len(kept))
	return kept, nil
}

// answerLine is one answer, as its API has it.
func (p *Provider) answerLine(ctx context.Context, endpoint, body string) (status int, said []byte, err error) {
	api := endpoint
	if shape, ok := shapes[endpoint]; ok {
		api = shape.api
	}
	res, err := p.answer(ctx, &provider.Request{API: api, Endpoint: endpoint, Body: []byte(body)})
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	said, err = io.ReadAll(res.Body)
	if err == nil && !gjson.ValidBytes(said) {
		err = errors.New("echo: an answer that is no JSON")
	}
	return res.Status, said, err
}

// batchFile gathers the lines of one of a batch's files.
type batchFile struct {
	lines bytes.Buffer
	n     int
}

func (b *batchFile) add(customID string, status int, body []byte) {
	b.n++
	fmt.Fprintf(&b.lines, `{"id":%s,"custom_id":%s,"response":{"status_code":%d,"request_id":%s,"body":%s},"error":null}`+"\n",
		quote(newID("batch_req_")), quote(customID), status, quote(newID("req_")), body)
}

// keep keeps the file and is its id in JSON; null for one without lines.
func (b *batchFile) keep(p *Provider, name string, now int64) string {
	if b.n == 0 {
		return "null"
	}
	return string(quote(p.kept.putFile(&keptFile{name: name, purpose: "batch_output", created: now, content: b.lines.Bytes()})))
}
