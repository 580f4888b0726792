package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// InputPart is a content part that a variable brings, as no provider in particular spells it; an API shape encodes it. Strings are JSON
// strings as the caller sent them, quotes included and found valid; nil is absent.
type InputPart struct {
	Type     InputType
	Text     json.RawMessage // of text
	URL      json.RawMessage // of an image: https: or data:
	Detail   json.RawMessage // of an image: low, high, auto
	Data     json.RawMessage // base64 of audio, a data: address of a file
	Format   json.RawMessage // of audio: wav, mp3
	FileID   json.RawMessage // of a file, or of an image
	FileURL  json.RawMessage // of a file
	Filename json.RawMessage
}

// inChat says why a part cannot be sent in a chat, which knows fewer forms than a response; nil when it can.
func (p *InputPart) inChat() error {
	switch {
	case p.Type == InputImage && p.URL == nil:
		return errors.New("an image by its file_id cannot be sent in a chat; send its address, https: or data:, as image_url")
	case p.Type == InputFile && p.FileURL != nil:
		return errors.New("a file part with \"file_url\" cannot be sent in a chat; upload the file and send its \"file_id\", or send \"file_data\"")
	}
	return nil
}

// InputType is what an InputPart holds.
type InputType uint8

// The types.
const (
	InputText InputType = iota + 1
	InputImage
	InputAudio
	InputFile
)

// fields are the members that any form of a part may have, by name.
type fields struct {
	kind, text, imageURL, audio, file, detail, fileID, fileData, fileURL, filename, url, data, format []byte
	others                                                                                            int
}

func (f *fields) of(name []byte) *[]byte {
	switch string(name) {
	case "type":
		return &f.kind
	case "text":
		return &f.text
	case "image_url":
		return &f.imageURL
	case "input_audio":
		return &f.audio
	case "file":
		return &f.file
	case "detail":
		return &f.detail
	case "file_id":
		return &f.fileID
	case "file_data":
		return &f.fileData
	case "file_url":
		return &f.fileURL
	case "filename":
		return &f.filename
	case "url":
		return &f.url
	case "data":
		return &f.data
	case "format":
		return &f.format
	}
	return nil
}

// fieldsOf reads an object's members; ok is false when raw is no object.
func fieldsOf(raw []byte) (f fields, ok bool) {
	if kindOf(raw) != '{' {
		return f, false
	}
	raw = trimSpace(raw)
	_, _ = eachMember(raw, func(key []byte, value int) (int, error) {
		end := skipValue(raw, value)
		if field := f.of(keyText(key)); field != nil {
			*field = raw[value:end]
		} else {
			f.others++
		}
		return end, nil
	})
	return f, true
}

// inputPart reads an object as a content part: OpenAI's input_text, input_image, input_audio and input_file, and the text, image_url and
// file of chat completions. ok is false for any other object, which is data.
func inputPart(raw []byte) (p InputPart, ok bool, err error) {
	f, isObject := fieldsOf(raw)
	if !isObject || kindOf(f.kind) != '"' {
		return p, false, nil
	}
	switch string(keyText(f.kind)) {
	case "input_text":
		if kindOf(f.text) != '"' {
			return p, true, errors.New("an input_text part needs its text as a string under \"text\"")
		}
		return InputPart{Type: InputText, Text: f.text}, true, nil
	case partText:
		return InputPart{Type: InputText, Text: f.text}, kindOf(f.text) == '"' && f.others == 0, nil
	case "input_image":
		if kindOf(f.imageURL) != '"' && kindOf(f.fileID) == '"' {
			return InputPart{Type: InputImage, FileID: f.fileID, Detail: stringOrNil(f.detail)}, true, nil
		}
		p, err = imageOf(f.imageURL, f.detail, "an input_image part needs its address, https: or data:, as a string under \"image_url\"")
		return p, true, err
	case partImage:
		if in, nested := fieldsOf(f.imageURL); nested {
			p, err = imageOf(in.url, in.detail, "an image_url part needs its address, https: or data:, as a string under \"image_url\", \"url\"")
			return p, true, err
		}
		return p, f.imageURL != nil, errors.New("an image_url part needs an object with its \"url\" under \"image_url\"")
	case partAudio:
		p, err = audioOf(f.audio)
		return p, true, err
	case "input_file":
		p, err = fileOf(&f)
		return p, true, err
	case partFile:
		if in, nested := fieldsOf(f.file); nested {
			p, err = fileOf(&in)
			return p, true, err
		}
	}
	return p, false, nil
}

// ParsePart reads an object as a content part, in the forms that a variable may bring. ok is false for any other object.
func ParsePart(raw []byte) (p InputPart, ok bool, err error) { return inputPart(raw) }

func imageOf(url, detail []byte, want string) (InputPart, error) {
	if kindOf(url) != '"' {
		return InputPart{}, errors.New(want)
	}
	return InputPart{Type: InputImage, URL: url, Detail: stringOrNil(detail)}, nil
}

func audioOf(raw []byte) (InputPart, error) {
	in, _ := fieldsOf(raw)
	if kindOf(in.data) != '"' || kindOf(in.format) != '"' {
		return InputPart{}, errors.New("an input_audio part needs \"data\" in base64 and \"format\", wav or mp3, as strings under \"input_audio\"")
	}
	return InputPart{Type: InputAudio, Data: in.data, Format: in.format}, nil
}

func fileOf(f *fields) (InputPart, error) {
	if kindOf(f.fileURL) == '"' {
		return InputPart{Type: InputFile, FileURL: f.fileURL, Filename: stringOrNil(f.filename)}, nil
	}
	if kindOf(f.fileID) != '"' && kindOf(f.fileData) != '"' {
		return InputPart{}, errors.New("a file part needs \"file_id\", or \"file_data\" with \"filename\"")
	}
	return InputPart{Type: InputFile, FileID: stringOrNil(f.fileID), Data: stringOrNil(f.fileData), Filename: stringOrNil(f.filename)}, nil
}

func stringOrNil(raw []byte) json.RawMessage {
	if kindOf(raw) != '"' {
		return nil
	}
	return raw
}

// inputParts reads a list of content parts; ok is false for a list that is data. A list that mixes parts that are no text with
// anything else is refused: it would be printed as JSON, a picture's base64 and all.
func inputParts(raw []byte) (parts []InputPart, ok bool, err error) {
	if !bytes.Contains(raw, []byte(`"type"`)) {
		return nil, false, nil // lists are long; this one holds no part that anybody's serializer wrote
	}
	media, other := false, -1
	n := 0
	_, err = eachItem(raw, func(at int) (int, error) {
		end := skipValue(raw, at)
		p, isPart, err := inputPart(raw[at:end])
		switch {
		case err != nil && isPart:
			return 0, fmt.Errorf("item %d: %w", n, err)
		case !isPart && other < 0:
			other = n
		case isPart && len(parts) < MaxParts:
			parts = append(parts, p)
			media = media || p.Type != InputText
		case isPart && (media || p.Type != InputText):
			return 0, fmt.Errorf("it holds more than %d parts; send fewer", MaxParts)
		case isPart:
			other = n // so many texts are data
		}
		n++
		return end, nil
	})
	if err != nil || other < 0 || !media {
		return parts, err == nil && other < 0 && n > 0, err
	}
	return nil, false, fmt.Errorf("item %d of it is no content part, and others are; send only parts of type input_text, input_image, input_audio and input_file", other)
}

// appendChat appends a part as chat completions spell it.
func (p *InputPart) appendChat(dst []byte) []byte {
	switch p.Type {
	case InputText:
		return append(append(append(dst, `{"type":"text","text":`...), p.Text...), '}')
	case InputImage:
		dst = append(append(dst, `{"type":"image_url","image_url":{"url":`...), p.URL...)
		if p.Detail != nil {
			dst = append(append(dst, `,"detail":`...), p.Detail...)
		}
	case InputAudio:
		dst = append(append(dst, `{"type":"input_audio","input_audio":{"data":`...), p.Data...)
		dst = append(append(dst, `,"format":`...), p.Format...)
	case InputFile:
		dst = append(dst, `{"type":"file","file":`...)
		sep := byte('{')
		for _, m := range [...]struct {
			name  string
			value json.RawMessage
		}{{`"file_id":`, p.FileID}, {`"file_data":`, p.Data}, {`"filename":`, p.Filename}} {
			if m.value != nil {
				dst = append(append(append(dst, sep), m.name...), m.value...)
				sep = ','
			}
		}
	}
	return append(dst, `}}`...)
}
