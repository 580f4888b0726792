package gateway

import "time"

// anthropicModel is one line of GET /v1/models, as clients of Anthropic's API read it.
type anthropicModel struct {
	Type        string `json:"type"`
	ID          string `json:"id"`
	DisplayName string `json:"display_name"`
	CreatedAt   string `json:"created_at"` // the epoch where nobody knows
}

// anthropicList is the whole list: it has one page.
type anthropicList struct {
	Data    []anthropicModel `json:"data"`
	HasMore bool             `json:"has_more"`
	FirstID *string          `json:"first_id"`
	LastID  *string          `json:"last_id"`
}

func anthropicModelOf(m model) anthropicModel {
	return anthropicModel{Type: "model", ID: m.ID, DisplayName: m.ID, CreatedAt: time.Unix(m.Created, 0).UTC().Format(time.RFC3339)}
}

func anthropicListOf(l *modelList) anthropicList {
	out := anthropicList{Data: []anthropicModel{}}
	for _, m := range l.Data {
		out.Data = append(out.Data, anthropicModelOf(m))
	}
	if n := len(out.Data); n > 0 {
		out.FirstID, out.LastID = &out.Data[0].ID, &out.Data[n-1].ID
	}
	return out
}
