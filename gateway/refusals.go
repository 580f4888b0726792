package gateway

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promptgate/promptgate/gateway/wire"
)

const (
	maxRefusal    = 16 << 10  // how much of a refusal is read to find out what it is about
	rememberFor   = time.Hour // that a provider refuses what we add; then it is asked again
	maxRemembered = 1000      // providers; beyond, each call finds out for itself
)

// additionRefusals remembers the providers that refused what we add to streams to learn their usage.
type additionRefusals struct {
	any   atomic.Bool
	mu    sync.RWMutex
	until map[[2]string]time.Time // by project and provider
}

func (r *additionRefusals) remember(project, provider string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil {
		r.until = map[[2]string]time.Time{}
	}
	for key, until := range r.until {
		if now.After(until) {
			delete(r.until, key)
		}
	}
	if len(r.until) < maxRemembered {
		r.until[[2]string{project, provider}] = now.Add(rememberFor)
		r.any.Store(true)
	}
}

func (r *additionRefusals) remembers(project, provider string, now time.Time) bool {
	if !r.any.Load() {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	until, known := r.until[[2]string{project, provider}]
	return known && now.Before(until)
}

// blamesAddition reports whether a refusal may be about the field that we added: it names it, or complains of a field without saying which.
func blamesAddition(said []byte, added wire.Edit) bool {
	said = bytes.ToLower(said)
	if bytes.Contains(said, []byte(added.Name)) {
		return true
	}
	for _, word := range []string{"include_usage", "unknown", "unrecognized", "unrecognised", "unexpected", "unsupported", "not supported", "extra", "not permitted", "not allowed"} {
		if bytes.Contains(said, []byte(word)) {
			return true
		}
	}
	return false
}

// readBack is a body whose beginning was read already.
type readBack struct {
	io.Reader
	io.Closer
}

// errorReader ends a reading with the error that it had before.
type errorReader struct{ err error }

// Read implements io.Reader.
func (e errorReader) Read([]byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	return 0, io.EOF
}
