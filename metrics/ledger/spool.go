package ledger

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
)

const (
	segmentSuffix = ".seg"
	damagedSuffix = ".damaged"
	keepDamaged   = 8 // damaged segments kept aside for people to look at
)

// segment is one file of the spool. run names the process start that wrote it: its cursor in the database is per run, so that
// sequence numbers never depend on what a directory or a restored database remembers.
type segment struct {
	run  string
	seq  int64
	path string
	size int64 // acknowledged bytes; what stands behind them is no record. Under spool.mu while the segment is current

	// The flusher's own:
	done    int64 // bytes taken off spool.waiting
	damaged bool
}

// spool is a directory of segments, appended to by many goroutines and read by the one flusher.
type spool struct {
	dir        string
	run        string
	maxBytes   int64
	maxSegment int64
	now        func() time.Time
	create     createFunc
	table      *crc32.Table
	lock       *os.File

	mu       sync.Mutex
	segments []*segment  // oldest first; the last is current when file is set
	file     segmentFile // of the current segment; nil: the next append makes a new one
	seq      int64
	unsynced []segmentFile // closed to appends, not yet synced and closed
	dirty    bool
	newFile  bool  // the directory wants a sync
	waiting  int64 // bytes not yet committed
	since    time.Time
	records  int64
	refused  int64
	closed   bool
	spares   []spare // made ahead of their time, in the order of their numbers

	promised atomic.Int64 // bytes of records that will come
	budget   atomic.Int64 // bytes that may be promised before somebody has to look again
}

// spare is a segment whose room is reserved and that nothing was written to yet.
type spare struct {
	seg  *segment
	file segmentFile
}

// openSpool takes the directory for this process and finds what earlier ones left.
func openSpool(s *spool) (*spool, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("spool %s is in use by another process (each replica needs its own): %w", s.dir, err)
	}
	s.lock = lock
	s.table = crc32.MakeTable(crc32.Castagnoli)
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails
	s.run = fmt.Sprintf("%012x%s", s.now().UnixMilli(), hex.EncodeToString(random[:]))
	if err := s.findSegments(); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return s, nil
}

func (s *spool) findSegments() error {
	entries, err := os.ReadDir(s.dir) // sorted by name
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		run, digits, dash := strings.Cut(name, "-")
		var seq int64
		if !ok || !dash {
			continue
		}
		if _, err := fmt.Sscanf(digits, "%d", &seq); err != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		seg := &segment{run: run, seq: seq, path: filepath.Join(s.dir, e.Name()), size: info.Size()}
		s.trim(seg)
		s.segments = append(s.segments, seg)
		s.waiting += seg.size
		if s.since.IsZero() || info.ModTime().Before(s.since) {
			s.since = info.ModTime()
		}
	}
	return nil
}

// trim gives back the room that a process which died left unused, as it does when it closes a segment: it would count as waiting, with each
// death during an outage a segment more. What cannot be read or cut is left for the flusher to tell of.
func (s *spool) trim(seg *segment) {
	if seg.size < s.maxSegment {
		return // it was closed
	}
	b, err := os.ReadFile(seg.path)
	if err != nil {
		return
	}
	scan := &scanner{b: b, table: s.table}
	for scan.next() != nil {
		continue
	}
	if scan.end < len(b) && unused(b[scan.end:]) && os.Truncate(seg.path, int64(scan.end)) == nil {
		seg.size = int64(scan.end)
	}
}

// append writes one finished frame by one write. When it returns nil the frame survives the death of this process.
func (s *spool) append(frame []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.refused++
		return fault.New(fault.Overloaded, "The gateway is shutting down: try again.")
	}
	if s.waiting+int64(len(frame)) > s.maxBytes {
		s.refused++
		return tooMuchWaits()
	}
	defer s.looked()
	cur, err := s.current(int64(len(frame)))
	if err != nil {
		s.refused++
		return writeFault(err)
	}
	if n, err := s.file.Write(frame); err != nil || n < len(frame) {
		s.refused++
		s.undo(cur)
		return writeFault(errors.Join(err, io.ErrShortWrite))
	}
	cur.size += int64(len(frame))
	if s.waiting == 0 {
		s.since = s.now()
	}
	s.waiting += int64(len(frame))
	s.records++
	s.dirty = true
	return nil
}

// undo takes half a frame away again. Where that fails as well the segment is closed: readers stop at its acknowledged size, and the
// next record goes to a new file.
func (s *spool) undo(cur *segment) {
	if err := s.file.Truncate(cur.size); err != nil {
		s.retire()
	}
}

// retire ends the current segment; the syncer syncs and closes it. Call with mu held.
func (s *spool) retire() {
	if s.file != nil {
		s.unsynced = append(s.unsynced, s.file)
		s.file, s.dirty = nil, true
	}
}

// current is the segment that takes the next n bytes. Call with mu held.
func (s *spool) current(n int64) (*segment, error) {
	if s.file != nil {
		cur := s.segments[len(s.segments)-1]
		if cur.size+n <= s.maxSegment || cur.size == 0 {
			return cur, nil
		}
		s.retire()
	}
	if n > s.maxSegment {
		s.dropSpares() // the new one's number must not be above those of segments that are used later
	}
	var next spare
	if len(s.spares) > 0 {
		next, s.spares = s.spares[0], s.spares[1:]
	} else {
		var err error
		if next.seg, next.file, err = s.newSegment(max(n, s.maxSegment)); err != nil {
			return nil, err
		}
	}
	s.file = next.file
	s.segments = append(s.segments, next.seg)
	return next.seg, nil
}

// newSegment makes the file of the next segment. Call with mu held.
func (s *spool) newSegment(size int64) (*segment, segmentFile, error) {
	seg := &segment{run: s.run, seq: s.seq + 1}
	seg.path = filepath.Join(s.dir, fmt.Sprintf("%s-%09d%s", seg.run, seg.seq, segmentSuffix))
	f, err := s.create(seg.path, size)
	if err != nil {
		return nil, nil, err
	}
	s.seq, s.newFile = seg.seq, true
	return seg, f, nil
}

// dropSpares removes the segments that were made ahead. One that cannot be removed is empty: the next start finds nothing in it. Call with mu held.
func (s *spool) dropSpares() {
	for _, sp := range s.spares {
		_ = sp.file.Close()
		_ = os.Remove(sp.seg.path)
	}
	s.spares = nil
}

func writeFault(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.Wrap(err, fault.StorageFull, "The disk is full: calls cannot be recorded. Free space on it.")
	}
	return fault.Wrap(err, fault.RegistryUnavailable, "Calls cannot be recorded: the local spool cannot be written.")
}

// sync makes everything appended so far survive a power cut. Appends go on meanwhile.
func (s *spool) sync() error {
	s.mu.Lock()
	done, cur, newFile := s.unsynced, s.file, s.newFile
	if !s.dirty {
		s.mu.Unlock()
		return nil
	}
	s.unsynced, s.dirty, s.newFile = nil, false, false
	s.mu.Unlock()

	var errs []error
	if newFile {
		errs = append(errs, syncDir(s.dir))
	}
	for _, f := range done {
		errs = append(errs, f.Sync(), f.Close())
	}
	if cur != nil {
		// Only this goroutine closes files, so cur is open even if it was retired meanwhile.
		errs = append(errs, cur.Sync())
	}
	return errors.Join(errs...)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// first is the oldest segment, its readable size and whether nothing will be appended to it; nil when there is none.
func (s *spool) first() (seg *segment, size int64, sealed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segments) == 0 {
		return nil, 0, false
	}
	seg = s.segments[0]
	return seg, seg.size, len(s.segments) > 1 || s.file == nil
}

// consumed takes what stands before pos in the oldest segment off the count of what waits.
func (s *spool) consumed(seg *segment, pos int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = max(0, s.waiting-max(0, pos-seg.done))
	seg.done = max(seg.done, pos)
	s.since = s.now()
	s.looked()
}

// drop forgets the oldest segment and deletes its file, or keeps a damaged one aside. A file that cannot be removed is no loss: its
// cursor says that it is done.
func (s *spool) drop(seg *segment) error {
	s.mu.Lock()
	if len(s.segments) > 0 && s.segments[0] == seg {
		s.segments = slices.Delete(s.segments, 0, 1)
	}
	s.mu.Unlock()
	if !seg.damaged {
		return os.Remove(seg.path)
	}
	if err := os.Rename(seg.path, seg.path+damagedSuffix); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(s.dir, "*"+damagedSuffix))
	if err != nil {
		return err
	}
	slices.Sort(old)
	for len(old) > keepDamaged {
		err = errors.Join(err, os.Remove(old[0]))
		old = old[1:]
	}
	return err
}

// hasRun reports whether a segment of a run is left.
func (s *spool) hasRun(run string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.segments, func(seg *segment) bool { return seg.run == run })
}

// stop refuses further appends and ends the current segment.
func (s *spool) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.retire()
	s.dropSpares()
	s.budget.Store(0)
}

// close syncs what is left and gives the directory free.
func (s *spool) close() error {
	return errors.Join(s.sync(), s.lock.Close())
}
