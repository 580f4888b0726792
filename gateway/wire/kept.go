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
