package sqlstore

import (
	"encoding/base64"
	"encoding/json"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry"
)

const (
	defaultLimit = 50
	maxLimit     = 200
)

// cursor is where a page ended: the sort key of its last row, and which list it belongs to, so that one list's cursor is not
// taken for another's. It holds nothing that the page did not show.
type cursor struct {
	List string `json:"l"`
	Text string `json:"t,omitempty"`
	Num  int64  `json:"n,omitempty"`
}

func (c cursor) encode() string {
	b, err := json.Marshal(c)
	if err != nil { // a struct of strings and a number always encodes
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// readPage returns the cursor to go on after (nil for the first page) and the number of rows wanted.
func readPage(list string, p registry.Page) (*cursor, int, error) {
	limit := p.Limit
	switch {
	case limit == 0:
		limit = defaultLimit
	case limit < 0 || limit > maxLimit:
		return nil, 0, fault.New(fault.InvalidRequest, "A page has 1 to %d entries.", maxLimit).WithParam("limit")
	}
	if p.After == "" {
		return nil, limit, nil
	}
	bad := fault.New(fault.InvalidRequest, "This cursor is not one that this list gave out: start again without it.").WithParam("after")
	raw, err := base64.RawURLEncoding.DecodeString(p.After)
	if err != nil {
		return nil, 0, bad
	}
	var c cursor
	if err := json.Unmarshal(raw, &c); err != nil || c.List != list || !storable(c.Text) {
		return nil, 0, bad
	}
	return &c, limit, nil
}

// cut takes rows read with one more than the limit and returns the page and the cursor of the next, "" when there is none.
func cut[Row, Out any](rows []Row, limit int, out func(Row) Out, at func(Row) cursor) ([]Out, string) {
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		next = at(rows[limit-1]).encode()
	}
	page := make([]Out, len(rows))
	for i, row := range rows {
		page[i] = out(row)
	}
	return page, next
}
