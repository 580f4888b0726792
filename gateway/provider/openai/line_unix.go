//go:build unix

package openai

import "syscall"

// quiet reports whether an idle connection is open and nothing has come over it.
func quiet(raw syscall.RawConn) (yes bool) {
	err := raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		yes = err == syscall.EAGAIN //nolint:errorlint // an errno as it comes from the kernel
		return true
	})
	return err == nil && yes
}
