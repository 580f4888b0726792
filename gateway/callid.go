package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"strings"
	"sync"
	"time"
)

// A call id is "call_" and 48 characters of base32: 6 bytes of Unix milliseconds (so that ids sort by time and stay close together
// in an index), 9 random bytes, 5 bytes that tell whose call it was to those who know the principal's id, and 10 bytes of MAC over the
// project and those 20.
const (
	callPrefix = "call_"
	callStamp  = 6
	callNonce  = 9
	callOwner  = 5
	callMAC    = 10
	callSeed   = callStamp + callNonce
	callHead   = callSeed + callOwner
	callRaw    = callHead + callMAC
)

// A feedback token is "fbt_" and base64url of: 5 bytes of expiry (Unix seconds), the call's 30 raw bytes, 16 bytes of MAC over all the rest,
// and the project, which a browser without a key has no other way to name.
const (
	tokenPrefix = "fbt_"
	tokenExpiry = 5
	tokenMAC    = 16
	tokenHead   = tokenExpiry + callRaw
	maxProject  = 128
)

// Crockford's alphabet: no letter that reads like a digit.
const (
	idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	noDigit    = 0xff
)

// CallIDs mints and verifies the ids of calls and the tokens that score one call without a key. Both carry a MAC of their project,
// so a foreign or made-up one is known without a look-up. Safe for concurrent use.
type CallIDs struct {
	random io.Reader
	now    func() time.Time
	enc    *base32.Encoding
	digits [256]byte // by their characters in idAlphabet; noDigit for others
	calls  sync.Pool // of *macer
	tokens sync.Pool
}

// NewCallIDs derives its two keys, at least 16 bytes each, with derive (seal.Sealer.DeriveKey); random and now must not be nil.
func NewCallIDs(derive func(purpose string) []byte, random io.Reader, now func() time.Time) (*CallIDs, error) {
	if derive == nil || random == nil || now == nil {
		return nil, errors.New("gateway: call ids need a key, randomness and a clock")
	}
	callKey, tokenKey := derive("call-id"), derive("feedback-token")
	if len(callKey) < 16 || len(tokenKey) < 16 {
		return nil, errors.New("gateway: keys for call ids are shorter than 16 bytes")
	}
	c := &CallIDs{
		random: random, now: now,
		enc:    base32.NewEncoding(idAlphabet).WithPadding(base32.NoPadding),
		calls:  sync.Pool{New: func() any { return &macer{h: hmac.New(sha256.New, callKey)} }},
		tokens: sync.Pool{New: func() any { return &macer{h: hmac.New(sha256.New, tokenKey)} }},
	}
	for i := range c.digits {
		c.digits[i] = noDigit
	}
	for i := range len(idAlphabet) {
		c.digits[idAlphabet[i]] = byte(i)
	}
	return c, nil
}

// Mint returns a new id for a call of this principal; both are "" for callers that could not be identified.
func (c *CallIDs) Mint(project, principal string) (string, error) {
	m := c.calls.Get().(*macer)
	defer c.calls.Put(m)
	raw := &m.raw
	var stamp [8]byte
	binary.BigEndian.PutUint64(stamp[:], uint64(c.now().UnixMilli()))
	copy(raw[:callStamp], stamp[8-callStamp:])
	if _, err := io.ReadFull(c.random, raw[callStamp:callSeed]); err != nil {
		return "", err
	}
	owner := ownerOf(raw[:callSeed], principal)
	copy(raw[callSeed:callHead], owner[:])
	m.mac(raw[callHead:], project, raw[:callHead])

	var out [len(callPrefix) + callRaw*8/5]byte
	copy(out[:], callPrefix)
	c.enc.Encode(out[len(callPrefix):], raw[:])
	return string(out[:]), nil
}

// Derive returns the id of a record about something of this principal's that a provider made at a moment: the same one whoever asks, so that it is recorded once.
func (c *CallIDs) Derive(project, principal, made string, at time.Time) string {
	var raw [callRaw]byte
	var stamp [8]byte
	binary.BigEndian.PutUint64(stamp[:], uint64(max(0, at.UnixMilli())))
	copy(raw[:callStamp], stamp[8-callStamp:])
	sum := sha256.Sum256([]byte("made\x00" + project + "\x00" + made))
	copy(raw[callStamp:callSeed], sum[:])
	owner := ownerOf(raw[:callSeed], principal)
	copy(raw[callSeed:callHead], owner[:])
	c.mac(raw[callHead:], &c.calls, project, raw[:callHead])
	return callPrefix + c.enc.EncodeToString(raw[:])
}

// Verify reports whether id was minted for this project, in constant time for ids of the right shape.
func (c *CallIDs) Verify(project, id string) bool {
	raw, ok := c.decode(id)
	return ok && c.genuine(project, raw)
}

// Owned reports whether id was minted for this project and this principal, so that scoring one's own call takes no look-up.
func (c *CallIDs) Owned(project, principal, id string) bool {
	raw, ok := c.decode(id)
	return ok && c.genuine(project, raw) && ownerOf(raw[:callSeed], principal) == [callOwner]byte(raw[callSeed:callHead])
}

// ownerOf is a checksum (FNV-1a), no secret: the MAC beside it keeps it from being changed, and the seed from linking two calls of one key.
func ownerOf(seed []byte, principal string) (owner [callOwner]byte) {
	const offset, prime = 14695981039346656037, 1099511628211
	sum := uint64(offset)
	for _, b := range seed {
		sum = (sum ^ uint64(b)) * prime
	}
	for i := range len(principal) {
		sum = (sum ^ uint64(principal[i])) * prime
	}
	var all [8]byte
	binary.BigEndian.PutUint64(all[:], sum)
	copy(owner[:], all[8-callOwner:])
	return owner
}

func (c *CallIDs) genuine(project string, raw [callRaw]byte) bool {
	var want [callMAC]byte
	c.mac(want[:], &c.calls, project, raw[:callHead])
	return hmac.Equal(want[:], raw[callHead:])
}

// Token returns a token that scores just this call, which Mint gave to this project, until ttl has passed; "" for a malformed id.
func (c *CallIDs) Token(project, id string, ttl time.Duration) string {
	raw, ok := c.decode(id)
	if !ok || len(project) > maxProject {
		return ""
	}
	var b [tokenHead + tokenMAC + maxProject]byte
	var expiry [8]byte
	binary.BigEndian.PutUint64(expiry[:], uint64(c.now().Add(ttl).Unix()))
	copy(b[:tokenExpiry], expiry[8-tokenExpiry:])
	copy(b[tokenExpiry:], raw[:])
	c.mac(b[tokenHead:tokenHead+tokenMAC], &c.tokens, project, b[:tokenHead])
	n := tokenHead + tokenMAC + copy(b[tokenHead+tokenMAC:], project)

	var out [len(tokenPrefix) + (tokenHead+tokenMAC+maxProject)*4/3 + 4]byte
	copy(out[:], tokenPrefix)
	base64.RawURLEncoding.Encode(out[len(tokenPrefix):], b[:n])
	return string(out[:len(tokenPrefix)+base64.RawURLEncoding.EncodedLen(n)])
}

// ReadToken returns the project and the call that a token scores; ok is false for one that is forged or expired.
func (c *CallIDs) ReadToken(token string) (project, id string, ok bool) {
	text, found := strings.CutPrefix(token, tokenPrefix)
	if !found || len(text) > base64.RawURLEncoding.EncodedLen(tokenHead+tokenMAC+maxProject) {
		return "", "", false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < tokenHead+tokenMAC {
		return "", "", false
	}
	project = string(b[tokenHead+tokenMAC:])
	var want [tokenMAC]byte
	c.mac(want[:], &c.tokens, project, b[:tokenHead])
	if !hmac.Equal(want[:], b[tokenHead:tokenHead+tokenMAC]) {
		return "", "", false
	}
	var expiry [8]byte
	copy(expiry[8-tokenExpiry:], b[:tokenExpiry])
	if c.now().Unix() > int64(binary.BigEndian.Uint64(expiry[:])) {
		return "", "", false
	}
	return project, callPrefix + c.enc.EncodeToString(b[tokenExpiry:tokenHead]), true
}

// decode reads the bytes of an id, without the memory that base32's own Decode takes: each call's token is made of them.
func (c *CallIDs) decode(id string) (raw [callRaw]byte, ok bool) {
	text, found := strings.CutPrefix(id, callPrefix)
	if !found || len(text) != callRaw*8/5 {
		return raw, false
	}
	for at := 0; len(text) > 0; text = text[8:] { // eight characters are five bytes
		var bits uint64
		for i := range 8 {
			digit := c.digits[text[i]]
			if digit == noDigit {
				return raw, false
			}
			bits = bits<<5 | uint64(digit)
		}
		for i := range 5 {
			raw[at+i] = byte(bits >> (32 - 8*i))
		}
		at += 5
	}
	return raw, true
}

// macer is one HMAC with the memory it works in, so that a MAC allocates nothing.
type macer struct {
	h   hash.Hash
	in  []byte
	sum [sha256.Size]byte
	raw [callRaw]byte // of an id that is being minted
}

// mac fills dst with the MAC of data under a project. data has one length per key, so nothing can slide between the two.
func (m *macer) mac(dst []byte, project string, data []byte) {
	m.in = append(append(m.in[:0], data...), project...)
	m.h.Reset()
	m.h.Write(m.in)
	copy(dst, m.h.Sum(m.sum[:0]))
}

// mac is a macer's, with one that is idle.
func (c *CallIDs) mac(dst []byte, pool *sync.Pool, project string, data []byte) {
	m := pool.Get().(*macer)
	m.mac(dst, project, data)
	pool.Put(m)
}
