// Package passwords hashes passwords within bounds, refuses those that everybody tries first, and slows down whoever guesses.
package passwords

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/alexedwards/argon2id"

	"github.com/promptgate/promptgate/internal/fault"
)

// Hasher makes and checks argon2id hashes, a few at a time: each takes memory and a core for as long as it lasts, and strangers ask for them.
type Hasher struct {
	params argon2id.Params
	places chan struct{}
	wait   time.Duration
	nobody string // the hash of a password that nobody has
	work   atomic.Int64
}

// Options tune a Hasher; every field may be left zero.
type Options struct {
	MemoryKiB  uint32        // of one hash; 0 means 64 MiB
	Iterations uint32        // 0 means 2
	AtOnce     int           // 0 means one for each two cores, at least one
	Wait       time.Duration // how long a caller waits for a place; 0 means 3 s
}

// New makes a Hasher.
func New(o Options) (*Hasher, error) {
	if o.MemoryKiB == 0 {
		o.MemoryKiB = 64 << 10
	}
	if o.Iterations == 0 {
		o.Iterations = 2
	}
	if o.AtOnce <= 0 {
		o.AtOnce = max(1, runtime.NumCPU()/2)
	}
	if o.Wait <= 0 {
		o.Wait = 3 * time.Second
	}
	h := &Hasher{
		params: argon2id.Params{Memory: o.MemoryKiB, Iterations: o.Iterations, Parallelism: 1, SaltLength: 16, KeyLength: 32},
		places: make(chan struct{}, o.AtOnce), wait: o.Wait,
	}
	var err error
	h.nobody, err = argon2id.CreateHash("a password that no account has", &h.params)
	return h, err
}

// place waits for one's turn (Overloaded when it takes too long).
func (h *Hasher) place(ctx context.Context) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, h.wait)
	defer cancel()
	select {
	case h.places <- struct{}{}:
		h.work.Add(1)
		return func() { <-h.places }, nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, fault.Wrap(ctx.Err(), fault.ClientClosed, "The request was cancelled.")
		}
		return nil, fault.New(fault.Overloaded, "Too many people sign in at this moment: try again shortly.")
	}
}

// Hash is the hash to keep of a password that Check let through.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	leave, err := h.place(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	hash, err := argon2id.CreateHash(normal(password), &h.params)
	if err != nil {
		return "", fault.Wrap(err, fault.Internal, "The password could not be hashed.")
	}
	return hash, nil
}

// Verify reports whether a password is the one that hash was made of. With "", for an account that is not there or has no password, it does the same
// work and reports false.
func (h *Hasher) Verify(ctx context.Context, password, hash string) (bool, error) {
	leave, err := h.place(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	none := hash == ""
	if none {
		hash = h.nobody
	}
	if len(password) > maxBytes { // it was never taken
		password, none = password[:maxBytes], true
	}
	ok, err := argon2id.ComparePasswordAndHash(normal(password), hash)
	if err != nil {
		return false, fault.Wrap(err, fault.Internal, "The stored password cannot be read.")
	}
	return ok && !none, nil
}

// Work counts the hashes that were computed.
func (h *Hasher) Work() int64 { return h.work.Load() }
