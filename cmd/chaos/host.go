package main

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// host stands in for a test, so that internal/testenv starts its servers for this program too. It implements what testenv uses; the
// rest of testing.TB is nil.
type host struct {
	testing.TB
	ctx      context.Context //nolint:containedctx // testing.TB has it so
	cleanups []func()
}

// fatal is what Fatal panics with; guarded makes it an error.
type fatal string

func newHost(ctx context.Context) *host { return &host{ctx: ctx} }

// Helper implements testing.TB.
func (h *host) Helper() {}

// Context implements testing.TB.
func (h *host) Context() context.Context { return h.ctx }

// Cleanup implements testing.TB; like a test's, it is for the goroutine that runs the program.
func (h *host) Cleanup(f func()) { h.cleanups = append(h.cleanups, f) }

// Fatal implements testing.TB.
func (h *host) Fatal(args ...any) { panic(fatal(fmt.Sprint(args...))) }

// Fatalf implements testing.TB.
func (h *host) Fatalf(format string, args ...any) { panic(fatal(fmt.Sprintf(format, args...))) }

// Skip implements testing.TB: a program does not skip what it is for.
func (h *host) Skip(args ...any) { h.Fatal(args...) }

// TempDir implements testing.TB.
func (h *host) TempDir() string {
	dir, err := os.MkdirTemp("", "promptgate-chaos-")
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (h *host) end() {
	for i := len(h.cleanups) - 1; i >= 0; i-- {
		h.cleanups[i]()
	}
	h.cleanups = nil
}
