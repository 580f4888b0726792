package wire

import (
	"encoding/base64"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

// blocksOf is a chat message's content as blocks. same says that it is what it was: a text, or a list of blocks already.
func blocksOf(content []byte) (blocks []byte, same bool, err error) {
	if len(content) == 0 {
		return []byte("null"), false, nil
	}
	if content[0] != '[' {
		return content, true, nil
	}
	list, same := []byte{'['}, true
	for part := range elementsOf(content) {
		converted := partTypeOf(part)
		if converted == "" || emptyText(part) {
			same = false
		}
		switch converted {
		case "text", "": // of both shapes; what has no type is judged below
		case "input_text", "output_text", "refusal", "image_url", "input_image", "input_audio", "file", "input_file":
			same = false
		}
		if list, err = appendPart(list, &template.RenderedPart{Media: part}); err != nil {
			return nil, false, err
		}
	}
	return append(list, ']'), same, nil
}

// partTypeOf is the type of a content part, "" for none.
func partTypeOf(part []byte) string {
	for key, value := range membersOf(part) {
		if string(key) == `"type"` {
			return Word(value)
		}
	}
	return ""
}

// memberOf is the value of an object's member, nil for none.
func memberOf(object []byte, name string) []byte {
	for key, value := range membersOf(object) {
		if Word(key) == name {
			return value
		}
	}
	return nil
}

// appendPart appends a content part as a block, after a comma where one is due. A text that is empty is left out, since the API takes none.
func appendPart(list []byte, p *template.RenderedPart) ([]byte, error) {
	comma := func() {
		if list[len(list)-1] != '[' {
			list = append(list, ',')
		}
	}
	text := func(quoted []byte) []byte {
		if len(quoted) <= 2 {
			return list
		}
		comma()
		return append(append(append(list, `{"type":"text","text":`...), quoted...), '}')
	}
	if p.Media == nil {
		return text(append(append([]byte{'"'}, p.Text...), '"')), nil
	}
	in := p.Input
	if in == nil {
		switch kind := partTypeOf(p.Media); kind {
		case "text":
			if emptyText(p.Media) {
				return list, nil
			}
			comma()
			return append(list, p.Media...), nil // with what the API knows beside it, such as cache_control
		case "output_text", "input_text":
			return text(memberOf(p.Media, "text")), nil
		case "refusal":
			return text(memberOf(p.Media, "refusal")), nil
		case "image_url", "input_image", "input_audio", "file", "input_file":
			parsed, ok, err := template.ParsePart(p.Media)
			if !ok || err != nil {
				return nil, noBlock("A content part of type %s cannot be read: send an image, or a file, as a chat has it.", quoteForMessage(kind))
			}
			in = &parsed
		case "":
			return nil, noBlock("A content part without a type cannot be sent in the Messages API.")
		default: // a block already
			comma()
			return append(list, p.Media...), nil
		}
	}
	if in.Type == template.InputText {
		return text(in.Text), nil
	}
	block, err := mediaBlock(in)
	if err != nil {
		return nil, err
	}
	comma()
	return append(list, block...), nil
}

func noBlock(format string, args ...any) error {
	return fault.New(fault.InvalidRequest, format, args...).WithParam("prompt")
}

// mediaBlock is an image or a file as a block. What the API has no block for is refused by name.
func mediaBlock(in *template.InputPart) ([]byte, error) {
	switch in.Type {
	case template.InputImage:
		return imageBlock(in)
	case template.InputFile:
		return documentBlock(in)
	}
	return nil, noBlock("The Messages API takes no audio: leave the input_audio part out, or call the prompt as a chat.")
}

func imageBlock(in *template.InputPart) ([]byte, error) {
	if in.URL == nil {
		return source("image", `"type":"file","file_id":`, Word(in.FileID), nil), nil
	}
	url := Word(in.URL)
	if strings.HasPrefix(url, "https://") || strings.HasPrefix(url, "http://") {
		return source("image", `"type":"url","url":`, url, nil), nil
	}
	media, data, ok := dataURL(url)
	switch media {
	case "image/jpeg", "image/png", "image/gif", "image/webp":
	default:
		ok = false
	}
	if !ok {
		return nil, noBlock("The Messages API takes images by an https: address, or as data: in base64 of the type image/jpeg, image/png, image/gif or image/webp; this one is %s.",
			quoteForMessage(url[:min(len(url), 40)]))
	}
	return source("image", `"type":"base64","media_type":"`+media+`","data":`, data, nil), nil
}

func documentBlock(in *template.InputPart) ([]byte, error) {
	switch {
	case in.FileURL != nil:
		return source("document", `"type":"url","url":`, Word(in.FileURL), in.Filename), nil
	case in.Data == nil:
		return source("document", `"type":"file","file_id":`, Word(in.FileID), in.Filename), nil
	}
	media, data, ok := dataURL(Word(in.Data))
	switch {
	case ok && media == "application/pdf":
		return source("document", `"type":"base64","media_type":"application/pdf","data":`, data, in.Filename), nil
	case ok && media == "text/plain":
		if text, err := base64.StdEncoding.DecodeString(data); err == nil {
			return source("document", `"type":"text","media_type":"text/plain","data":`, string(text), in.Filename), nil
		}
	}
	return nil, noBlock("The Messages API takes files as data: in base64 of the type application/pdf or text/plain, by an address, or by the id of a file.")
}

// source is a block whose source has a value. title may be nil.
func source(kind, how, value string, title []byte) []byte {
	block := append([]byte(`{"type":"`), kind...)
	block = appendString(append(append(block, `","source":{`...), how...), value)
	block = append(block, '}')
	if title != nil {
		block = append(append(block, `,"title":`...), title...)
	}
	return append(block, '}')
}

// dataURL takes "data:image/png;base64,AAAA" apart. ok is false when it is none in base64.
func dataURL(url string) (media, data string, ok bool) {
	rest, is := strings.CutPrefix(url, "data:")
	head, data, found := strings.Cut(rest, ",")
	media, parameters, _ := strings.Cut(head, ";")
	return strings.ToLower(media), data, is && found && data != "" && (parameters == "base64" || strings.HasSuffix(parameters, ";base64"))
}
