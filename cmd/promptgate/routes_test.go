package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The hash of a user is an HMAC-SHA-256 of project, NUL and name, cut to 128 bits: what is in ledgers already must be found again.
func TestUserHash(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	hash := userHash(key)
	for _, user := range []string{"ada", "", "bob", strings.Repeat("x", 3*maxIdleUser), "ada"} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte("p\x00" + user))
		require.Equal(t, base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16]), hash("p", user))
	}
	require.NotEqual(t, hash("p", "ada"), hash("q", "ada"))
}
