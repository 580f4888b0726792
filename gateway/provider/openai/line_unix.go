//go:build unix

package openai

import "syscall"

const peeks = true

// quiet reports whether an idle connection is open and nothing has come over it.
func (l *line) quiet() bool {
	l.silent = false
	if l.peek == nil {
		l.peek = l.peekAt // once: it stands on the heap
	}
	return l.raw.Read(l.peek) == nil && l.silent
}

func (l *line) peekAt(fd uintptr) bool {
	_, _, err := syscall.Recvfrom(int(fd), l.probe[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	l.silent = err == syscall.EAGAIN //nolint:errorlint // an errno as it comes from the kernel
	return true
}
