package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
)

var errFrame = errors.New("not the Redis protocol")

// maxFrame bounds one frame, with all that is nested in it.
const maxFrame = 16 << 20

// readFrame reads one whole value of the Redis protocol (2 or 3), a command among them, as its bytes.
func readFrame(r *bufio.Reader, into []byte) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return into, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return into, errFrame
	}
	kind, count := line[0], -1
	if bytes.IndexByte([]byte("$!=*~>%|"), kind) >= 0 {
		if count, err = strconv.Atoi(string(line[1 : len(line)-2])); err != nil || count > maxFrame {
			return into, errFrame
		}
	}
	into = append(into, line...)
	switch kind {
	case '$', '!', '=':
		if count < 0 {
			return into, nil
		}
		at := len(into)
		into = append(into, make([]byte, count+2)...)
		_, err = io.ReadFull(r, into[at:])
		return into, err
	case '%', '|':
		count *= 2
	case '+', '-', ':', ',', '_', '#', '(', '*', '~', '>':
	default:
		return into, errFrame
	}
	for range count {
		if into, err = readFrame(r, into); err != nil || len(into) > maxFrame {
			return into, errors.Join(err)
		}
	}
	return into, nil
}

// isMessage says whether a frame from the server is word of a publication, and not an answer.
func isMessage(frame []byte) bool {
	if len(frame) == 0 || frame[0] != '*' && frame[0] != '>' {
		return false
	}
	_, rest, _ := bytes.Cut(frame, []byte("\r\n"))
	return bytes.HasPrefix(rest, []byte("$7\r\nmessage\r\n")) || bytes.HasPrefix(rest, []byte("$8\r\nsmessage\r\n"))
}
