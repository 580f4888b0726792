package wire

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
)

const formType = "multipart/form-data; boundary=b"

// formOf joins parts, each with its headers, by the boundary "b".
func bodyOf(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("--b\r\n" + p + "\r\n")
	}
	return b.String() + "--b--\r\n"
}

func field(name, value string) string {
	return "Content-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value
}

// What the clients that people use send is read.
func TestMultipart(t *testing.T) {
	file := "Content-Disposition: form-data; name=\"file\"; filename=\"a b;c.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n\x00\r\n--x\xff\r\n"
	for name, c := range map[string]struct{ kind, body, want string }{
		"the usual":       {formType, bodyOf(field("model", "m"), file), `{"model":"m","file":""}`},
		"quoted boundary": {`Multipart/Form-Data; boundary="b"`, bodyOf(file, field("model", "m")), `{"file":"","model":"m"}`},
		"no last line end": {formType, strings.TrimSuffix(bodyOf(field("model", "m"), field("stream", "true"), field("n", "2")), "\r\n"),
			`{"model":"m","stream":true,"n":"2"}`},
		".NET's": {formType, bodyOf("Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=model\r\n\r\nm",
			"Content-Disposition: form-data; name=file; filename=a.mp3; filename*=utf-8''a.mp3\r\n\r\nx"), `{"model":"m","file":""}`},
		"an older Python's":                   {formType, bodyOf("Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%C3%A9.mp3\r\n\r\nx"), `{"file":""}`},
		"lists":                               {formType, bodyOf(field("include[]", "a"), field("include[]", "b"), field("image[]", "x")), `{"include":"a","image":"x"}`},
		"objects":                             {formType, bodyOf(field("chunking_strategy[type]", "server_vad")), `{"chunking_strategy":{}}`},
		"a list and an object under one name": {formType, bodyOf(field("prompt[]", "a"), field("prompt[id]", "b")), `{"prompt":{}}`},
		"a long text":                         {formType, bodyOf(field("prompt", strings.Repeat("x", 600))), `{"prompt":""}`},
		"odd text":                            {formType, bodyOf(field("prompt", "\"\xff")), `{"prompt":""}`},
		"binary":                              {formType, bodyOf("Content-Transfer-Encoding: binary\r\n" + field("model", "é\"")), `{"model":"é\""}`},
		"nothing":                             {formType, "--b--", `{}`},
		"an empty text":                       {formType, bodyOf(field("model", "")), `{"model":""}`},
	} {
		t.Run(name, func(t *testing.T) {
			var f Multipart
			require.NoError(t, f.Scan(c.kind, []byte(c.body)))
			require.True(t, f.Present())
			fields, err := f.AppendFields(nil)
			require.NoError(t, err)
			assert.Equal(t, c.want, string(fields))
			var b Body
			require.NoError(t, b.Scan(fields))
		})
	}
}

// What two parsers could read differently, and what is beyond the bounds, is refused.
func TestMultipartRefusals(t *testing.T) {
	model := field("model", "m")
	for name, c := range map[string]struct{ kind, body string }{
		"JSON":                                  {"application/json", bodyOf(model)},
		"no boundary":                           {"multipart/form-data", bodyOf(model)},
		"two boundaries":                        {"multipart/form-data; boundary=b; boundary=c", bodyOf(model)},
		"a boundary in a boundary":              {`multipart/form-data; x="; boundary=c"; boundary=b`, bodyOf(model)},
		"an encoded boundary":                   {"multipart/form-data; boundary*=utf-8''%62", bodyOf(model)},
		"a boundary with a space":               {`multipart/form-data; boundary="b c"`, bodyOf(model)},
		"a long boundary":                       {"multipart/form-data; boundary=" + strings.Repeat("b", 71), bodyOf(model)},
		"a preamble":                            {formType, "x\r\n" + bodyOf(model)},
		"an empty line before":                  {formType, "\r\n" + bodyOf(model)},
		"an epilogue":                           {formType, bodyOf(model) + "x"},
		"a second form":                         {formType, bodyOf(model) + bodyOf(field("model", "other"))},
		"no end":                                {formType, strings.TrimSuffix(bodyOf(model), "--b--\r\n")},
		"half an end":                           {formType, strings.TrimSuffix(bodyOf(model), "--\r\n")},
		"bare line feeds":                       {formType, strings.ReplaceAll(bodyOf(model), "\r\n", "\n")},
		"a delimiter after a feed":              {formType, bodyOf(field("x", "\n--b\nContent-Disposition: form-data; name=\"model\"\n\nother"))},
		"white space behind it":                 {formType, strings.Replace(bodyOf(model, model), "--b\r\n", "--b \r\n", 1)},
		"a boundary within":                     {formType, bodyOf(field("x", "y--b"))},
		"a longer boundary":                     {formType, bodyOf(field("x", "\r\n--bb\r\n"))},
		"two models":                            {formType, bodyOf(model, field("model", "other"))},
		"the same twice":                        {formType, bodyOf(model, model)},
		"a model in a list":                     {formType, bodyOf(field("model[]", "m"))},
		"a model beside a list":                 {formType, bodyOf(model, field("model[0]", "other"))},
		"a model by file":                       {formType, bodyOf("Content-Disposition: form-data; name=\"model\"; filename=\"x\"\r\n\r\nm")},
		"a long model":                          {formType, bodyOf(field("model", strings.Repeat("m", 513)))},
		"a model in Latin-1":                    {formType, bodyOf(field("model", "\xe9"))},
		"two streams":                           {formType, bodyOf(field("stream", "true"), field("stream", "false"))},
		"no headers":                            {formType, bodyOf("model")},
		"no disposition":                        {formType, bodyOf("Content-Type: text/plain\r\n\r\nm")},
		"two dispositions":                      {formType, bodyOf("Content-Disposition: form-data; name=\"x\"\r\n" + model)},
		"not form-data":                         {formType, bodyOf("Content-Disposition: attachment; name=\"model\"\r\n\r\nm")},
		"no name":                               {formType, bodyOf("Content-Disposition: form-data\r\n\r\nm")},
		"two names":                             {formType, bodyOf("Content-Disposition: form-data; name=\"x\"; name=\"model\"\r\n\r\nm")},
		"an encoded name":                       {formType, bodyOf("Content-Disposition: form-data; name*=utf-8''model\r\n\r\nm")},
		"a name beside its code":                {formType, bodyOf("Content-Disposition: form-data; name=\"x\"; name*=utf-8''model\r\n\r\nm")},
		"a name beside a code that is not read": {formType, bodyOf("Content-Disposition: form-data; name=\"x\"; name*=iso-8859-1''model\r\n\r\nm")},
		"a name beside a part of a code":        {formType, bodyOf("Content-Disposition: form-data; name=\"x\"; name*0*=iso-8859-1''model\r\n\r\nm")},
		"a code beside a name and a file's":     {formType, bodyOf("Content-Disposition: form-data; name=\"x\"; filename=\"a\"; name*=iso-8859-1''model\r\n\r\nm")},
		"a file's name that is not read":        {formType, bodyOf("Content-Disposition: form-data; name=\"x\"; filename*=iso-8859-1''a\r\n\r\nm")},
		"a code of something else":              {formType, bodyOf("Content-Disposition: form-data; name=\"x\"; size*=iso-8859-1''3\r\n\r\nm")},
		"a name in a file's":                    {formType, bodyOf("Content-Disposition: form-data; name=\"x\"; filename=\"a; name=model\"\r\n\r\nm")},
		"a file before the name":                {formType, bodyOf("Content-Disposition: form-data; filename=\"name=model\"; name=\"x\"\r\n\r\nm")},
		"an escape in a name":                   {formType, bodyOf("Content-Disposition: form-data; name=\"mo\\del\"\r\n\r\nm")},
		"a percent in a name":                   {formType, bodyOf(field("mod%65l", "m"))},
		"a space in a name":                     {formType, bodyOf(field("model ", "m"))},
		"a long name":                           {formType, bodyOf(field(strings.Repeat("n", 101), "m"))},
		"another parameter":                     {formType, bodyOf("Content-Disposition: form-data; name=\"x\"; size=3\r\n\r\nm")},
		"folded headers":                        {formType, bodyOf("Content-Disposition: form-data;\r\n name=\"model\"\r\n\r\nm")},
		"a space before the colon":              {formType, bodyOf("Content-Disposition : form-data; name=\"model\"\r\n\r\nm")},
		"a feed in a header":                    {formType, bodyOf("X: a\nContent-Disposition: form-data; name=\"model\"\r\n" + field("x", "y"))},
		"an encoding":                           {formType, bodyOf("Content-Transfer-Encoding: base64\r\n" + field("model", "bQ=="))},
		"a charset for all":                     {formType, bodyOf(field("_charset_", "utf-16"), model)},
		"long headers":                          {formType, bodyOf("X: " + strings.Repeat("x", MaxPartHeader) + "\r\n" + model)},
		"many parts":                            {formType, bodyOf(strings.Split(strings.Repeat(","+field("x", "y"), MaxParts+1), ",")[1:]...)},
		"a part without an end":                 {formType, "--b\r\n--b--\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var f Multipart
			err := f.Scan(c.kind, []byte(c.body))
			if err == nil {
				_, err = f.AppendFields(nil)
			}
			require.Error(t, err)
			assert.Equal(t, fault.InvalidRequest, fault.CodeOf(err))
		})
	}
	var f Multipart
	fields := append([]string{field("Model", "m")}, model)
	require.NoError(t, f.Scan(formType, []byte(bodyOf(fields...))))
	seen, err := f.AppendFields(nil)
	require.NoError(t, err)
	var b Body
	require.Error(t, b.Scan(seen), "a model that differs by case")
	many := strings.Split(strings.Repeat(","+field("x", "y"), MaxParts), ",")[1:]
	require.NoError(t, f.Scan(formType, []byte(bodyOf(many...))))
}

// The standard library's reading is compared part by part.
func TestMultipartIsReadTwice(t *testing.T) {
	body := []byte(bodyOf(field("model", "m"), field("x", "y")))
	for name, change := range map[string]func(f *Multipart){
		"a part less":     func(f *Multipart) { f.parts = f.parts[:1] },
		"a part more":     func(f *Multipart) { f.parts = append(f.parts, f.parts[0]) },
		"another name":    func(f *Multipart) { f.parts[1].name = "z" },
		"a shorter part":  func(f *Multipart) { f.parts[0].end-- },
		"a longer part":   func(f *Multipart) { f.parts[0].end++ },
		"another content": func(f *Multipart) { f.parts[0].start, f.parts[0].end = f.parts[1].start, f.parts[1].end },
	} {
		var f Multipart
		require.NoError(t, f.Scan(formType, body))
		require.NoError(t, f.confirm())
		change(&f)
		require.Error(t, f.confirm(), name)
	}
	for want, body := range map[string]string{
		"stands within a part":   bodyOf(field("x", "y--b")),
		"two headers":            bodyOf("Content-Disposition: form-data; name=\"model\"\r\n" + field("model", "m")),
		"its last boundary":      "--b\r\n" + field("x", "y"),
		"does not begin with":    "x" + bodyOf(),
		"neither a part nor the": "--b\n",
	} {
		var f Multipart
		require.ErrorContains(t, f.Scan(formType, []byte(body)), want)
	}
}

// FuzzMultipartSetModel: a form that is taken is the same to the standard library with another model, but for the model; and byte for byte with its own.
func FuzzMultipartSetModel(f *testing.F) {
	f.Add(formType, bodyOf(field("model", "m"), field("x", "y")), "other")
	f.Add(formType, bodyOf(field("x", "y")), "m")
	f.Add(formType, bodyOf("Content-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n\x00\r\n--\r\n", field("model", "m")), "m2")
	f.Add(`multipart/form-data; boundary="a:b"`, "--a:b\r\n"+field("model", "")+"\r\n--a:b--", "é")
	f.Add(formType, "--b\r\n"+field("x", "\n--b\n")+"\r\n--b--\r\n", "m")
	f.Fuzz(func(t *testing.T, kind, body, model string) {
		var form Multipart
		if form.Scan(kind, []byte(body)) != nil {
			return
		}
		seen, err := form.AppendFields(nil)
		var fields Body
		if err != nil || fields.Scan(seen) != nil {
			return
		}
		own, err := fields.Model()
		if err != nil || !printable(model) || strings.Contains(model, form.boundary) {
			return
		}
		_, has := fields.Get("model")
		if has {
			require.Equal(t, body, string(form.SetModel(nil, own)), "its own model changes nothing")
		}
		before, after := partsOf(t, kind, body), partsOf(t, kind, string(form.SetModel(nil, model)))
		if !has {
			require.Equal(t, [2]string{"form-data; name=\"model\"", model}, after[0])
			require.Equal(t, before, after[1:])
			return
		}
		require.Len(t, after, len(before))
		for i := range before {
			if _, params, _ := mime.ParseMediaType(before[i][0]); params["name"] == "model" {
				require.Equal(t, own, before[i][1], "what was checked is what the library reads")
				before[i][1] = model
			}
			require.Equal(t, before[i], after[i])
		}
	})
}

// partsOf are the parts' dispositions and contents, as the standard library reads them.
func partsOf(t *testing.T, kind, body string) (parts [][2]string) {
	_, params, err := mime.ParseMediaType(kind)
	require.NoError(t, err)
	r := multipart.NewReader(bytes.NewReader([]byte(body)), params["boundary"])
	for {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return parts
		}
		require.NoError(t, err)
		content, err := io.ReadAll(p)
		require.NoError(t, err)
		parts = append(parts, [2]string{p.Header.Get("Content-Disposition"), string(content)})
	}
}
