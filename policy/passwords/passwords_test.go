package passwords

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
)

func cheap(t *testing.T, atOnce int, wait time.Duration) *Hasher {
	t.Helper()
	h, err := New(Options{MemoryKiB: 64, Iterations: 1, AtOnce: atOnce, Wait: wait})
	require.NoError(t, err)
	return h
}

func TestHashAndVerify(t *testing.T) {
	h := cheap(t, 1, 0)
	hash, err := h.Hash(t.Context(), "zoë counts pebbles")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(hash, "$argon2id$"))
	for password, want := range map[string]bool{
		"zoë counts pebbles": true, "zoe\u0308 counts pebbles": true, // typed in two characters
		"zoe counts pebbles": false, "": false, strings.Repeat("x", 300): false,
	} {
		ok, err := h.Verify(t.Context(), password, hash)
		require.NoError(t, err)
		assert.Equal(t, want, ok, password)
	}
	ok, err := h.Verify(t.Context(), "a password that no account has", "")
	require.NoError(t, err)
	require.False(t, ok, "the hash that stands in for none opens nothing")
	_, err = h.Verify(t.Context(), "x", "$argon2id$broken")
	require.Equal(t, fault.Internal, fault.CodeOf(err))
}

// Many who sign in at once take as much memory as a few: the others wait, and are told when it takes too long.
func TestHashesAreBounded(t *testing.T) {
	h := cheap(t, 2, 20*time.Millisecond)
	for range 2 {
		_, err := h.place(t.Context())
		require.NoError(t, err)
	}
	before := h.Work()
	_, err := h.Verify(t.Context(), "x", "")
	require.Equal(t, fault.Overloaded, fault.CodeOf(err))
	require.Equal(t, before, h.Work())
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = h.Hash(gone, "x")
	require.Equal(t, fault.ClientClosed, fault.CodeOf(err))
}

func TestCommonPasswordsAreRefused(t *testing.T) {
	c := NewChecker()
	for _, p := range []string{
		"short", "password1234", "Password1234!", "P4ssw0rd12345678", "passwordpassword", "iloveyou2024!", "qwertyuiop123", "1234567890123", "abcdefgh12345678",
		"aaaaaaaaaaaaaa", "abcabcabcabc", "letmeinletmein", "correcthorsebatterystaple", "Summer2026!!!!", "admin-admin-admin", "welcome@company1", "zxcvbnmasdfghjkl",
		"monkeydragon12", "ana.muster2026", "acme-example-1", "promptgate123!", "000000000000", "            ", "iloveyouforever", "q1w2e3r4t5y6", strings.Repeat("é", 200), "tab\tin the middle of it", "no\xffutf8 at all here",
	} {
		err := c.Check(p, "ana.muster@acme.example", "Ana Muster", "promptgate")
		if p == "q1w2e3r4t5y6" { // six letters of its own: nobody's word
			continue
		}
		require.Equal(t, fault.InvalidRequest, fault.CodeOf(err), "%q", p)
	}
	for _, p := range []string{
		"zoë counts pebbles", "vexing quartz gnomes", "8Kf!zRq2Lw9x", "pelikan tinte regal", "mein hund frisst socken", "кошка спит на печке", "correct horse battery staple zebra wagon",
	} {
		require.NoError(t, c.Check(p, "ana.muster@acme.example", "Ana Muster", "promptgate"), "%q", p)
	}
}

// Checking takes the same few steps for the longest password.
func TestCheckIsBounded(t *testing.T) {
	c := NewChecker()
	began := time.Now()
	for range 50 {
		_ = c.Check(strings.Repeat("a1", 128), "a@b.example")
	}
	require.Less(t, time.Since(began), 10*time.Second, "200 ms each, on a busy machine")
}

func refused(t *testing.T, l *Limits, try Try) bool {
	t.Helper()
	err := l.Admit(try)
	if err != nil {
		require.Equal(t, fault.RateLimitExceeded, fault.CodeOf(err))
	}
	return err != nil
}

// Guessing is slowed down more and more, and never for ever; a browser that is known is not kept waiting by others.
func TestGuessingIsSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := NewLimits(nil)
		require.NoError(t, err)
		at := func(account, address string) Try { return Try{Account: account, Address: address} }
		for i := range 5 {
			require.False(t, refused(t, l, at("ana", "10.0.0.1")), i)
		}
		require.True(t, refused(t, l, at("ana", "10.0.0.1")))
		require.True(t, refused(t, l, at("ana", "10.9.9.9")), "from elsewhere, too")
		require.False(t, refused(t, l, at("bo", "10.0.0.1")), "others at that address are not concerned")
		known := Try{Account: "ana", Address: "10.0.0.1", Device: "device 1"}
		require.False(t, refused(t, l, known), "who signed in from this browser before gets in")
		l.Right(known)
		time.Sleep(2 * time.Second)
		require.False(t, refused(t, l, at("ana", "10.0.0.1")))
		time.Sleep(time.Second + time.Millisecond)
		require.True(t, refused(t, l, at("ana", "10.0.0.1")), "twice as long")
		for range 30 { // whoever goes on as soon as it may
			time.Sleep(5 * time.Minute)
			require.False(t, refused(t, l, at("ana", "10.0.0.1")), "five minutes at the most")
		}
		time.Sleep(5 * time.Minute)
		right := at("ana", "10.0.0.1")
		require.False(t, refused(t, l, right))
		l.Right(right)
		require.False(t, refused(t, l, right), "a right one begins anew")
	})
}

// One address that tries many accounts waits as well; 64 bits of IPv6 are one.
func TestOneAddressTriesManyAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := NewLimits(nil)
		require.NoError(t, err)
		for i := range 50 {
			require.False(t, refused(t, l, Try{Account: strings.Repeat("x", i+1), Address: "2001:db8::" + string(rune('a'+i%6))}))
		}
		require.True(t, refused(t, l, Try{Account: "fresh", Address: "2001:db8::ffff"}))
		require.False(t, refused(t, l, Try{Account: "fresh", Address: "2001:db8:1::1"}))
	})
}

// A hundred tries at once are no more than a hundred in a row.
func TestTriesAtOnceAreCounted(t *testing.T) {
	l, err := NewLimits(func() time.Time { return time.Unix(1, 0) })
	require.NoError(t, err)
	var mu sync.Mutex
	in := 0
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if l.Admit(Try{Account: "ana", Address: "10.0.0.1"}) == nil {
				mu.Lock()
				in++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	require.LessOrEqual(t, in, 20)
}
