package wire

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/promptgate/promptgate/internal/fault"
)

// The bounds of a form.
const (
	MaxParts      = 256
	MaxPartHeader = 8 << 10 // bytes of one part's headers
	maxPartName   = 100     // bytes
	maxPartValue  = 512     // bytes of a field that is looked at; of longer ones only the name is
	maxBoundary   = 70      // bytes, as RFC 2046 has it
)

// Multipart is a scanned multipart/form-data body. It keeps a reference to the scanned bytes. What two parsers could read differently is refused: the
// standard library's has to find the same parts in it as this one, which takes nothing but the plainest form.
type Multipart struct {
	raw      []byte
	boundary string
	parts    []bodyPart
}

// bodyPart is one part, by offsets into the scanned bytes.
type bodyPart struct {
	name       string
	file       bool
	start, end int // of its content
}

// Present reports whether a form was scanned.
func (f *Multipart) Present() bool { return f.boundary != "" }

// Raw is what was scanned.
func (f *Multipart) Raw() []byte { return f.raw }

// Reset forgets the scanned bytes.
func (f *Multipart) Reset() {
	if f.boundary != "" { // nearly no request is a form
		*f = Multipart{}
	}
}

// Scan reads a form whose Content-Type is given. Faults are fault.InvalidRequest and name the part at fault.
func (f *Multipart) Scan(contentType string, raw []byte) error {
	*f = Multipart{}
	boundary, err := boundaryOf(contentType)
	if err != nil {
		return err
	}
	s := Multipart{raw: raw, boundary: boundary}
	if err := s.split(); err != nil {
		return err
	}
	if err := s.confirm(); err != nil {
		return err
	}
	*f = s
	return nil
}

// boundaryOf is the boundary that a Content-Type names.
func boundaryOf(contentType string) (string, error) {
	kind, params, err := mime.ParseMediaType(contentType)
	switch {
	case kind != "multipart/form-data":
		return "", invalidForm("Content-Type", "This address takes a form: send multipart/form-data, with a boundary.")
	case err != nil || strings.Count(strings.ToLower(contentType), "boundary") != 1 || !strings.Contains(strings.ToLower(contentType), "boundary="):
		return "", invalidForm("Content-Type", "The Content-Type of a form must name one boundary, plainly.")
	}
	boundary := params["boundary"]
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("'()+_,-./:=?", r)
	}
	if boundary == "" || len(boundary) > maxBoundary || strings.ContainsFunc(boundary, odd) {
		return "", invalidForm("Content-Type", "The boundary of a form must be of 1 to %d letters, digits and '()+_,-./:=? .", maxBoundary)
	}
	return boundary, nil
}

func invalidForm(param, format string, args ...any) error {
	return fault.New(fault.InvalidRequest, format, args...).WithParam(param)
}

// split finds the parts. Wherever the boundary stands behind two hyphens it has to be a delimiter: on a line of its own, with the line ends of the
// standard. Nothing stands before the first and after the last.
func (f *Multipart) split() error {
	mark := []byte("--" + f.boundary)
	if !bytes.HasPrefix(f.raw, mark) {
		return invalidForm("body", "The form does not begin with its boundary: send what the Content-Type says, and nothing before it.")
	}
	for at := 0; ; {
		rest := f.raw[at+len(mark):]
		switch {
		case bytes.Equal(rest, []byte("--")), bytes.Equal(rest, []byte("--\r\n")):
			return nil
		case !bytes.HasPrefix(rest, []byte("\r\n")):
			return invalidForm("body", "The form is not one: behind a boundary stands neither a part nor the end.")
		case len(f.parts) == MaxParts:
			return invalidForm("body", "The form has more than %d parts.", MaxParts)
		}
		start := at + len(mark) + 2
		next := bytes.Index(f.raw[start:], mark)
		if next < 0 {
			return invalidForm("body", "The form has no end: its last boundary is missing.")
		}
		next += start
		if !bytes.HasSuffix(f.raw[start:next], []byte("\r\n")) {
			return invalidForm("body", "The form's boundary stands within a part: choose one that does not.")
		}
		if err := f.addPart(start, next-2); err != nil {
			return err
		}
		at = next
	}
}

// addPart reads the part that stands between two delimiters.
func (f *Multipart) addPart(start, end int) error {
	head := f.raw[start:max(start, end)]
	n := bytes.Index(head[:min(len(head), MaxPartHeader+4)], []byte("\r\n\r\n"))
	if n < 0 {
		return invalidForm("body", "A part of the form has no end of its headers within %d bytes.", MaxPartHeader)
	}
	p, err := partOf(string(head[:n]))
	if err != nil {
		return err
	}
	p.start, p.end = start+n+4, end
	f.parts = append(f.parts, p)
	return nil
}

// partOf reads the headers of a part.
func partOf(head string) (p bodyPart, err error) {
	disposition := ""
	for line := range strings.SplitSeq(head, "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsFunc(name, notToken) || strings.ContainsAny(line, "\r\n\x00") {
			return p, invalidForm("body", "A part of the form has a header that is none: each is one line, \"Name: value\".")
		}
		value = strings.Trim(value, " \t")
		switch strings.ToLower(name) {
		case "content-disposition":
			if disposition != "" {
				return p, invalidForm("body", "A part of the form has two headers Content-Disposition.")
			}
			disposition = value
		case "content-transfer-encoding":
			if !slices.Contains([]string{"binary", "8bit", "7bit"}, strings.ToLower(value)) {
				return p, invalidForm("body", "A part of the form is encoded: leave Content-Transfer-Encoding out.")
			}
		}
	}
	return dispositionOf(disposition)
}

func notToken(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// dispositionOf reads a Content-Disposition: form-data, the part's name, then at most the file's, in which nothing may look like a name.
func dispositionOf(value string) (p bodyPart, err error) {
	kind, params, err := mime.ParseMediaType(value)
	if err != nil || kind != "form-data" {
		return p, invalidForm("body", "A part of the form has no Content-Disposition that says form-data and its name.")
	}
	p.name = params["name"]
	odd := func(r rune) bool { return notToken(r) && !strings.ContainsRune(".[]", r) }
	if p.name == "" || len(p.name) > maxPartName || strings.ContainsFunc(p.name, odd) || p.name == "_charset_" {
		return p, invalidForm("body", "The form has a part of the name %s: names are of 1 to %d letters, digits and _-.[] .", quoteForMessage(p.name), maxPartName)
	}
	_, p.file = params["filename"]
	if len(params) > 2 || len(params) == 2 && !p.file {
		return p, invalidForm(p.name, "The part %s has a Content-Disposition with more than a name and a filename.", quoteForMessage(p.name))
	}
	rest, plain := afterName(value, p.name)
	if !plain || !namesFile(strings.ToLower(rest), p.file) {
		return p, invalidForm(p.name, "The part %s has a Content-Disposition that can be read in two ways: write form-data; name=\"…\"; filename=\"…\", in this order.",
			quoteForMessage(p.name))
	}
	return p, nil
}

// namesFile reports whether what follows a part's name says nothing but a file's name. A name in a charset that Go does not read, which others take in the
// place of the plain one, is none.
func namesFile(rest string, file bool) bool {
	if rest == "" {
		return !file
	}
	rest = strings.TrimLeft(rest[1:], " ")
	coded := strings.Count(rest, "name*")
	return file && (strings.HasPrefix(rest, "filename=") || strings.HasPrefix(rest, "filename*=")) &&
		strings.Count(rest, "name=") <= 1 && coded <= 1 && coded == strings.Count(rest, "filename*=")
}

// afterName is what follows the name in a Content-Disposition in which it stands first; plain is false in any other.
func afterName(value, name string) (rest string, plain bool) {
	rest = strings.TrimLeft(value[len("form-data"):], " ")
	rest, semicolon := strings.CutPrefix(rest, ";")
	rest = strings.TrimLeft(rest, " ")
	for _, first := range [...]string{`name="` + name + `"`, "name=" + name} {
		if after, ok := strings.CutPrefix(rest, first); ok && semicolon {
			after = strings.TrimLeft(after, " ")
			return after, after == "" || after[0] == ';'
		}
	}
	return "", false
}

// confirm has the standard library read the form: it has to find the same parts.
func (f *Multipart) confirm() error {
	differs := invalidForm("body", "The form can be read in two ways: send it as RFC 7578 has it.")
	r := multipart.NewReader(bytes.NewReader(f.raw), f.boundary)
	for i := range f.parts {
		part, err := r.NextRawPart()
		if err != nil {
			return differs
		}
		own := &f.parts[i]
		same := comparing(f.raw[own.start:own.end])
		if _, err = io.Copy(&same, part); err != nil || len(same) > 0 || part.FormName() != own.name || part.FileName() != "" && !own.file {
			return differs
		}
	}
	if _, err := r.NextRawPart(); !errors.Is(err, io.EOF) {
		return differs
	}
	return nil
}

// comparing takes the bytes that it holds, and no others.
type comparing []byte

var errDiffers = errors.New("wire: other bytes")

// Write implements io.Writer.
func (c *comparing) Write(p []byte) (int, error) {
	if !bytes.HasPrefix(*c, p) {
		return 0, errDiffers
	}
	*c = (*c)[len(p):]
	return len(p), nil
}

// AppendFields appends the form's fields as a JSON object, in which the stages look for what they look for in any request: text as a string, true and
// false under "stream" as such, "" for files and long texts, an object for name[key]. A field that the gateway acts on stands once and is text.
func (f *Multipart) AppendFields(dst []byte) ([]byte, error) {
	dst = append(dst, '{')
	acted := partsRead()
	for i := range f.parts {
		p := &f.parts[i]
		name, _, nested := strings.Cut(p.name, "[")
		at := slices.IndexFunc(f.parts, func(q bodyPart) bool { first, _, _ := strings.Cut(q.name, "["); return first == name })
		read := slices.Contains(acted[:], name)
		switch {
		case read && (at < i || nested || p.file):
			return dst, invalidForm(name, "The form's %s must be one part, which is no file and no list.", quoteForMessage(name))
		case at < i:
			continue
		}
		value, err := f.value(p, read)
		if err != nil {
			return dst, err
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, name), ':')
		switch {
		case f.nested(name):
			dst = append(dst, "{}"...)
		case name == "stream" && (value == "true" || value == "false"):
			dst = append(dst, value...)
		default:
			dst = appendString(dst, value)
		}
	}
	return append(dst, '}'), nil
}

// partsRead are the fields that the gateway acts on, in forms.
func partsRead() [6]string {
	return [...]string{"model", "stream", "user", "response_format", "service_tier", "purpose"}
}

// nested reports whether a part is called name[key].
func (f *Multipart) nested(name string) bool {
	return slices.ContainsFunc(f.parts, func(p bodyPart) bool {
		return strings.HasPrefix(p.name, name+"[") && p.name != name+"[]"
	})
}

// value is a part's text, "" for what is a file or too long to be looked at.
func (f *Multipart) value(p *bodyPart, read bool) (string, error) {
	content := f.raw[p.start:p.end]
	switch {
	case read && (len(content) > maxPartValue || !utf8.Valid(content)):
		return "", invalidForm(p.name, "The form's %s must be a text of at most %d bytes, in UTF-8.", quoteForMessage(p.name), maxPartValue)
	case p.file || len(content) > maxPartValue || !utf8.Valid(content):
		return "", nil
	}
	return string(content), nil
}

// SetModel appends the form to dst with another model: every other byte stands as the caller sent it. A form without a model gets one, as its first
// part. dst must not overlap the scanned bytes.
func (f *Multipart) SetModel(dst []byte, model string) []byte {
	at := slices.IndexFunc(f.parts, func(p bodyPart) bool { return p.name == "model" })
	if at < 0 {
		dst = append(append(append(dst, "--"...), f.boundary...), "\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n"...)
		return append(append(append(dst, model...), "\r\n"...), f.raw...)
	}
	dst = append(dst, f.raw[:f.parts[at].start]...)
	dst = append(dst, model...)
	return append(dst, f.raw[f.parts[at].end:]...)
}

// Without appends the form to dst without the parts of some names: every other byte stands as the caller sent it. dst must not overlap the scanned bytes.
func (f *Multipart) Without(dst []byte, names []string) []byte {
	from := 0
	for i := range f.parts {
		p := &f.parts[i]
		if name, _, _ := strings.Cut(p.name, "["); !slices.Contains(names, name) {
			continue
		}
		begin := 0 // of its delimiter
		if i > 0 {
			begin = f.parts[i-1].end + len("\r\n")
		}
		dst = append(dst, f.raw[from:begin]...)
		from = p.end + len("\r\n")
	}
	return append(dst, f.raw[from:]...)
}

// OnlyFile is the content of a form's one file, which has to be of a name.
func (f *Multipart) OnlyFile(name string) (content []byte, ok bool) {
	for i := range f.parts {
		p := &f.parts[i]
		first, _, _ := strings.Cut(p.name, "[")
		switch {
		case !p.file && first != name:
		case ok || !p.file || p.name != name:
			return nil, false
		default:
			content, ok = f.raw[p.start:p.end], true
		}
	}
	return content, ok
}
