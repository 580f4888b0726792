package signin

import (
	"context"
	"errors"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

// maxClientSecret bounds what is sealed, in bytes.
const maxClientSecret = 4096

// Provider is an identity provider.
func (s *Service) Provider(ctx context.Context, id string) (policy.Issuer, error) {
	return s.Store.IssuerByID(ctx, id)
}

// Providers are the identity providers.
func (s *Service) Providers(ctx context.Context) ([]policy.Issuer, error) {
	return s.Store.ListIssuers(ctx)
}

// AddProvider adds an identity provider. An empty secret makes this gateway a public client of it, which has PKCE alone.
func (s *Service) AddProvider(ctx context.Context, by journal.Origin, i policy.Issuer, secret string) (policy.Issuer, error) {
	if err := s.Verifier.Check(i.URL); err != nil {
		return i, err
	}
	i.ID = policy.NewIssuerID()
	if err := s.sealSecret(&i, secret); err != nil {
		return i, err
	}
	return s.Store.CreateIssuer(ctx, by, i)
}

// ChangeProvider writes an identity provider as i is. A nil secret stays, an empty one is taken away.
func (s *Service) ChangeProvider(ctx context.Context, by journal.Origin, i policy.Issuer, secret *string) (policy.Issuer, error) {
	if secret != nil {
		if err := s.sealSecret(&i, *secret); err != nil {
			return i, err
		}
	}
	return s.Store.UpdateIssuer(ctx, by, i)
}

// RemoveProvider takes an identity provider away, with its domains and who is linked to it. Their sessions end; their accounts stay.
func (s *Service) RemoveProvider(ctx context.Context, by journal.Origin, id string, revision int64) error {
	return s.Store.DeleteIssuer(ctx, by, id, revision)
}

func (s *Service) sealSecret(i *policy.Issuer, secret string) (err error) {
	if len(secret) > maxClientSecret {
		return fault.New(fault.InvalidRequest, "A client secret has at most %d bytes.", maxClientSecret).WithParam("client_secret")
	}
	i.Secret = nil
	if secret == "" {
		return nil
	}
	if i.Secret, err = s.Sealer.Seal([]byte(secret), policy.IssuerBind(i.ID)); err != nil {
		return fault.Wrap(err, fault.Internal, "The client secret could not be sealed.")
	}
	return nil
}

// TryProvider asks an identity provider what it is and for its keys, now. problem says, for whoever looks after the gateway, why nobody could sign in
// through it; "" when they can.
func (s *Service) TryProvider(ctx context.Context, id string) (problem string, err error) {
	i, err := s.Store.IssuerByID(ctx, id)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, providerTime)
	defer cancel()
	if err = s.Verifier.Try(ctx, i.URL); err == nil {
		return "", nil
	}
	var f *fault.Error
	if errors.As(err, &f) && f.Err != nil {
		return f.Err.Error(), nil
	}
	return err.Error(), nil
}
