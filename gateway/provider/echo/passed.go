package echo

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway/provider"
)

// passed are the shapes without a conversation, by API. Each answers in the shape's own form, and nothing that it says means anything.
var passed = map[string]func(*provider.Request) (*provider.Response, *refusal){ //nolint:gochecknoglobals // a constant
	provider.APIEmbeddings:       embed,
	provider.APIModerations:      moderate,
	provider.APIImageGenerations: draw,
	provider.APIImageEdits:       draw,
	provider.APIImageVariations:  draw,
	provider.APISpeech:           speak,
	provider.APITranscriptions:   listen,
	provider.APITranslations:     listen,
}

const (
	defaultDimensions = 256
	maxDimensions     = 3072
	maxInputs         = 2048
)

// embed answers with unit vectors that depend on the input's bytes alone: the same text, the same vector. They say nothing about meaning.
func embed(r *provider.Request) (*provider.Response, *refusal) {
	doc, bad := modelled(r.Body)
	if bad != nil {
		return nil, bad
	}
	dimensions := defaultDimensions
	if d := doc.Get("dimensions"); present(d) {
		if d.Type != gjson.Number || d.Num != math.Trunc(d.Num) || d.Num < 1 || d.Num > maxDimensions {
			return nil, &refusal{"invalid_value", "dimensions", fmt.Sprintf("dimensions must be a whole number from 1 to %d.", maxDimensions)}
		}
		dimensions = int(d.Num)
	}
	format := doc.Get("encoding_format")
	if present(format) && format.Str != "float" && format.Str != "base64" {
		return nil, &refusal{"invalid_value", "encoding_format", "encoding_format must be float or base64."}
	}
	inputs, bad := textsOf(doc.Get("input"))
	if bad != nil {
		return nil, bad
	}
	var data []string
	used := 0
	for i, input := range inputs {
		used += countTokens(input)
		vector := vectorOf(input.Raw, dimensions)
		shown, err := json.Marshal(vector)
		if err != nil {
			return nil, &refusal{"invalid_value", "input", "The input cannot be embedded."}
		}
		if format.Str == "base64" {
			shown = quote(base64.StdEncoding.EncodeToString(littleEndian(vector)))
		}
		data = append(data, fmt.Sprintf(`{"object":"embedding","index":%d,"embedding":%s}`, i, shown))
	}
	return respond(http.StatusOK, fmt.Appendf(nil, `{"object":"list","data":[%s],"model":"%s","usage":{"prompt_tokens":%d,"total_tokens":%d}}`,
		strings.Join(data, ","), Model, used, used)), nil
}

// textsOf are the inputs: a text, a list of them, a list of tokens, or a list of those.
func textsOf(input gjson.Result) ([]gjson.Result, *refusal) {
	if input.Type == gjson.String && input.Str != "" {
		return []gjson.Result{input}, nil
	}
	all := input.Array()
	switch {
	case !input.IsArray() || len(all) == 0:
		return nil, &refusal{"missing_required_parameter", "input", "You must provide input: a text, or a list that is not empty."}
	case len(all) > maxInputs:
		return nil, &refusal{"invalid_value", "input", fmt.Sprintf("input has more than %d elements.", maxInputs)}
	case all[0].Type == gjson.Number:
		return []gjson.Result{input}, nil
	}
	return all, nil
}

func countTokens(input gjson.Result) int {
	if input.IsArray() {
		return len(input.Array())
	}
	return len(tokens(input.String()))
}

// vectorOf is a vector of length 1.
func vectorOf(input string, dimensions int) []float32 {
	vector, sum := make([]float32, dimensions), 0.0
	seed := sha256.Sum256([]byte(input))
	var block [32]byte
	for i := range vector {
		if i%8 == 0 {
			block = sha256.Sum256(binary.LittleEndian.AppendUint64(seed[:], uint64(i)))
		}
		x := float64(int32(binary.LittleEndian.Uint32(block[i%8*4:]))) / math.MaxInt32 //nolint:gosec // a bit pattern
		vector[i] = float32(x)
		sum += x * x
	}
	if sum == 0 {
		vector[0], sum = 1, 1
	}
	for i := range vector {
		vector[i] = float32(float64(vector[i]) / math.Sqrt(sum))
	}
	return vector
}

func littleEndian(vector []float32) []byte {
	var b []byte
	for _, x := range vector {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// moderate flags nothing: it looks at nothing.
func moderate(r *provider.Request) (*provider.Response, *refusal) {
	doc, bad := modelled(r.Body)
	if bad != nil {
		return nil, bad
	}
	inputs, bad := textsOf(doc.Get("input"))
	if bad != nil {
		return nil, bad
	}
	if inputs[0].IsObject() { // parts of one input
		inputs = inputs[:1]
	}
	var flags, scores, applied []string
	for _, category := range [...]string{
		"harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm", "self-harm/instructions",
		"self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
	} {
		flags = append(flags, `"`+category+`":false`)
		scores = append(scores, `"`+category+`":0.0`)
		applied = append(applied, `"`+category+`":["text"]`)
	}
	result := fmt.Sprintf(`{"flagged":false,"categories":{%s},"category_scores":{%s},"category_applied_input_types":{%s}}`,
		strings.Join(flags, ","), strings.Join(scores, ","), strings.Join(applied, ","))
	results := strings.Repeat(","+result, len(inputs))
	return respond(http.StatusOK, fmt.Appendf(nil, `{"id":"modr-%s","model":"%s","results":[%s]}`, idOf(r.Body), Model, results[1:])), nil
}

// draw answers with a picture of one grey point.
func draw(r *provider.Request) (*provider.Response, *refusal) {
	ask, bad := read(r)
	switch {
	case bad != nil:
		return nil, bad
	case r.API != provider.APIImageVariations && ask.text("prompt") == "":
		return nil, &refusal{"missing_required_parameter", "prompt", "You must provide a prompt."}
	case r.API != provider.APIImageGenerations && len(ask.files) == 0:
		return nil, &refusal{"missing_required_parameter", "image", "You must provide an image."}
	case ask.text("stream") == "true":
		return nil, &refusal{"unsupported_value", "stream", "The echo provider does not stream pictures: leave stream out."}
	case ask.text("response_format") == "url":
		return nil, &refusal{"unsupported_value", "response_format", "The echo provider keeps nothing at an address: ask for b64_json."}
	case ask.text("output_format") != "" && ask.text("output_format") != "png":
		return nil, &refusal{"unsupported_value", "output_format", "The echo provider draws png only."}
	}
	n := 1
	if sent := ask.text("n"); sent != "" {
		var err error
		if n, err = strconv.Atoi(sent); err != nil || n < 1 || n > 10 {
			return nil, &refusal{"invalid_value", "n", "n must be a whole number from 1 to 10."}
		}
	}
	point := image.NewGray(image.Rect(0, 0, 1, 1))
	point.SetGray(0, 0, color.Gray{Y: 128})
	var out bytes.Buffer
	if err := png.Encode(&out, point); err != nil {
		return nil, &refusal{"invalid_value", "", "The picture could not be made."}
	}
	one := `,{"b64_json":"` + base64.StdEncoding.EncodeToString(out.Bytes()) + `"}`
	used := len(tokens(ask.text("prompt")))
	return respond(http.StatusOK, fmt.Appendf(nil, `{"created":0,"output_format":"png","data":[%s],"usage":{"input_tokens":%d,"input_tokens_details":{"text_tokens":%d,"image_tokens":0},`+
		`"output_tokens":%d,"total_tokens":%d}}`, strings.Repeat(one, n)[1:], used, used, n, used+n)), nil
}

// speak answers with a tenth of a second of silence.
func speak(r *provider.Request) (*provider.Response, *refusal) {
	doc, bad := modelled(r.Body)
	if bad != nil {
		return nil, bad
	}
	const rate, samples = 8000, 800
	switch format := doc.Get("response_format").Str; {
	case doc.Get("input").Type != gjson.String || doc.Get("input").Str == "":
		return nil, &refusal{"missing_required_parameter", "input", "You must provide input, a text."}
	case doc.Get("stream_format").Str == "sse":
		return nil, &refusal{"unsupported_value", "stream_format", "The echo provider does not stream sound: leave stream_format out."}
	case format == "pcm": // 24 kHz, 16 bits
		res := respond(http.StatusOK, make([]byte, 4800))
		res.Header["Content-Type"] = []string{"audio/pcm"}
		return res, nil
	case format != "wav":
		return nil, &refusal{"unsupported_value", "response_format", "The echo provider makes wav and pcm only: send \"response_format\": \"wav\"."}
	}
	silence := bytes.Repeat([]byte{128}, samples) // of 8 bits each
	b := binary.LittleEndian.AppendUint32([]byte("RIFF"), 36+samples)
	b = binary.LittleEndian.AppendUint32(append(b, "WAVEfmt "...), 16)
	for _, half := range [...]uint16{1, 1, rate, 0, rate, 0, 1, 8} { // PCM, one channel; rates are of 32 bits
		b = binary.LittleEndian.AppendUint16(b, half)
	}
	b = append(binary.LittleEndian.AppendUint32(append(b, "data"...), samples), silence...)
	res := respond(http.StatusOK, b)
	res.Header["Content-Type"] = []string{"audio/wav"}
	return res, nil
}

// listen says what arrived.
func listen(r *provider.Request) (*provider.Response, *refusal) {
	ask, bad := read(r)
	switch {
	case bad != nil:
		return nil, bad
	case len(ask.files) != 1:
		return nil, &refusal{"missing_required_parameter", "file", "You must provide a file, and one only."}
	case ask.text("stream") == "true":
		return nil, &refusal{"unsupported_value", "stream", "The echo provider does not stream what it heard: leave stream out."}
	}
	heard := fmt.Sprintf("[echo] heard %d bytes of %s", ask.files[0].size, ask.files[0].name)
	switch format := ask.text("response_format"); format {
	case "", "json":
		return respond(http.StatusOK, []byte(`{"text":`+string(quote(heard))+`}`)), nil
	case "text":
		res := respond(http.StatusOK, []byte(heard+"\n"))
		res.Header["Content-Type"] = []string{"text/plain; charset=utf-8"}
		return res, nil
	default:
		return nil, &refusal{"unsupported_value", "response_format", "The echo provider answers json and text only."}
	}
}

func idOf(body []byte) string { return fmt.Sprintf("echo-%x", sha256.Sum256(body))[:29] }

// modelled reads a body of JSON that names a model.
func modelled(body []byte) (gjson.Result, *refusal) {
	doc, bad := object(body)
	if bad == nil && doc.Get("model").Type != gjson.String {
		bad = &refusal{"missing_required_parameter", "model", "You must provide a model."}
	}
	return doc, bad
}

// fields are what a request asks, as JSON or as a form.
type fields struct {
	doc   gjson.Result
	form  map[string]string
	files []file
}

type file struct {
	name string
	size int64
}

func (f *fields) text(name string) string {
	if f.form != nil {
		return f.form[name]
	}
	return f.doc.Get(name).String()
}

// maxField bounds one text of a form, in bytes.
const maxField = 1 << 20

// read reads a request by its Content-Type.
func read(r *provider.Request) (f fields, bad *refusal) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		f.doc, bad = modelled(r.Body)
		return f, bad
	}
	f.form = map[string]string{}
	parts := multipart.NewReader(bytes.NewReader(r.Body), params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return f, &refusal{"invalid_form", "", "The form cannot be read."}
		}
		if part.FileName() != "" {
			size, err := io.Copy(io.Discard, part)
			if err != nil {
				return f, &refusal{"invalid_form", "", "The form cannot be read."}
			}
			f.files = append(f.files, file{part.FileName(), size})
			continue
		}
		text, err := io.ReadAll(io.LimitReader(part, maxField))
		if err != nil {
			return f, &refusal{"invalid_form", "", "The form cannot be read."}
		}
		f.form[part.FormName()] = string(text)
	}
	if f.form["model"] == "" {
		return f, &refusal{"missing_required_parameter", "model", "You must provide a model."}
	}
	return f, nil
}
