package wire

import "bytes"

// eventOf reads the lines of one event. What it returns points into ev when there is one data line.
func eventOf(ev []byte) (e Event) {
	if bytes.HasPrefix(ev, []byte("data:")) {
		line := bytes.TrimRight(ev[5:], "\r\n")
		if bytes.IndexByte(line, '\n') < 0 && bytes.IndexByte(line, '\r') < 0 {
			return Event{Data: trimSpace(line)}
		}
	}
	ev = bytes.TrimPrefix(ev, []byte("\xef\xbb\xbf"))
	lines := 0
	for len(ev) > 0 {
		n := bytes.IndexAny(ev, "\r\n")
		line := ev
		if n >= 0 {
			line, ev = ev[:n], ev[n+1:]
		} else {
			ev = nil
		}
		name, value, _ := bytes.Cut(line, []byte{':'})
		switch string(name) {
		case "data":
			value = trimSpace(value)
			switch lines++; lines {
			case 1:
				e.Data = value
			case 2:
				e.Data = append(append(bytes.Clone(e.Data), '\n'), value...)
			default:
				e.Data = append(append(e.Data, '\n'), value...)
			}
		case "event":
			e.Name = trimSpace(value)
		}
	}
	return e
}

// trimSpace takes off the one space that may follow a field's colon.
func trimSpace(v []byte) []byte {
	if len(v) > 0 && v[0] == ' ' {
		return v[1:]
	}
	return v
}

// cutShort reports whether data is the beginning of something that a client would fail to read.
func cutShort(data []byte) bool {
	i := skipSpace(data, 0)
	data = data[i:]
	switch {
	case len(data) == 0:
		return false
	case data[0] == '{':
		return skipNested(data, 0) < 0
	}
	return len(data) < len(doneMark) && doneMark[:len(data)] == string(data)
}

// inspect reads a complete event. It reports whether the event is to be withheld.
func (s *StreamScanner) inspect(ev []byte) bool {
	before := s.res.Error
	s.res.Error = nil
	usageOnly := s.api.ReadEvent(&s.res, eventOf(ev))
	failed := s.res.Error != nil
	if before != nil {
		s.res.Error = before
	}
	if s.HideErrors && failed {
		return true
	}
	if !usageOnly || !s.withhold {
		return false
	}
	s.res.Events--
	s.res.Withheld = true
	return true
}

// SetError notes the error that a stream told of: a copy, cut to what is kept.
func (r *StreamResult) SetError(v []byte) {
	r.Error = bytes.Clone(v[:min(len(v), maxCapture)])
}

// endBig takes over what was read of an event that was relayed as it came.
func (s *StreamScanner) endBig() {
	if s.big.data {
		s.res.Events++
	}
	s.res.Started = s.res.Started || s.big.json.content // nobody says nothing at such length
	c := s.big.json.Result()
	if s.res.ID == "" {
		s.res.ID = c.ID
	}
	if s.res.Model == "" {
		s.res.Model = c.Model
	}
	if c.Finish == finishError && s.res.Error == nil {
		s.res.SetError([]byte(`"error"`))
	}
	if s.res.Finish == "" && s.api.Finishes(c.Finish) {
		s.res.Finish = c.Finish
	}
	switch partial := s.big.json.partial; {
	case partial != nil:
		s.res.addUsage(partial)
	case c.Usage.Reported:
		s.res.Usage, s.res.Cost, s.res.Mixed = c.Usage, c.Cost, c.Mixed
	}
	if c.Tier != "" {
		s.res.Tier = c.Tier
	}
	if c.Error != nil {
		s.res.SetError(c.Error)
	}
}

// bigEvent reads the data lines of an event in pieces, for one that is too long to keep.
type bigEvent struct {
	json    ResponseScanner
	name    [5]byte // of the line's field; "data" and one more byte to tell a longer name
	nameLen int
	value   bool // past the colon
	first   bool // right after it
	data    bool // there was some
}

func (e *bigEvent) reset(api API) {
	e.json.Reset(api)
	*e = bigEvent{json: e.json}
}

func (e *bigEvent) feed(p []byte) {
	for len(p) > 0 {
		if !e.value {
			e.nameByte(p[0])
			p = p[1:]
			continue
		}
		if e.first {
			e.first = false
			if p[0] == ' ' {
				p = p[1:]
				continue
			}
		}
		n := bytes.IndexByte(p, '\n')
		if n < 0 {
			n = len(p)
		}
		if cr := bytes.IndexByte(p[:n], '\r'); cr >= 0 {
			n = cr
		}
		if e.nameLen == 4 && string(e.name[:4]) == "data" {
			e.json.feed(p[:n])
			e.data = e.data || n > 0
		}
		if n == len(p) {
			return
		}
		e.value, e.nameLen = false, 0
		p = p[n+1:]
	}
}

func (e *bigEvent) nameByte(c byte) {
	switch {
	case c == ':':
		e.value, e.first = true, true
	case c == '\n' || c == '\r':
		e.nameLen = 0
	case e.nameLen < len(e.name):
		e.name[e.nameLen] = c
		e.nameLen++
	}
}
