//go:build !unix

package openai

import "syscall"

// quiet cannot be told here: a connection that the upstream has closed fails its next request before it was answered, which is tried again.
func quiet(syscall.RawConn) bool { return true }
