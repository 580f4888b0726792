package sso

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	keysFor      = time.Hour        // how long a provider's keys are believed: one that it took away is not, after that
	keysAgain    = 30 * time.Second // an unknown key has them read again, this often at the most
	maxKeys      = 100
	minRSA       = 2048 // bits
	maxTokenSize = 64 << 10
)

var errUnknownKey = errors.New("sso: the token is signed by a key that the provider does not publish")

// keySet is what a provider signs with. It implements oidc.KeySet.
type keySet struct {
	url    string
	client *http.Client
	clock  func() time.Time
	allow  []jose.SignatureAlgorithm

	mu      sync.Mutex // held while they are read: those who come meanwhile wait for the same
	keys    []jose.JSONWebKey
	good    bool
	readAt  time.Time // when they were last read
	triedAt time.Time // … or it was tried
	againAt time.Time // … because of a key that was not among them
}

// VerifySignature checks a token's signature by the key that it names, and returns what was signed.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	if len(token) > maxTokenSize {
		return nil, errors.New("sso: the token is too long")
	}
	signed, err := jose.ParseSignedCompact(token, k.allow) // an algorithm that is not among them, or none, ends it here
	if err != nil {
		return nil, fmt.Errorf("sso: the token cannot be read: %w", err)
	}
	head := signed.Signatures[0].Header
	for again := false; ; again = true {
		keys, err := k.current(ctx, again)
		if err != nil {
			return nil, err
		}
		for _, key := range fitting(keys, head) {
			if payload, err := signed.Verify(key); err == nil {
				return payload, nil
			}
		}
		if again {
			return nil, errUnknownKey
		}
	}
}

// fitting are the keys that may have made a signature: of the id that it names, for its algorithm. Without an id, each that is for the algorithm.
func fitting(keys []jose.JSONWebKey, head jose.Header) []jose.JSONWebKey {
	var out []jose.JSONWebKey
	for _, key := range keys {
		if (head.KeyID == "" || key.KeyID == head.KeyID) && (key.Algorithm == "" || key.Algorithm == head.Algorithm) {
			out = append(out, key)
		}
	}
	return out
}

// current are the provider's keys. again has them read once more, unless that was done a moment ago.
func (k *keySet) current(ctx context.Context, again bool) ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock()
	age := now.Sub(k.readAt)
	switch {
	case k.good && age < keysFor && (!again || now.Sub(k.againAt) < keysAgain):
		return k.keys, nil
	case !k.good && !k.triedAt.IsZero() && now.Sub(k.triedAt) < time.Second: // it has just failed
		return nil, unreachable(errors.New("its keys could not be read a moment ago"))
	}
	k.triedAt = now
	if again {
		k.againAt = now
	}
	var set jose.JSONWebKeySet
	if err := getJSON(ctx, k.client, k.url, &set); err != nil {
		if k.good && age < keysFor {
			return k.keys, nil
		}
		k.good = false
		return nil, unreachable(err)
	}
	k.keys, k.good, k.readAt = usable(set.Keys), true, now
	return k.keys, nil
}

// usable leaves out what no signature is checked by: secrets, keys for encryption, and those that are too weak.
func usable(keys []jose.JSONWebKey) []jose.JSONWebKey {
	keys = slices.DeleteFunc(keys, func(key jose.JSONWebKey) bool {
		return !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig" || weak(key.Key)
	})
	return keys[:min(len(keys), maxKeys)]
}

// getJSON reads an answer of bounded length.
func getJSON(ctx context.Context, client *http.Client, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answered %d", resp.StatusCode)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
