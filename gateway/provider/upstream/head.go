package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

var errManyHeads = errors.New("too many provisional answers")

// readHead reads the head of the final answer.
func readHead(l *line) (*http.Response, error) {
	if _, err := l.in.Peek(1); err != nil {
		if err == io.EOF { //nolint:errorlint // the reader's own word for the end
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if resp := plainHead(l); resp != nil {
		return resp, nil
	}
	const provisional = 5
	for range provisional + 1 {
		resp, err := http.ReadResponse(l.in, nil) // nil: the answer to a request that may have a body, as a POST's
		if err != nil || resp.StatusCode < 100 || resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err // below 100 is no status at all, and refused as an answer
		}
	}
	return nil, errManyHeads
}

// plainHead reads the head of the usual answer that is no stream for less than http.ReadResponse does, to the same result: HTTP/1.1's 200, here
// to its end, with one length and nothing that bears on where the body ends beside it. It judges nothing: on any doubt it reads
// nothing and returns nil.
func plainHead(l *line) *http.Response {
	const first, end = "HTTP/1.1 200 OK\r\n", "\r\n\r\n"
	b, _ := l.in.Peek(l.in.Buffered())
	size := bytes.Index(b, []byte(end))
	if size < len(first) || string(b[:len(first)]) != first {
		return nil
	}
	lines := string(b[len(first) : size+len(end)/2])
	count := strings.Count(lines, "\n")
	header, values, length := make(http.Header, count), make([]string, count), int64(0)
	for lines != "" {
		var name, value string
		if name, value, lines = plainLine(lines); name == "" {
			return nil
		}
		key := http.CanonicalHeaderKey(name)
		switch key {
		case "Transfer-Encoding", "Trailer", "Pragma": // ReadResponse has rules of its own for the last, too
			return nil
		case "Connection":
			if value != "keep-alive" {
				return nil
			}
		case "Content-Length":
			n, err := strconv.ParseUint(value, 10, 63)
			if err != nil || n == 0 || length > 0 {
				return nil
			}
			length = int64(n) //nolint:gosec // of 63 bits
		}
		if have := header[key]; have != nil {
			header[key] = append(have, value)
			continue
		}
		values[0] = value
		header[key], values = values[:1:1], values[1:]
	}
	if length == 0 {
		return nil
	}
	_, _ = l.in.Discard(size + len(end)) // cannot fail: it is here
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, ContentLength: length, Body: &sized{in: l.in, left: length},
	}
}

// plainLine cuts the first line off; name is empty unless the line is a plain one.
func plainLine(lines string) (name, value, rest string) {
	text, rest, _ := strings.Cut(lines, "\r\n")
	name, value, ok := strings.Cut(text, ":")
	for i := range len(name) {
		if c := name[i]; (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' {
			ok = false
		}
	}
	for i := range len(value) {
		if c := value[i]; (c < ' ' && c != '\t') || c > '~' {
			ok = false
		}
	}
	if !ok {
		return "", "", rest
	}
	return name, strings.Trim(value, " \t"), rest
}

// sized is a body of a known length.
type sized struct {
	in   *bufio.Reader
	left int64 // bytes
}

// Read implements io.Reader. The end comes with the last bytes.
func (s *sized) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.in.Read(p[:min(int64(len(p)), s.left)])
	if s.left -= int64(n); s.left == 0 {
		return n, io.EOF
	}
	if err == io.EOF { //nolint:errorlint // the reader's own word for the end
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close implements io.Closer: the connection is the exchange's to close.
func (s *sized) Close() error { return nil }
