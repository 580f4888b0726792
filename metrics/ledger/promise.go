package ledger

import (
	"github.com/promptgate/promptgate/internal/fault"
)

// promise reserves room on the disk for a record of about n bytes that will come, so that what is let begin can be recorded. Each promise is followed
// by one unpromise. The error is StorageFull or Overloaded, as append's.
func (s *spool) promise(n int64) error {
	p := s.promised.Add(n)
	if p <= s.budget.Load() {
		return nil
	}
	err := s.makeRoom(p)
	if err != nil {
		s.promised.Add(-n)
	}
	return err
}

func (s *spool) unpromise(n int64) { s.promised.Add(-n) }

func (s *spool) makeRoom(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		s.refused++
		return fault.New(fault.Overloaded, "The gateway is shutting down: try again.")
	case s.waiting+n > s.maxBytes:
		s.refused++
		return tooMuchWaits()
	}
	for s.room() < n {
		seg, file, err := s.newSegment(s.maxSegment)
		if err != nil {
			s.refused++
			return writeFault(err)
		}
		s.spares = append(s.spares, spare{seg, file})
	}
	s.budget.Store(min(s.room(), s.maxBytes-s.waiting))
	return nil
}

// room is how many bytes of records certainly fit into what is reserved on the disk. A record that does not fit into what is left of a segment goes
// to the next one. Call with mu held.
func (s *spool) room() int64 {
	slack := min(4<<10, s.maxSegment/8)
	n := int64(len(s.spares)) * (s.maxSegment - slack)
	if s.file != nil {
		n += max(0, s.maxSegment-slack-s.segments[len(s.segments)-1].size)
	}
	return n
}

// looked has the next promise go by what the spool has become. Call with mu held.
func (s *spool) looked() { s.budget.Store(min(s.room(), s.maxBytes-s.waiting)) }

func tooMuchWaits() error {
	return fault.New(fault.Overloaded, "Too many calls wait to be recorded: the database is down or too slow. Try again shortly.")
}
