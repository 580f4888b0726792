package sso_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/sso"
)

// scripted is an identity provider that says whatever a test wants.
type scripted struct {
	*httptest.Server

	mu       sync.Mutex
	keys     []jose.JSONWebKey // published
	document map[string]any    // what discovery says beside the usual
	tokens   map[string]any    // the token endpoint's answer
	hang     bool
	huge     bool
	to       string // discovery redirects there
	keyReads atomic.Int32
	form     url.Values // of the last exchange
	basic    string
}

func newScripted(t *testing.T) *scripted {
	p := &scripted{document: map[string]any{}}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case p.hang:
			p.mu.Unlock()
			<-r.Context().Done()
			p.mu.Lock()
			return
		case p.to != "":
			http.Redirect(w, r, p.to, http.StatusFound)
			return
		}
		doc := map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256", "ES256", "HS256", "none"}, "authorization_response_iss_parameter_supported": true,
		}
		for k, v := range p.document {
			doc[k] = v
		}
		if p.huge {
			doc["x"] = strings.Repeat("x", 10<<20)
		}
		answer(w, doc)
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		p.keyReads.Add(1)
		p.mu.Lock()
		defer p.mu.Unlock()
		answer(w, jose.JSONWebKeySet{Keys: p.keys})
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		_ = r.ParseForm()
		p.form = r.Form
		p.basic, _, _ = r.BasicAuth()
		answer(w, p.tokens)
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// signer signs tokens.
type signer struct {
	alg jose.SignatureAlgorithm
	key any
	kid string
}

func (s signer) sign(t *testing.T, claims map[string]any) string {
	t.Helper()
	o := &jose.SignerOptions{}
	if s.kid != "" {
		o.WithHeader("kid", s.kid)
	}
	maker, err := jose.NewSigner(jose.SigningKey{Algorithm: s.alg, Key: s.key}, o)
	require.NoError(t, err)
	raw, err := json.Marshal(claims)
	require.NoError(t, err)
	signed, err := maker.Sign(raw)
	require.NoError(t, err)
	out, err := signed.CompactSerialize()
	require.NoError(t, err)
	return out
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	require.NoError(t, err)
	return k
}

func published(kid, alg string, key crypto.PublicKey) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key, KeyID: kid, Algorithm: alg, Use: "sig"}
}

var anywhere = sso.Network{Check: func(*url.URL) error { return nil }, Dial: (&net.Dialer{}).DialContext} //nolint:gochecknoglobals // a constant

type rig struct {
	t        *testing.T
	provider *scripted
	verifier *sso.Verifier
	party    sso.Party
	flow     sso.Flow
	signer   signer
	now      time.Time
	ahead    atomic.Int64
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, provider: newScripted(t), now: time.Now().Truncate(time.Second)}
	key := rsaKey(t, 2048)
	r.signer = signer{jose.RS256, key, "k1"}
	r.provider.keys = []jose.JSONWebKey{published("k1", "RS256", key.Public())}
	v, err := sso.NewVerifier(anywhere, r.clock)
	require.NoError(t, err)
	r.verifier = v
	r.party = sso.Party{
		Issuer: policy.Issuer{ID: "idp_1", Name: "Test", URL: r.provider.URL, ClientID: "promptgate", Scopes: []string{"openid", "email"}, GroupClaim: "groups"},
		Secret: "secret", RedirectURL: "https://gate.example/callback",
	}
	r.flow = sso.Flow{Issuer: "idp_1", State: "state", Nonce: "nonce", Verifier: strings.Repeat("v", 43), EndsAt: r.now.Add(10 * time.Minute)}
	return r
}

func (r *rig) clock() time.Time { return r.now.Add(time.Duration(r.ahead.Load())) }

func (r *rig) claims(change map[string]any) map[string]any {
	out := map[string]any{
		"iss": r.provider.URL, "aud": "promptgate", "sub": "ana", "nonce": "nonce", "iat": r.now.Unix(), "exp": r.now.Add(5 * time.Minute).Unix(),
		"email": "ana@example.com", "email_verified": true, "name": "Ana", "groups": []string{"a", "b"}, "sid": "s1",
	}
	for k, v := range change {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

func (r *rig) come(token any) (policy.Assertion, error) {
	r.provider.mu.Lock()
	r.provider.tokens = map[string]any{"access_token": "at", "token_type": "Bearer", "id_token": token}
	r.provider.mu.Unlock()
	a, _, err := r.verifier.Come(r.t.Context(), r.party, r.flow, sso.Return{State: "state", Code: "code", Issuer: r.provider.URL})
	return a, err
}

func TestAGoodTokenIsTaken(t *testing.T) {
	r := newRig(t)
	to, err := r.verifier.Leave(t.Context(), r.party, r.flow)
	require.NoError(t, err)
	u, err := url.Parse(to)
	require.NoError(t, err)
	q := u.Query()
	sum := sha256.Sum256([]byte(r.flow.Verifier))
	require.Equal(t, base64.RawURLEncoding.EncodeToString(sum[:]), q.Get("code_challenge"))
	require.Equal(t, "S256", q.Get("code_challenge_method"))
	require.Equal(t, []string{"state", "nonce", "code", "promptgate", "openid email", "https://gate.example/callback"},
		[]string{q.Get("state"), q.Get("nonce"), q.Get("response_type"), q.Get("client_id"), q.Get("scope"), q.Get("redirect_uri")})
	a, err := r.come(r.signer.sign(t, r.claims(nil)))
	require.NoError(t, err)
	require.Equal(t, policy.Assertion{Issuer: "idp_1", Subject: "ana", Email: "ana@example.com", Verified: true, Name: "Ana", Groups: []string{"a", "b"}}, a)
	require.Equal(t, r.flow.Verifier, r.provider.form.Get("code_verifier"))
	require.Equal(t, "promptgate", r.provider.basic)

	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	r.ahead.Store(int64(31 * time.Second))
	r.provider.mu.Lock()
	r.provider.keys = append(r.provider.keys, published("k2", "ES256", ec.Public()))
	r.provider.mu.Unlock()
	for name, c := range map[string]struct {
		by     signer
		claims map[string]any
	}{
		"by another algorithm that it announces": {signer{jose.ES256, ec, "k2"}, nil},
		"for several, made for us":               {r.signer, map[string]any{"aud": []string{"x", "promptgate"}, "azp": "promptgate"}},
		"issued by a clock that is 59 s ahead":   {r.signer, map[string]any{"iat": r.clock().Add(59 * time.Second).Unix(), "exp": r.clock().Add(5 * time.Minute).Unix()}},
		"ended 59 s ago":                         {r.signer, map[string]any{"exp": r.clock().Add(-59 * time.Second).Unix()}},
		"without groups":                         {r.signer, map[string]any{"groups": nil}},
		"with one group":                         {r.signer, map[string]any{"groups": "a"}},
		"with a good at_hash":                    {r.signer, map[string]any{"at_hash": halfHash("at")}},
	} {
		_, err := r.come(c.by.sign(t, r.claims(c.claims)))
		require.NoError(t, err, name)
	}
	for name, c := range map[string]struct {
		claims map[string]any
		want   bool
	}{
		"nothing": {map[string]any{"email_verified": nil}, false}, "false": {map[string]any{"email_verified": false}, false}, "a word": {map[string]any{"email_verified": "true"}, true},
		"a wrong word": {map[string]any{"email_verified": "false"}, false}, "Entra's": {map[string]any{"email_verified": nil, "xms_edov": true}, true},
	} {
		a, err := r.come(r.signer.sign(t, r.claims(c.claims)))
		require.NoError(t, err, name)
		require.Equal(t, c.want, a.Verified, name)
	}
}

func halfHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// TestBrokenTokens is every way to make a token that is not good, which we know of.
func TestBrokenTokens(t *testing.T) {
	r := newRig(t)
	good := r.signer.sign(t, r.claims(nil))
	_, err := r.come(good)
	require.NoError(t, err)
	other := rsaKey(t, 2048)
	public, err := x509.MarshalPKIXPublicKey(r.provider.keys[0].Key)
	require.NoError(t, err)
	modulus := r.provider.keys[0].Key.(*rsa.PublicKey).N.Bytes()
	parts := strings.Split(good, ".")
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	forged, err := json.Marshal(r.claims(map[string]any{"sub": "root"}))
	require.NoError(t, err)
	with := func(k string, v any) string { return r.signer.sign(t, r.claims(map[string]any{k: v})) }
	for name, token := range map[string]any{
		"no token":                         nil,
		"not a text":                       7,
		"nonsense":                         "x.y.z",
		"another audience":                 with("aud", "somebody"),
		"no audience":                      with("aud", nil),
		"another issuer":                   with("iss", "https://evil.example"),
		"an issuer with a slash":           with("iss", r.provider.URL+"/"),
		"another nonce":                    with("nonce", "other"),
		"no nonce":                         with("nonce", nil),
		"expired 61 s ago":                 with("exp", r.now.Add(-61*time.Second).Unix()),
		"no expiry":                        with("exp", nil),
		"issued in 61 s":                   with("iat", r.now.Add(61*time.Second).Unix()),
		"not issued":                       with("iat", nil),
		"issued two days ago":              with("iat", r.now.Add(-48*time.Hour).Unix()),
		"not good yet":                     with("nbf", r.now.Add(61*time.Second).Unix()),
		"nobody":                           with("sub", nil),
		"a subject that is too long":       with("sub", strings.Repeat("x", 300)),
		"for several, made for nobody":     with("aud", []string{"promptgate", "x"}),
		"made for somebody else":           with("azp", "x"),
		"another access token":             with("at_hash", halfHash("other")),
		"groups that are none":             with("groups", map[string]any{"a": 1}),
		"groups that are left out":         with("_claim_names", map[string]any{"groups": "src1"}),
		"none":                             encode(`{"alg":"none"}`) + "." + encode(string(forged)) + ".",
		"None":                             encode(`{"alg":"None","kid":"k1"}`) + "." + encode(string(forged)) + ".",
		"none with a signature":            encode(`{"alg":"none","kid":"k1"}`) + "." + encode(string(forged)) + "." + parts[2],
		"no signature":                     parts[0] + "." + parts[1] + ".",
		"another payload":                  parts[0] + "." + encode(string(forged)) + "." + parts[2],
		"RS to HS by the public key":       signer{jose.HS256, public, "k1"}.sign(t, r.claims(nil)),
		"RS to HS by the modulus":          signer{jose.HS256, modulus, "k1"}.sign(t, r.claims(nil)),
		"an algorithm that is not its own": signer{jose.PS256, r.signer.key, "k1"}.sign(t, r.claims(nil)),
		"an unknown kid":                   signer{jose.RS256, other, "k9"}.sign(t, r.claims(nil)),
		"an unknown kid, a known key":      signer{jose.RS256, r.signer.key, "k9"}.sign(t, r.claims(nil)),
		"somebody else's key by its kid":   signer{jose.RS256, other, "k1"}.sign(t, r.claims(nil)),
		"no kid, by somebody else's key":   signer{jose.RS256, other, ""}.sign(t, r.claims(nil)),
		"too long":                         with("x", strings.Repeat("x", 70_000)),
	} {
		_, err := r.come(token)
		require.Equal(t, fault.PermissionDenied, fault.CodeOf(err), "%s: %v", name, err)
	}
	require.LessOrEqual(t, r.provider.keyReads.Load(), int32(2), "tokens of unknown keys have the keys read again at most now and then")
}

func TestWhatComesBackFitsWhatLeft(t *testing.T) {
	r := newRig(t)
	r.provider.tokens = map[string]any{"access_token": "at", "token_type": "Bearer", "id_token": r.signer.sign(t, r.claims(nil))}
	good := sso.Return{State: "state", Code: "code", Issuer: r.provider.URL}
	for name, change := range map[string]func(f *sso.Flow, b *sso.Return, p *sso.Party){
		"another state":                func(f *sso.Flow, b *sso.Return, p *sso.Party) { b.State = "other" },
		"no state on either side":      func(f *sso.Flow, b *sso.Return, p *sso.Party) { f.State, b.State = "", "" },
		"a flow of another issuer":     func(f *sso.Flow, b *sso.Return, p *sso.Party) { f.Issuer = "idp_2" },
		"too late":                     func(f *sso.Flow, b *sso.Return, p *sso.Party) { f.EndsAt = r.now },
		"another issuer's answer":      func(f *sso.Flow, b *sso.Return, p *sso.Party) { b.Issuer = "https://evil.example" },
		"no issuer, though it says so": func(f *sso.Flow, b *sso.Return, p *sso.Party) { b.Issuer = "" },
		"an error":                     func(f *sso.Flow, b *sso.Return, p *sso.Party) { b.Error = "server_error" },
		"refused there":                func(f *sso.Flow, b *sso.Return, p *sso.Party) { b.Error = "access_denied" },
		"no code":                      func(f *sso.Flow, b *sso.Return, p *sso.Party) { b.Code = "" },
		"no nonce that was sent":       func(f *sso.Flow, b *sso.Return, p *sso.Party) { f.Nonce = "" },
	} {
		f, b, p := r.flow, good, r.party
		change(&f, &b, &p)
		_, _, err := r.verifier.Come(t.Context(), p, f, b)
		require.Equal(t, fault.PermissionDenied, fault.CodeOf(err), "%s: %v", name, err)
	}
	_, _, err := r.verifier.Come(t.Context(), r.party, r.flow, good)
	require.NoError(t, err)
}

func TestKeysRotate(t *testing.T) {
	r := newRig(t)
	_, err := r.come(r.signer.sign(t, r.claims(nil)))
	require.NoError(t, err)
	fresh := rsaKey(t, 2048)
	by := signer{jose.RS256, fresh, "k2"}
	r.provider.mu.Lock()
	r.provider.keys = []jose.JSONWebKey{published("k2", "RS256", fresh.Public())}
	r.provider.mu.Unlock()
	r.ahead.Store(int64(31 * time.Second))
	_, err = r.come(by.sign(t, r.claims(nil)))
	require.NoError(t, err, "a key that is unknown has them read again")
	_, err = r.come(r.signer.sign(t, r.claims(nil)))
	require.Equal(t, fault.PermissionDenied, fault.CodeOf(err), "the one that was taken away is not believed")
	reads := r.provider.keyReads.Load()
	for range 20 {
		_, err = r.come(signer{jose.RS256, rsaKey(t, 2048), "k3"}.sign(t, r.claims(nil)))
		require.Error(t, err)
	}
	require.LessOrEqual(t, r.provider.keyReads.Load(), reads+1)
	weak := rsaKey(t, 1024)
	r.provider.mu.Lock()
	r.provider.keys = append(r.provider.keys, published("weak", "RS256", weak.Public()), jose.JSONWebKey{Key: []byte(strings.Repeat("s", 32)), KeyID: "oct", Algorithm: "HS256"})
	r.provider.mu.Unlock()
	r.ahead.Store(int64(2 * time.Minute))
	raw, err := json.Marshal(r.claims(nil))
	require.NoError(t, err)
	body := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"weak"}`)) + "." + base64.RawURLEncoding.EncodeToString(raw)
	sum := sha256.Sum256([]byte(body))
	signature, err := rsa.SignPKCS1v15(nil, weak, crypto.SHA256, sum[:]) // go-jose makes none by such a key
	require.NoError(t, err)
	_, err = r.come(body + "." + base64.RawURLEncoding.EncodeToString(signature))
	require.Error(t, err)
	_, err = r.come(signer{jose.HS256, []byte(strings.Repeat("s", 32)), "oct"}.sign(t, r.claims(nil)))
	require.Error(t, err, "also when the provider announces it, and publishes the secret")
}

// TestProvidersFaults: what a provider does wrong is answered in bounded time and memory by one that says so.
func TestProvidersFaults(t *testing.T) {
	for name, wrong := range map[string]func(p *scripted){
		"10 MB":                      func(p *scripted) { p.huge = true },
		"down":                       func(p *scripted) { p.CloseClientConnections(); p.Close() },
		"another issuer":             func(p *scripted) { p.document["issuer"] = "https://evil.example" },
		"no keys":                    func(p *scripted) { p.document["jwks_uri"] = "" },
		"no endpoint":                func(p *scripted) { p.document["token_endpoint"] = "" },
		"secrets alone":              func(p *scripted) { p.document["id_token_signing_alg_values_supported"] = []string{"HS256", "none"} },
		"redirects without end":      func(p *scripted) { p.to = p.URL + "/.well-known/openid-configuration" },
		"redirects to the metadata":  func(p *scripted) { p.to = "http://169.254.169.254/latest/meta-data" },
		"redirects to a private one": func(p *scripted) { p.to = "http://10.0.0.1/" },
		"endpoints at a private one": func(p *scripted) { p.document["token_endpoint"] = "http://10.0.0.1/token" },
		"keys at a private one":      func(p *scripted) { p.document["jwks_uri"] = "http://10.0.0.1/keys" },
		"redirects to a private one that would answer": func(p *scripted) {
			there := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(map[string]string{"issuer": p.URL, "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys"})
			}))
			t.Cleanup(there.Close)
			p.to = there.URL
		},
		"sign-in at a private one": func(p *scripted) { p.document["authorization_endpoint"] = "http://10.0.0.1/auth" },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			host, err := url.Parse(r.provider.URL)
			require.NoError(t, err)
			var refusals atomic.Int32
			v, err := sso.NewVerifier(sso.Network{Dial: anywhere.Dial, Check: func(u *url.URL) error {
				if u.Host != host.Host {
					refusals.Add(1)
					return fmt.Errorf("%s is not allowed", u.Host)
				}
				return nil
			}}, nil)
			require.NoError(t, err)
			wrong(r.provider)
			for range 2 {
				_, err = v.Leave(t.Context(), r.party, r.flow)
				require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err), "%v", err)
			}
			require.Equal(t, strings.Contains(name, "private") || strings.Contains(name, "metadata"), refusals.Load() > 0)
		})
	}
}

func TestASlowProviderHoldsNobodyUp(t *testing.T) {
	r := newRig(t)
	r.provider.hang = true
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := r.verifier.Leave(ctx, r.party, r.flow)
	require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err))
	_, err = r.verifier.Leave(t.Context(), r.party, r.flow) // without waiting: it has just failed
	require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err))
	r.provider.mu.Lock()
	r.provider.hang = false
	r.provider.mu.Unlock()
	r.ahead.Store(int64(3 * time.Second))
	_, err = r.verifier.Leave(t.Context(), r.party, r.flow)
	require.NoError(t, err, "it is asked again soon")
}

func TestADialThatIsRefused(t *testing.T) {
	r := newRig(t)
	blocked := errors.New("private")
	v, err := sso.NewVerifier(sso.Network{Check: anywhere.Check, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, blocked }}, nil)
	require.NoError(t, err)
	_, err = v.Leave(t.Context(), r.party, r.flow)
	require.ErrorIs(t, err, blocked)
	require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err))
}

func TestLogoutTokens(t *testing.T) {
	r := newRig(t)
	const event = "http://schemas.openid.net/event/backchannel-logout"
	token := func(change map[string]any) string {
		c := map[string]any{
			"iss": r.provider.URL, "aud": "promptgate", "sub": "ana", "sid": "s1", "jti": "j1", "iat": r.now.Unix(), "exp": r.now.Add(time.Minute).Unix(),
			"events": map[string]any{event: map[string]any{}},
		}
		for k, v := range change {
			if v == nil {
				delete(c, k)
			} else {
				c[k] = v
			}
		}
		return r.signer.sign(t, c)
	}
	got, err := r.verifier.Logout(t.Context(), r.party, token(nil))
	require.NoError(t, err)
	require.Equal(t, []string{"j1", "ana", "s1"}, []string{got.ID, got.Subject, got.Session})
	require.True(t, got.EndsAt.After(r.now.Add(2*time.Minute)), "longer than the token is taken")
	for _, half := range []string{"sub", "sid"} {
		_, err = r.verifier.Logout(t.Context(), r.party, token(map[string]any{half: nil}))
		require.NoError(t, err)
	}
	for name, raw := range map[string]string{
		"an ID token":      r.signer.sign(t, r.claims(nil)),
		"no event":         token(map[string]any{"events": nil}),
		"another event":    token(map[string]any{"events": map[string]any{"x": 1}}),
		"a nonce":          token(map[string]any{"nonce": "x"}),
		"no id":            token(map[string]any{"jti": nil}),
		"nobody":           token(map[string]any{"sub": nil, "sid": nil}),
		"another audience": token(map[string]any{"aud": "x"}),
		"another issuer":   token(map[string]any{"iss": "https://evil.example"}),
		"expired":          token(map[string]any{"exp": r.now.Add(-2 * time.Minute).Unix()}),
		"old":              token(map[string]any{"exp": nil, "iat": r.now.Add(-time.Hour).Unix()}),
		"somebody's key":   signer{jose.RS256, rsaKey(t, 2048), "k1"}.sign(t, map[string]any{"iss": r.provider.URL}),
		"nonsense":         "x",
	} {
		_, err := r.verifier.Logout(t.Context(), r.party, raw)
		require.Equal(t, fault.PermissionDenied, fault.CodeOf(err), "%s: %v", name, err)
	}
}
