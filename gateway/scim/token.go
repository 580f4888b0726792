package scim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
)

// A token reads scim_<lookup><secret>_<checksum>: 80 bits that find it, 160 bits that prove it, and the CRC-32 of what stands before the second _.
const (
	prefix      = "scim_"
	lookupChars = 16
	bodyChars   = 48
	crcChars    = 7
	alphabet    = "abcdefghijklmnopqrstuvwxyz234567"

	// HashPurpose is what the hashing key is derived for: seal.Sealer.DeriveKey(HashPurpose).
	HashPurpose = "scim-token"
)

// Tokens makes tokens and proves them by a keyed hash, which is all that is kept.
type Tokens struct{ key []byte }

// NewTokens takes a secret of 32 bytes that every replica shares.
func NewTokens(key []byte) (*Tokens, error) {
	if len(key) < sha256.Size {
		return nil, errors.New("scim: the key for hashing tokens is too short")
	}
	return &Tokens{append([]byte(nil), key...)}, nil
}

// Issue makes a token from a source of randomness.
func (t *Tokens) Issue(random io.Reader) (token, lookup string, hash []byte, err error) {
	raw := make([]byte, bodyChars*5/8)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", "", nil, fault.Wrap(err, fault.Internal, "There is no randomness to make a token from.")
	}
	body := prefix + base32.NewEncoding(alphabet).EncodeToString(raw)
	token = body + "_" + checksum(body)
	return token, body[len(prefix):][:lookupChars], t.sum(token), nil
}

func (t *Tokens) sum(token string) []byte {
	mac := hmac.New(sha256.New, t.key)
	mac.Write([]byte(token))
	return mac.Sum(nil)
}

// Verify compares in constant time.
func (t *Tokens) Verify(token string, hash []byte) bool { return hmac.Equal(t.sum(token), hash) }

// Parse finds the lookup part of a token. ok is false for whatever is none or has a typo.
func Parse(token string) (lookup string, ok bool) {
	if len(token) != len(prefix)+bodyChars+1+crcChars || !strings.HasPrefix(token, prefix) {
		return "", false
	}
	body, sum := token[:len(prefix)+bodyChars], token[len(prefix)+bodyChars:]
	if sum != "_"+checksum(body) || strings.Trim(body[len(prefix):], alphabet) != "" {
		return "", false
	}
	return body[len(prefix):][:lookupChars], true
}

func checksum(body string) string {
	s := strconv.FormatUint(uint64(crc32.ChecksumIEEE([]byte(body))), 36)
	return strings.Repeat("0", crcChars-len(s)) + s
}
