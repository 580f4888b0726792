package wire

// Conversations is the making of a conversation at a provider, which later responses go on in. Its first items are the caller's.
type Conversations struct{ Responses }

var _ API = Conversations{}

// Endpoint implements API.
func (Conversations) Endpoint() string { return "conversations" }

// Stores implements API.
func (Conversations) Stores() bool { return true }

// Free implements API.
func (Conversations) Free() bool { return true }

// Continues implements API.
func (Conversations) Continues(*Body, []Edit) (param, id string) { return "", "" }

// RunsOn implements API.
func (Conversations) RunsOn(*Body, []Edit) bool { return false }

// OutputLimit implements API.
func (Conversations) OutputLimit(*Body, []Edit) (tokens, answers int64) { return 0, 1 }

// References implements API.
func (Conversations) References(*Body) []string { return nil }

// Unserved implements API. A reference would bring an item of another response.
func (Conversations) Unserved(b *Body) (param string) {
	items, _ := b.Get("items")
	if len(itemReferences(items)) > 0 {
		return "items"
	}
	return ""
}

// ReadAnswer implements API.
func (Conversations) ReadAnswer(body []byte) (c Completion, whole bool) {
	w, ok := walkInto(body, '{')
	for ok {
		var key, value []byte
		if key, value, ok = w.member(); ok && string(key) == `"id"` {
			setString(&c.ID, value)
		}
	}
	if c.ID != "" {
		c.Answers = 1
	}
	return c, w.closed('}')
}
