package interchange

import (
	"encoding/json"
	"fmt"

	"github.com/promptgate/promptgate/registry/template"
)

// contentOf reads a message's content, a text or a list of parts, into m.
func contentOf(m *template.Message, content json.RawMessage) error {
	if len(content) == 0 || content[0] == '"' {
		return json.Unmarshal(append(json.RawMessage(nil), orEmpty(content)...), &m.Text)
	}
	var parts []struct {
		Type     string          `json:"type"`
		Text     string          `json:"text"`
		ImageURL json.RawMessage `json:"image_url"`
		Detail   json.RawMessage `json:"detail"`
		FileID   json.RawMessage `json:"file_id"`
		FileData json.RawMessage `json:"file_data"`
		Filename json.RawMessage `json:"filename"`
	}
	if err := json.Unmarshal(content, &parts); err != nil {
		return fmt.Errorf("its content cannot be read: %w", err)
	}
	for _, p := range parts {
		switch p.Type {
		case "input_text", "output_text", "text":
			m.Parts = append(m.Parts, template.Part{Type: "text", Text: p.Text})
		case "input_image":
			if len(p.ImageURL) == 0 || p.ImageURL[0] != '"' {
				return fmt.Errorf("an image by file_id cannot be imported: give it an address, or make it a variable")
			}
			if err := addPart(m, "image_url", map[string]json.RawMessage{"url": p.ImageURL, "detail": p.Detail}); err != nil {
				return err
			}
		case "input_file":
			if err := addPart(m, "file", map[string]json.RawMessage{"file_id": p.FileID, "file_data": p.FileData, "filename": p.Filename}); err != nil {
				return err
			}
		default:
			return fmt.Errorf("a part of type %q cannot be imported", p.Type)
		}
	}
	if len(m.Parts) == 1 && m.Parts[0].Type == "text" {
		m.Text, m.Parts = m.Parts[0].Text, nil
	}
	return nil
}

func orEmpty(text json.RawMessage) json.RawMessage {
	if len(text) == 0 {
		return json.RawMessage(`""`)
	}
	return text
}

func addPart(m *template.Message, kind string, members map[string]json.RawMessage) error {
	for name, v := range members {
		if len(v) == 0 || string(v) == "null" {
			delete(members, name)
		}
	}
	value, err := json.Marshal(members)
	m.Parts = append(m.Parts, template.Part{Type: kind, Value: value})
	return err
}
