package gateway_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
)

// TestNoCallThatCannotBeRecorded: without room for its record a call is refused before a provider is asked, unless the operator chose otherwise; and
// every promise of room is given back, whatever came of the call.
func TestNoCallThatCannotBeRecorded(t *testing.T) {
	e := newEnv(t)
	promises := func(e *env) int {
		e.recorder.mu.Lock()
		defer e.recorder.mu.Unlock()
		return e.recorder.promises
	}
	fill := func(e *env, err error) {
		e.recorder.mu.Lock()
		defer e.recorder.mu.Unlock()
		e.recorder.full = err
	}
	require.Equal(t, http.StatusOK, e.chat(plainCall).status)
	require.Equal(t, http.StatusForbidden, e.chat(plainCall, "Authorization", "Bearer prompts").status)
	e.upstream.set(respondJSON(500, `{}`))
	require.Equal(t, http.StatusBadGateway, e.chat(plainCall, "X-Stainless-Retry-Count", "1").status)
	require.Eventually(t, func() bool { return promises(e) == 0 }, 5*time.Second, time.Millisecond)

	fill(e, fault.New(fault.StorageFull, "The disk is full."))
	asked := e.upstream.count()
	a := e.chat(plainCall)
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Equal(t, "overloaded", a.code())
	require.NotContains(t, a.message(), "disk", "what our disk does is no caller's business")
	require.Equal(t, asked, e.upstream.count())

	careless := newEnv(t, func(s *setup) { s.opts.ServeUnrecorded = true })
	fill(careless, fault.New(fault.StorageFull, "The disk is full."))
	require.Equal(t, http.StatusOK, careless.chat(plainCall).status)
	require.Zero(t, promises(careless))
}
