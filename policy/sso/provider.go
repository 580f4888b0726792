package sso

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/promptgate/promptgate/internal/fault"
)

// provider is what an issuer said of itself.
type provider struct {
	issuer   string
	endpoint oauth2.Endpoint
	keys     *keySet
	namesIss bool // its answers name the issuer (RFC 9207)
	readAt   time.Time
}

// metadata is what is read of the discovery document beside what go-oidc takes.
type metadata struct {
	Issuer     string   `json:"issuer"`
	Auth       string   `json:"authorization_endpoint"`
	Token      string   `json:"token_endpoint"`
	Keys       string   `json:"jwks_uri"`
	Algorithms []string `json:"id_token_signing_alg_values_supported"`
	NamesIss   bool     `json:"authorization_response_iss_parameter_supported"`
	AuthBy     []string `json:"token_endpoint_auth_methods_supported"`
}

// asymmetric are the algorithms that we take at all. Whoever could check a signature of another kind could also make it.
func asymmetric() []string {
	return []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}
}

// unreachable is what people read when a provider does not answer as it should.
func unreachable(err error) error {
	return fault.Wrap(err, fault.RegistryUnavailable, "The identity provider cannot be reached, or does not answer as it should: try again shortly, or tell whoever looks after promptgate.")
}

// discover asks an issuer what it is.
func (v *Verifier) discover(ctx context.Context, issuer string) (*provider, error) {
	at, err := url.Parse(issuer)
	if err != nil {
		return nil, unreachable(err)
	}
	if err := v.network.Check(at); err != nil {
		return nil, unreachable(err)
	}
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, v.client), issuer)
	if err != nil {
		return nil, unreachable(err)
	}
	var m metadata
	if err := found.Claims(&m); err != nil {
		return nil, unreachable(err)
	}
	for what, address := range map[string]string{"authorization_endpoint": m.Auth, "token_endpoint": m.Token, "jwks_uri": m.Keys} {
		if address == "" {
			return nil, unreachable(fmt.Errorf("it names no %s", what))
		}
		u, err := url.Parse(address)
		if err == nil {
			err = v.network.Check(u)
		}
		if err != nil {
			return nil, unreachable(fmt.Errorf("its %s: %w", what, err))
		}
	}
	announced := m.Algorithms
	if len(announced) == 0 {
		announced = []string{oidc.RS256} // which every provider has to know
	}
	var allow []jose.SignatureAlgorithm
	for _, name := range announced {
		if slices.Contains(asymmetric(), name) {
			allow = append(allow, jose.SignatureAlgorithm(name))
		}
	}
	if len(allow) == 0 {
		return nil, unreachable(fmt.Errorf("it signs by none of %s", strings.Join(asymmetric(), ", ")))
	}
	p := &provider{
		issuer: issuer, endpoint: found.Endpoint(), namesIss: m.NamesIss, readAt: v.clock(),
		keys: &keySet{url: m.Keys, client: v.client, clock: v.clock, allow: allow},
	}
	p.endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if len(m.AuthBy) > 0 && !slices.Contains(m.AuthBy, "client_secret_basic") {
		p.endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return p, nil
}

// weak reports whether a key is not one that signatures are checked by.
func weak(key any) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() < minRSA
	case *ecdsa.PublicKey:
		return k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521()
	case ed25519.PublicKey:
		return false
	}
	return true
}
