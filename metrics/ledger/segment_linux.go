package ledger

import (
	"errors"
	"os"
	"runtime/debug"
	"syscall"
)

// mapped is a segment that is written through memory. What stands in it outlives the process, as what was written by calls to the system
// does: both are the kernel's pages. Its room is reserved before, so that a full disk shows when the file is made. Behind what was written are
// zeros: Close takes them away, and readers know them for no frames.
type mapped struct {
	file *os.File
	mem  []byte
	size int
}

// mapSegment returns nil where the file system cannot reserve room, since a full disk would show there as a fault of memory alone, and where
// it cannot share memory.
func mapSegment(f *os.File, size int64) (segmentFile, error) {
	err := error(syscall.EINTR)
	for errors.Is(err, syscall.EINTR) { // some file systems let signals interrupt it, and the runtime sends many
		err = syscall.Fallocate(int(f.Fd()), 0, 0, size)
	}
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	mem, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, f.Truncate(0) // what is appended must not stand behind the room
	}
	return &mapped{file: f, mem: mem}, nil
}

var (
	errNoRoom = errors.New("the segment has no room left")
	errFaulty = errors.New("the disk fails, or the file was cut")
)

// Write implements io.Writer for whole frames. A frame's first byte is set last: whoever dies before has written none.
func (m *mapped) Write(frame []byte) (n int, err error) {
	if len(frame) > len(m.mem)-m.size {
		return 0, errNoRoom
	}
	// A disk that fails, and a file that somebody cut, show as faults of memory.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // a fault of memory
			n, err = 0, &os.PathError{Op: "write", Path: m.file.Name(), Err: errFaulty}
		default:
			panic(fault) //nolint:forbidigo // not ours to catch
		}
	}()
	room := m.mem[m.size:]
	copy(room[1:], frame[1:])
	room[0] = frame[0]
	m.size += len(frame)
	return len(frame), nil
}

// Truncate implements segmentFile. Nothing of a frame that failed stands there, but where one did the next would, too.
func (m *mapped) Truncate(int64) error { return errFaulty }

// Sync implements segmentFile.
func (m *mapped) Sync() error { return m.file.Sync() }

// Close implements segmentFile.
func (m *mapped) Close() error {
	return errors.Join(syscall.Munmap(m.mem), m.file.Truncate(int64(m.size)), m.file.Close())
}
