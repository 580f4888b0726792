// Package keys makes API keys and recognises them: their format, their keyed hash, and the authenticator that answers warm
// requests without asking a database.
package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"

	"github.com/promptgate/promptgate/internal/fault"
)

// A key reads pg_<lookup><secret>_<crc>, in lowercase letters and the digits 2 to 7:
//
//	pg_ | 16 characters, 80 bits: finds the record | 32 characters, 160 bits: proves it | _ | 7 characters: CRC-32 of all before the second _
//
// The checksum finds typos without asking anybody, and lets scanners for leaked secrets tell a key from a lookalike.
const (
	prefix      = "pg_"
	lookupBytes = 10
	secretBytes = 20
	lookupChars = lookupBytes * 8 / 5
	bodyChars   = (lookupBytes + secretBytes) * 8 / 5
	crcChars    = 7

	// Length is how many bytes every key has.
	Length = len(prefix) + bodyChars + 1 + crcChars

	alphabet = "abcdefghijklmnopqrstuvwxyz234567"

	// HashPurpose is what the hashing key is derived for: seal.Sealer.DeriveKey(HashPurpose).
	HashPurpose = "api-key"
	// MinHashKey is the least length of a hashing key, in bytes.
	MinHashKey = 32
)

// Issued is a new key. Plaintext is shown once, to the one who asked for it, and kept nowhere.
type Issued struct {
	Plaintext string
	Lookup    string // 16 characters, not secret
	Hash      []byte // 32 bytes
	LastFour  string // of Plaintext: the end of the checksum, so that nothing of the secret is given away
}

// String keeps the plaintext out of messages.
func (i Issued) String() string { return prefix + i.Lookup + "…" + i.LastFour }

// GoString keeps the plaintext out of %#v.
func (i Issued) GoString() string { return i.String() }

// LogValue keeps the plaintext out of logs.
func (i Issued) LogValue() slog.Value { return slog.StringValue(i.String()) }

// Hasher computes the keyed hash that is stored instead of a key: who steals the database can neither use nor test keys.
type Hasher struct{ key []byte }

// NewHasher takes the secret of at least MinHashKey bytes that every replica shares.
func NewHasher(key []byte) (*Hasher, error) {
	if len(key) < MinHashKey {
		return nil, fmt.Errorf("the key for hashing API keys has %d bytes: it must have %d", len(key), MinHashKey)
	}
	return &Hasher{key: append([]byte(nil), key...)}, nil
}

// Sum is the keyed hash of a whole key, 32 bytes.
func (h *Hasher) Sum(token string) []byte {
	mac := hmac.New(sha256.New, h.key)
	mac.Write([]byte(token))
	return mac.Sum(nil)
}

// Verify compares in constant time.
func (h *Hasher) Verify(token string, hash []byte) bool { return hmac.Equal(h.Sum(token), hash) }

// Issue makes a new key from a source of randomness (crypto/rand.Reader).
func (h *Hasher) Issue(random io.Reader) (Issued, error) {
	raw := make([]byte, lookupBytes+secretBytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return Issued{}, fault.Wrap(err, fault.Internal, "There is no randomness to make a key from.")
	}
	body := prefix + base32.NewEncoding(alphabet).WithPadding(base32.NoPadding).EncodeToString(raw)
	sum := checksum(body)
	token := body + "_" + string(sum[:])
	return Issued{
		Plaintext: token, Lookup: token[len(prefix):][:lookupChars], Hash: h.Sum(token), LastFour: token[len(token)-4:],
	}, nil
}

// Parse finds the lookup part of a key without asking anybody. ok is false for whatever is no key or has a typo.
func Parse(token string) (lookup string, ok bool) {
	if len(token) != Length || token[:len(prefix)] != prefix || token[len(prefix)+bodyChars] != '_' {
		return "", false
	}
	for i := len(prefix); i < len(prefix)+bodyChars; i++ {
		if c := token[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return "", false
		}
	}
	if sum := checksum(token[:len(prefix)+bodyChars]); string(sum[:]) != token[Length-crcChars:] {
		return "", false
	}
	return token[len(prefix):][:lookupChars], true
}

// checksum is the CRC-32 (IEEE) of body, 32 bits in 7 characters: the last one holds 2 bits and 3 zeros, so there is one spelling.
func checksum(body string) (out [crcChars]byte) {
	crc := ^uint32(0)
	for i := range len(body) { // crc32.ChecksumIEEE would have every request allocate a copy of its key
		crc = crc32.IEEETable[byte(crc)^body[i]] ^ crc>>8
	}
	bits := uint64(^crc) << 3
	for i := range out {
		out[i] = alphabet[bits>>(5*(crcChars-1-i))&31]
	}
	return out
}
