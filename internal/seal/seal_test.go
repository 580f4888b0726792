package seal_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/testenv"
)

func newSealer(t testing.TB) *seal.Sealer {
	t.Helper()
	return testenv.Sealer(t, testenv.Open(t, testenv.SQLite(t)))
}

var place = seal.Bind{Table: "registry_versions", Row: "42", Column: "text", Project: "p1"}

func anyBind(rt *rapid.T, label string) seal.Bind {
	// A small alphabet with separators makes collisions of a careless encoding likely.
	s := rapid.StringMatching(`[ab:/\x00]{0,3}`)
	return seal.Bind{
		Table: s.Draw(rt, label+"Table"), Row: s.Draw(rt, label+"Row"),
		Column: s.Draw(rt, label+"Column"), Project: s.Draw(rt, label+"Project"),
	}
}

func TestRoundTrip(t *testing.T) {
	s := newSealer(t)
	rapid.Check(t, func(rt *rapid.T) {
		plain, b := rapid.SliceOf(rapid.Byte()).Draw(rt, "plain"), anyBind(rt, "b")
		sealed, err := s.Seal(plain, b)
		require.NoError(rt, err)
		require.Len(rt, sealed, len(plain)+seal.Overhead)
		opened, err := s.Open(sealed, b)
		require.NoError(rt, err)
		require.True(rt, bytes.Equal(plain, opened))
	})
}

func TestOpensOnlyInItsPlace(t *testing.T) {
	s := newSealer(t)
	rapid.Check(t, func(rt *rapid.T) {
		a, b := anyBind(rt, "a"), anyBind(rt, "b")
		sealed, err := s.Seal([]byte("secret"), a)
		require.NoError(rt, err)
		_, err = s.Open(sealed, b)
		if a == b {
			require.NoError(rt, err)
		} else {
			require.ErrorIs(rt, err, seal.ErrOpen)
		}
	})
}

func TestEachFieldBinds(t *testing.T) {
	s := newSealer(t)
	sealed, err := s.Seal([]byte("secret"), place)
	require.NoError(t, err)
	for name, change := range map[string]func(*seal.Bind){
		"table":   func(b *seal.Bind) { b.Table += "x" },
		"row":     func(b *seal.Bind) { b.Row = "43" },
		"column":  func(b *seal.Bind) { b.Column = "" },
		"project": func(b *seal.Bind) { b.Project = "p2" },
		"shifted": func(b *seal.Bind) { b.Table, b.Row = b.Table+b.Row, "" },
	} {
		t.Run(name, func(t *testing.T) {
			other := place
			change(&other)
			_, err := s.Open(sealed, other)
			require.ErrorIs(t, err, seal.ErrOpen)
		})
	}
}

func TestEveryBitMatters(t *testing.T) {
	s := newSealer(t)
	sealed, err := s.Seal([]byte("secret"), place)
	require.NoError(t, err)
	for i := range len(sealed) * 8 {
		altered := bytes.Clone(sealed)
		altered[i/8] ^= 1 << (i % 8)
		_, err := s.Open(altered, place)
		require.ErrorIs(t, err, seal.ErrOpen, "bit %d", i)
	}
	for n := range sealed {
		_, err := s.Open(sealed[:n], place)
		require.ErrorIs(t, err, seal.ErrOpen, "cut to %d bytes", n)
	}
	_, err = s.Open(append(bytes.Clone(sealed), 0), place)
	require.ErrorIs(t, err, seal.ErrOpen)
}

func TestErrorsTellNothing(t *testing.T) {
	s := newSealer(t)
	sealed, err := s.Seal([]byte("canary"), place)
	require.NoError(t, err)
	sealed[len(sealed)-1] ^= 1
	_, err = s.Open(sealed, place)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "canary")
	assert.False(t, strings.Contains(string(sealed), "canary"))
}

func TestSealingTwiceDiffers(t *testing.T) {
	s := newSealer(t)
	a, err := s.Seal([]byte("same"), place)
	require.NoError(t, err)
	b, err := s.Seal([]byte("same"), place)
	require.NoError(t, err)
	require.NotEqual(t, a, b)
}

func TestDerivedKeysDifferByPurposeAndInstallation(t *testing.T) {
	s, other := newSealer(t), newSealer(t)
	require.Len(t, s.DeriveKey("a"), 32)
	require.Equal(t, s.DeriveKey("a"), s.DeriveKey("a"))
	require.NotEqual(t, s.DeriveKey("a"), s.DeriveKey("b"))
	require.NotEqual(t, s.DeriveKey("a"), other.DeriveKey("a"))
}

func TestConcurrentUse(t *testing.T) {
	s := newSealer(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			plain := bytes.Repeat([]byte{byte(g)}, 20_000)
			for range 50 {
				sealed, err := s.Seal(plain, place)
				assert.NoError(t, err)
				opened, err := s.Open(sealed, place)
				assert.NoError(t, err)
				assert.True(t, bytes.Equal(plain, opened))
			}
		})
	}
	wg.Wait()
}

func BenchmarkOpen32KiB(b *testing.B) {
	s := newSealer(b)
	sealed, err := s.Seal(make([]byte, 32<<10), place)
	require.NoError(b, err)
	b.SetBytes(32 << 10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Open(sealed, place); err != nil {
			b.Fatal(err)
		}
	}
}
