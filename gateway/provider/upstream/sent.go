package upstream

import (
	"bytes"
	"io"
	"net/http"
	"sync"
)

// oneWrite is how large a body may be to leave with the request's head in one write: both fit the transport's buffer.
const oneWrite = writeBuffer - 2<<10

// setBody gives req its body. The transport sends the head on its own, ahead of a body of a type that it does not know, which costs
// the upstream and us a system call and a wake-up each; so a small body is a bytes.Reader, over a copy that nobody will reuse.
func (s *sent) setBody(req *http.Request) {
	req.ContentLength = int64(len(s.data))
	if len(s.data) > oneWrite {
		req.Body, req.GetBody = s.reader(), s.again
		return
	}
	own := bytes.Clone(s.data)
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(own)), nil }
	req.Body, _ = req.GetBody() // cannot fail
}

// sent is a request's larger body while the transport reads it. The transport may go on reading after it has returned an answer, from
// a goroutine of its own, and the buffer belongs to the caller, who will use it for somebody else's request: so every read copies
// under the lock, and detach takes the buffer away for good.
type sent struct {
	mu   sync.Mutex
	data []byte
	size int  // of data, also when it is gone
	read bool // to its end
	gone bool
}

// free ends all reading where none is left to be done, and reports whether it did: the transport has read all of it, or sends a copy.
func (s *sent) free() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.read && s.size > oneWrite {
		return false
	}
	s.data, s.gone = nil, true
	return true
}

// detach ends all reading; when it has returned, nothing touches the buffer any more.
func (s *sent) detach() {
	s.mu.Lock()
	s.data, s.gone = nil, true
	s.mu.Unlock()
}

func (s *sent) reader() io.ReadCloser { return &sentReader{from: s} }

// again implements http.Request.GetBody: the transport uses it when a kept connection turns out dead before anything was sent.
func (s *sent) again() (io.ReadCloser, error) { return s.reader(), nil }

// sentReader reads from the start. It has no WriteTo, which would hand the buffer itself to the connection.
type sentReader struct {
	from *sent
	at   int
}

// Read implements io.Reader.
func (r *sentReader) Read(p []byte) (int, error) {
	s := r.from
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.at == s.size {
		return 0, io.EOF // the transport looks whether there is more, perhaps after free
	}
	if s.gone {
		return 0, io.ErrClosedPipe
	}
	n := copy(p, s.data[r.at:])
	r.at += n
	s.read = s.read || r.at == s.size
	return n, nil
}

// Close implements io.Closer.
func (r *sentReader) Close() error { return nil }
