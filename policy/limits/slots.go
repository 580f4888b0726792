package limits

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// What a lease came to stands in memory that a file backs: it outlives the process, however that ends, and costs a call no more than other memory. The
// next start in the same folder says in the database what the life before had spent, and what its calls that were under way had reserved; the rest of
// its leases is free again. Without it they stay charged whole.

const (
	slotBytes   = 512
	slotCount   = 4096 // leases beyond have no slot
	slotUsed    = 0
	slotHeld    = 8
	slotWindow  = 16
	slotState   = 24 // 1 once the rest is there
	slotTexts   = 32 // the limit's id and the subject, each behind its length
	leaseSuffix = ".leases"
)

// slots is the file of one life.
type slots struct {
	log  *slog.Logger
	dir  string // "": there is none
	name string
	mem  []byte

	mu        sync.Mutex
	free      []int
	inherited []string // files of earlier lives that are not told yet
	tried     time.Time
}

// slot is a lease's part of it.
type slot struct {
	in *slots
	i  int
}

func openSlots(dir, holder string, log *slog.Logger) (*slots, error) {
	s := &slots{log: log}
	if dir == "" {
		return s, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("limits: folder of leases: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(dir, "*"+leaseSuffix))
	if err != nil {
		return nil, err
	}
	s.dir, s.inherited, s.name = dir, old, filepath.Join(dir, holder+leaseSuffix)
	if s.mem, err = mapFile(s.name, slotBytes*slotCount); err != nil {
		return nil, fmt.Errorf("limits: file of leases: %w", err)
	}
	for i := len(s.mem)/slotBytes - 1; i >= 0; i-- {
		s.free = append(s.free, i)
	}
	return s, nil
}

// take is a slot for a pot's lease of a window; nil when there is none.
func (s *slots) take(p *pot, window int64) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) == 0 || slotTexts+4+len(p.id)+len(p.subject) > slotBytes {
		return nil
	}
	i := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	b := s.mem[i*slotBytes : (i+1)*slotBytes]
	clear(b)
	binary.LittleEndian.PutUint64(b[slotWindow:], uint64(window))
	at := putText(b, slotTexts, p.id)
	putText(b, at, p.subject)
	s.number(i, slotState).Store(1)
	return &slot{s, i}
}

func putText(b []byte, at int, text string) int {
	binary.LittleEndian.PutUint16(b[at:], uint16(len(text)))
	return at + 2 + copy(b[at+2:], text)
}

// number is one of a slot's numbers, in place.
func (s *slots) number(i, at int) *atomic.Int64 {
	return (*atomic.Int64)(unsafe.Pointer(&s.mem[i*slotBytes+at])) //nolint:gosec // pages begin at a multiple of 8, and so does each number in them
}

func (s *slot) counters() (used, held *atomic.Int64) {
	return s.in.number(s.i, slotUsed), s.in.number(s.i, slotHeld)
}

// release gives the slot of a lease back whose spend stands in the database.
func (s *slot) release() {
	if s == nil {
		return
	}
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	s.in.number(s.i, slotState).Store(0)
	s.in.free = append(s.in.free, s.i)
}

// close keeps the file when something in it is still to be told. The memory stays mapped: calls may come late.
func (s *slots) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mem == nil || len(s.free) < len(s.mem)/slotBytes {
		return nil
	}
	return os.Remove(s.name)
}

// left are the leases that a file tells of.
func left(file string) (out []Draw, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	holder := strings.TrimSuffix(filepath.Base(file), leaseSuffix)
	for ; len(b) >= slotBytes; b = b[slotBytes:] {
		one := b[:slotBytes]
		if binary.LittleEndian.Uint64(one[slotState:]) != 1 {
			continue
		}
		limit, at, ok := getText(one, slotTexts)
		subject, _, fine := getText(one, at)
		if !ok || !fine {
			return nil, errors.New("limits: a file of leases is damaged")
		}
		n := func(at int) int64 { return int64(binary.LittleEndian.Uint64(one[at:])) }
		used := clamp(n(slotUsed)) + clamp(n(slotHeld))
		out = append(out, Draw{Limit: limit, Subject: subject, Holder: holder, Window: n(slotWindow), From: n(slotWindow), Used: used, Close: true})
	}
	return out, nil
}

func getText(b []byte, at int) (text string, next int, ok bool) {
	if at+2 > len(b) {
		return "", 0, false
	}
	n := int(binary.LittleEndian.Uint16(b[at:]))
	if at += 2; at+n > len(b) {
		return "", 0, false
	}
	return string(b[at : at+n]), at + n, true
}

const inheritEvery = 5 * time.Second

// inherit says what earlier lives in this folder had spent. What fails is tried again; what cannot be read stays charged.
func (e *Enforcer) inherit(ctx context.Context) {
	s := e.slots
	if len(s.inherited) == 0 || e.o.Clock().Sub(s.tried) < inheritEvery {
		return
	}
	s.tried = e.o.Clock()
	var again []string
	for _, file := range s.inherited {
		draws, err := left(file)
		if err == nil && len(draws) > 0 {
			if _, err := e.o.Bank.Exchange(ctx, draws); err != nil {
				again = append(again, file)
				continue
			}
		}
		if err != nil {
			s.log.Warn("what an earlier start had leased of budgets stays charged whole: its file cannot be read", "file", file, "error", err)
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.log.Warn("a file of leases cannot be removed", "file", file, "error", err)
		}
	}
	s.inherited = again
}
