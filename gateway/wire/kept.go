package wire

// KeptResponse is a response that a provider keeps, as it is asked for, cancelled or deleted: whatever state it is in is the answer.
type KeptResponse struct{ Responses }

var _ API = KeptResponse{}

// Keeps implements API: asking makes nothing new.
func (KeptResponse) Keeps() bool { return false }

// Free implements API: what was made is paid for.
func (KeptResponse) Free() bool { return true }

// ReadAnswer implements API.
func (KeptResponse) ReadAnswer(body []byte) (c Completion, whole bool) {
	w, ok := walkInto(body, '{')
	for ok {
		_, _, ok = w.member()
		c.Answers = 1
	}
	return c, c.Answers > 0 && w.closed('}')
}

// ReadEvent implements API: a response that failed is told as one.
func (KeptResponse) ReadEvent(r *StreamResult, ev Event) (usageOnly bool) {
	Responses{}.ReadEvent(r, ev)
	r.Done = r.Done || r.Error != nil
	r.Started, r.Error, r.Usage, r.ID = true, nil, StreamResult{}.Usage, ""
	return false
}

// Finishes implements API.
func (KeptResponse) Finishes(kind string) bool {
	return Responses{}.Finishes(kind) || kind == "response.failed"
}

// KeptItems is a list of the items that a provider keeps.
type KeptItems struct{ KeptResponse }

var _ API = KeptItems{}

// itemReferences are the ids that items refer to instead of being some: those of that type, those that say nothing but what they are, and pictures that
// were made and do not come along.
func itemReferences(items []byte) (ids []string) {
	for item := range elementsOf(items) {
		id, kind, says, result := "", "", false, false
		for key, value := range membersOf(item) {
			switch Word(key) {
			case "type":
				kind = Word(value)
			case "id":
				id, _ = stringOf(value)
			case "status":
			case "result":
				result = !isNull(value) && string(value) != `""`
				says = says || result
			default:
				says = says || !isNull(value)
			}
		}
		if kind == "item_reference" || kind == "image_generation_call" && !result || !says {
			ids = append(ids, id)
		}
	}
	return ids
}
