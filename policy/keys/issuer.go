package keys

import (
	"context"
	"io"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

// Issuer creates keys: it makes the secret, stores what may be stored of it, and hands the plaintext to its caller once.
type Issuer struct {
	Store  policy.KeyStore
	Hasher *Hasher
	Random io.Reader // crypto/rand.Reader
}

// Create issues a key with what k chooses (project, name, roles, grants, networks, expiry); see policy.KeyStore.CreateKey for granter
// and errors.
func (i Issuer) Create(ctx context.Context, by journal.Origin, granter *policy.Principal, k policy.KeyRecord) (policy.KeyRecord, Issued, error) {
	issued, err := i.Hasher.Issue(i.Random)
	if err != nil {
		return policy.KeyRecord{}, Issued{}, err
	}
	k.Lookup, k.Hash, k.LastFour = issued.Lookup, issued.Hash, issued.LastFour
	k, err = i.Store.CreateKey(ctx, by, granter, k)
	if err != nil {
		return policy.KeyRecord{}, Issued{}, err
	}
	return k, issued, nil
}
