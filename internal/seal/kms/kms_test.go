package kms_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/seal/kms"
	"github.com/promptgate/promptgate/internal/testenv"
)

// service is a key management service in a few lines: it keeps what was encrypted by key and context, and fails as it is told.
type service struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex
	kept    map[string]kept // by ciphertext
	version int             // of the key
	fail    []failure       // of the next requests
	asked   int
}

type kept struct {
	key, context string
	version      int
	plain        []byte
}

type failure struct {
	status   int
	body     string
	location string
	hang     bool
}

func (s *service) start(t *testing.T, h http.HandlerFunc) *service {
	s.t, s.kept, s.version = t, map[string]kept{}, 1
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked++
		if len(s.fail) > 0 {
			f := s.fail[0]
			s.fail = s.fail[1:]
			if f.hang {
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
				return
			}
			if f.location != "" {
				w.Header().Set("Location", f.location)
			}
			w.WriteHeader(f.status)
			_, _ = io.WriteString(w, f.body)
			return
		}
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) failing(f ...failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.asked = f, 0
}

const (
	awsID, awsSecret, awsToken = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session-token"
	awsRegion                  = "eu-central-1"
)

// signed checks a request's SigV4 signature, made anew from what arrived.
func signed(r *http.Request, body []byte) error {
	auth := r.Header.Get("Authorization")
	var credential, names, signature string
	for _, part := range strings.Split(strings.TrimPrefix(auth, "AWS4-HMAC-SHA256 "), ", ") {
		name, value, _ := strings.Cut(part, "=")
		switch name {
		case "Credential":
			credential = value
		case "SignedHeaders":
			names = value
		case "Signature":
			signature = value
		}
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > 5*time.Minute {
		return fmt.Errorf("the date is missing or not near: %w", err)
	}
	scope := at.Format("20060102") + "/" + awsRegion + "/kms/aws4_request"
	if credential != awsID+"/"+scope {
		return fmt.Errorf("credential %q", credential)
	}
	if r.Header.Get("X-Amz-Security-Token") != awsToken {
		return fmt.Errorf("no session token")
	}
	for _, must := range []string{"host", "x-amz-date", "x-amz-target", "x-amz-security-token"} {
		if !strings.Contains(";"+names+";", ";"+must+";") {
			return fmt.Errorf("%s is not signed", must)
		}
	}
	sum := sha256.Sum256(body)
	canonical := r.Method + "\n" + r.URL.EscapedPath() + "\n" + r.URL.RawQuery + "\n"
	for _, name := range strings.Split(names, ";") {
		value := r.Header.Get(name)
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		canonical += name + ":" + strings.TrimSpace(value) + "\n"
	}
	canonical += "\n" + names + "\n" + hex.EncodeToString(sum[:])
	hash := sha256.Sum256([]byte(canonical))
	mac := func(key []byte, text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	key := mac(mac(mac(mac([]byte("AWS4"+awsSecret), at.Format("20060102")), awsRegion), "kms"), "aws4_request")
	want := hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n"+r.Header.Get("X-Amz-Date")+"\n"+scope+"\n"+hex.EncodeToString(hash[:])))
	if want != signature {
		return fmt.Errorf("signature")
	}
	return nil
}

func refuse(w http.ResponseWriter, name, message string) {
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": "com.amazonaws.kms#" + name, "message": message})
}

// newAWS is AWS KMS with the keys k1 and k2.
func newAWS(t *testing.T) *service {
	t.Setenv("AWS_ACCESS_KEY_ID", awsID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", awsSecret)
	t.Setenv("AWS_SESSION_TOKEN", awsToken)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	s := &service{}
	return s.start(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := signed(r, body); err != nil {
			refuse(w, "InvalidSignatureException", err.Error())
			return
		}
		var in struct {
			KeyID, Plaintext, CiphertextBlob string
			EncryptionContext                map[string]string
		}
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" || json.Unmarshal(body, &in) != nil {
			refuse(w, "SerializationException", "no request")
			return
		}
		about := fmt.Sprint(in.EncryptionContext)
		if in.KeyID != "k1" && in.KeyID != "k2" {
			refuse(w, "NotFoundException", "no such key")
			return
		}
		if in.EncryptionContext["app"] != "promptgate" {
			refuse(w, "AccessDeniedException", "the key's policy asks for the context")
			return
		}
		switch r.Header.Get("X-Amz-Target") {
		case "TrentService.Encrypt":
			plain, err := base64.StdEncoding.DecodeString(in.Plaintext)
			if err != nil || len(plain) == 0 {
				refuse(w, "ValidationException", "no plaintext")
				return
			}
			blob := fmt.Sprintf("%s#%d", in.KeyID, len(s.kept))
			s.kept[blob] = kept{in.KeyID, about, s.version, plain}
			_ = json.NewEncoder(w).Encode(map[string]any{"CiphertextBlob": []byte(blob), "KeyId": in.KeyID})
		case "TrentService.Decrypt":
			blob, err := base64.StdEncoding.DecodeString(in.CiphertextBlob)
			k, ok := s.kept[string(blob)]
			switch {
			case err != nil || !ok || k.context != about:
				refuse(w, "InvalidCiphertextException", "")
			case k.key != in.KeyID:
				refuse(w, "IncorrectKeyException", "another key")
			default:
				_ = json.NewEncoder(w).Encode(map[string]any{"Plaintext": k.plain, "KeyId": in.KeyID})
			}
		default:
			refuse(w, "UnknownOperationException", "")
		}
	})
}

func awsOf(t *testing.T, s *service, key string) *kms.AWS {
	t.Helper()
	a, err := kms.NewAWS(t.Context(), kms.AWSOptions{KeyID: key, Region: awsRegion, Endpoint: s.URL, Timeout: 3 * time.Second})
	require.NoError(t, err)
	return a
}

// newVault is a transit engine at team/transit with the keys k1 and k2, in a namespace.
func newVault(t *testing.T) *service {
	s := &service{}
	say := func(w http.ResponseWriter, status int, errs ...string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string][]string{"errors": errs})
	}
	return s.start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") != "hvs.token" || r.Header.Get("X-Vault-Namespace") != "team-a" || r.Header.Get("X-Vault-Request") != "true" {
			say(w, http.StatusForbidden, "permission denied")
			return
		}
		var in struct{ Plaintext, Ciphertext string }
		body, _ := io.ReadAll(r.Body)
		operation, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/team/transit/"), "/")
		if r.Method != http.MethodPost || json.Unmarshal(body, &in) != nil || !strings.HasPrefix(r.URL.Path, "/v1/team/transit/") {
			say(w, http.StatusNotFound, "no handler for route")
			return
		}
		if key != "k1" && key != "k2" {
			say(w, http.StatusBadRequest, "encryption key not found")
			return
		}
		switch operation {
		case "encrypt":
			plain, err := base64.StdEncoding.DecodeString(in.Plaintext)
			if err != nil {
				say(w, http.StatusBadRequest, "plaintext is no base64")
				return
			}
			c := fmt.Sprintf("vault:v%d:%s-%d", s.version, key, len(s.kept))
			s.kept[c] = kept{key, "", s.version, plain}
			_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]string{"ciphertext": c}})
		case "decrypt":
			k, ok := s.kept[in.Ciphertext]
			if !ok || k.key != key {
				say(w, http.StatusBadRequest, "cipher: message authentication failed")
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]string{"plaintext": base64.StdEncoding.EncodeToString(k.plain)}})
		}
	})
}

func vaultOf(t *testing.T, s *service, key string, more ...func(*kms.VaultOptions)) *kms.Vault {
	t.Helper()
	o := kms.VaultOptions{Addr: s.URL, Mount: "team/transit", Key: key, Namespace: "team-a", Token: "hvs.token", Timeout: 3 * time.Second}
	for _, f := range more {
		f(&o)
	}
	v, err := kms.NewVault(o)
	require.NoError(t, err)
	return v
}

// each runs a test with both services; of gives a client for a key.
func each(t *testing.T, run func(t *testing.T, s *service, of func(key string) seal.Wrapper)) {
	t.Run("aws", func(t *testing.T) {
		s := newAWS(t)
		run(t, s, func(key string) seal.Wrapper { return awsOf(t, s, key) })
	})
	t.Run("vault", func(t *testing.T) {
		s := newVault(t)
		run(t, s, func(key string) seal.Wrapper { return vaultOf(t, s, key) })
	})
}

func TestWrapsAndUnwraps(t *testing.T) {
	each(t, func(t *testing.T, s *service, of func(string) seal.Wrapper) {
		secret := bytes.Repeat([]byte{0xfb, 0, 0xff, 1}, 8)
		wrapped, err := of("k1").Wrap(t.Context(), secret)
		require.NoError(t, err)
		require.NotContains(t, string(wrapped), string(secret))
		s.version++ // rotated at the service: what an older version of the key wrapped is unwrapped still
		got, err := of("k1").Unwrap(t.Context(), wrapped)
		require.NoError(t, err)
		require.Equal(t, secret, got)
		_, err = of("k2").Unwrap(t.Context(), wrapped)
		require.ErrorContains(t, err, "key", "wrong key")
		_, err = of("none").Wrap(t.Context(), secret)
		require.Error(t, err)
		_, err = of("k1").Unwrap(t.Context(), []byte("rubbish"))
		require.Error(t, err)
	})
}

// What passes is tried again; what stays is told at once, with what to do; nothing is waited for without end.
func TestFailuresOfServices(t *testing.T) {
	each(t, func(t *testing.T, s *service, of func(string) seal.Wrapper) {
		again := []failure{{status: 500}, {status: 503, body: "<html>"}, {status: 429, body: `{"__type":"ThrottlingException"}`}}
		s.failing(again...)
		wrapped, err := of("k1").Wrap(t.Context(), bytes.Repeat([]byte{1}, 32))
		require.NoError(t, err)
		require.Equal(t, 4, s.asked)

		s.failing(failure{status: 403, body: `{"__type":"AccessDeniedException","message":"no","errors":["permission denied"]}`})
		_, err = of("k1").Unwrap(t.Context(), wrapped)
		require.Regexp(t, `kms:Decrypt|policy lacks update on team/transit`, err.Error())
		require.Equal(t, 1, s.asked, "not tried again")

		elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
		defer elsewhere.Close()
		s.failing(failure{status: 302, location: elsewhere.URL})
		_, err = of("k1").Unwrap(t.Context(), wrapped)
		require.ErrorContains(t, err, "302", "redirects are not followed")
		s.failing(failure{status: 200, body: "{"})
		_, err = of("k1").Unwrap(t.Context(), wrapped)
		require.ErrorContains(t, err, "no JSON")

		s.failing(failure{hang: true})
		began := time.Now()
		_, err = of("k1").Unwrap(t.Context(), wrapped)
		require.ErrorContains(t, err, "within 3s")
		require.Less(t, time.Since(began), 30*time.Second)
		s.Close()
		_, err = of("k1").Unwrap(t.Context(), wrapped)
		require.ErrorContains(t, err, "refused")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = of("k1").Unwrap(ctx, wrapped)
		require.Error(t, err)
	})
}

func TestAWSRefusals(t *testing.T) {
	s := newAWS(t)
	for name, says := range map[string]string{
		"NotFoundException": "encryption.aws.key_id", "DisabledException": "enable the key", "IncorrectKeyException": "another key",
		"InvalidCiphertextException": "restore it", "ExpiredTokenException": "credentials are wrong or expired", "SomethingElse": "400 SomethingElse",
	} {
		s.failing(failure{status: 400, body: `{"__type":"x#` + name + `"}`})
		_, err := awsOf(t, s, "k1").Unwrap(t.Context(), []byte("x"))
		require.ErrorContains(t, err, says)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	_, err := awsOf(t, s, "k1").Wrap(t.Context(), []byte("x"))
	require.ErrorContains(t, err, "InvalidSignatureException")
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"} {
		t.Setenv(name, "")
	}
	_, err = awsOf(t, s, "k1").Wrap(t.Context(), []byte("x"))
	require.ErrorContains(t, err, "there are no AWS credentials")
	_, err = kms.NewAWS(t.Context(), kms.AWSOptions{KeyID: "k1"})
	require.ErrorContains(t, err, "encryption.aws.region")
}

func TestVaultTokens(t *testing.T) {
	s := newVault(t)
	file := filepath.Join(t.TempDir(), "token")
	fromFile := func(o *kms.VaultOptions) { o.Token, o.TokenFile = "", file }
	v := vaultOf(t, s, "k1", fromFile)
	_, err := v.Wrap(t.Context(), []byte("x"))
	require.ErrorContains(t, err, "token_file")
	require.NoError(t, os.WriteFile(file, []byte("hvs.old\n"), 0o600))
	_, err = v.Wrap(t.Context(), []byte("x"))
	require.ErrorContains(t, err, "the token is wrong or expired")
	require.NotContains(t, err.Error(), "hvs.")
	require.NoError(t, os.WriteFile(file, []byte("hvs.token\n"), 0o600)) // an agent renewed it
	_, err = v.Wrap(t.Context(), []byte("x"))
	require.NoError(t, err)
	_, err = vaultOf(t, s, "k1", func(o *kms.VaultOptions) { o.Namespace = "" }).Wrap(t.Context(), []byte("x"))
	require.ErrorContains(t, err, "403")
	_, err = vaultOf(t, s, "k1", func(o *kms.VaultOptions) { o.Mount = "transit" }).Wrap(t.Context(), []byte("x"))
	require.ErrorContains(t, err, "encryption.vault.mount")
	s.failing(failure{status: 400, body: `{"errors":["ciphertext or signature version is disallowed by policy (too old): below minimum"]}`})
	_, err = v.Unwrap(t.Context(), []byte("vault:v1:x"))
	require.ErrorContains(t, err, "min_decryption_version")
}

func TestAddressesThatWouldLeakTheKey(t *testing.T) {
	for _, addr := range []string{"http://vault.example.com:8200", "ftp://127.0.0.1", "127.0.0.1:8200", "https://u:p@h"} {
		_, err := kms.NewVault(kms.VaultOptions{Addr: addr})
		require.ErrorContains(t, err, "encryption.vault.addr")
		_, err = kms.NewAWS(t.Context(), kms.AWSOptions{Region: "r", Endpoint: addr})
		require.ErrorContains(t, err, "encryption.aws.endpoint")
	}
	for _, addr := range []string{"http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://vault.example.com"} {
		_, err := kms.NewVault(kms.VaultOptions{Addr: addr})
		require.NoError(t, err)
	}
}

func key(fill byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32))
}

var place = seal.Bind{Table: "t", Row: "1", Column: "c"}

// The whole way: first start, restarts with the service rotated, down, refusing; the recovery key; another service, and back to a key of one's own.
func TestMasterKeyInAService(t *testing.T) {
	each(t, func(t *testing.T, s *service, of func(string) seal.Wrapper) {
		ctx := t.Context()
		db := testenv.Open(t, testenv.SQLite(t))
		recovery := filepath.Join(t.TempDir(), "recovery")
		require.NoError(t, os.WriteFile(recovery, []byte(key(7)), 0o600))
		o := seal.Options{KMS: of("k1"), RecoveryKeyFile: recovery}
		first, err := seal.OpenKeys(ctx, db, o)
		require.NoError(t, err)
		sealed, err := first.Seal([]byte("kept"), place)
		require.NoError(t, err)
		opens := func(s *seal.Sealer, err error) {
			t.Helper()
			require.NoError(t, err)
			plain, err := s.Open(sealed, place)
			require.NoError(t, err)
			require.Equal(t, "kept", string(plain))
		}
		s.mu.Lock()
		s.version++
		s.mu.Unlock()
		opens(seal.OpenKeys(ctx, db, seal.Options{KMS: of("k1")}))
		_, err = seal.OpenKeys(ctx, db, seal.Options{KMS: of("k2")})
		require.ErrorContains(t, err, "configure that one")
		_, err = seal.OpenKeys(ctx, db, seal.Options{Key: key(1)})
		require.ErrorContains(t, err, "configure encryption.kms")

		exported, err := first.Export()
		require.NoError(t, err)
		refused := failure{status: 403, body: `{"__type":"AccessDeniedException","errors":["permission denied"]}`}
		s.failing(refused)
		_, err = seal.OpenKeys(ctx, db, seal.Options{KMS: of("k1")})
		require.ErrorContains(t, err, "could not be unwrapped", "fails closed")
		s.failing(refused)
		opens(seal.OpenKeys(ctx, db, o))
		s.failing(refused)
		opens(seal.OpenExported(ctx, exported, db, o))
		s.failing(refused)
		_, err = seal.OpenExported(ctx, exported, db, seal.Options{KMS: of("k1")})
		require.Error(t, err)
		require.NoError(t, os.WriteFile(recovery, []byte(key(8)), 0o600))
		s.failing(refused)
		_, err = seal.OpenKeys(ctx, db, o)
		require.ErrorContains(t, err, "another key than the one that was there")

		// A new master key, wrapped by the key's present version; the running process reads on.
		change := func(to seal.Options, from *seal.Sealer) {
			t.Helper()
			next, err := from.PrepareRewrap(ctx, to)
			require.NoError(t, err)
			require.NoError(t, from.Rewrap(ctx, db.DB, next))
		}
		change(seal.Options{KMS: of("k1")}, first)
		again, err := seal.OpenKeys(ctx, db, seal.Options{KMS: of("k1")})
		opens(again, err)
		require.NoError(t, again.FinishRewrap(ctx, db.DB))
		require.NoError(t, first.Reload(ctx), "asks the service for the new master key")
		opens(first, nil)
		// To a key of one's own, and to the other key of the service.
		change(seal.Options{Key: key(3)}, again)
		own, err := seal.OpenKeys(ctx, db, seal.Options{Key: key(3)})
		opens(own, err)
		opens(seal.OpenKeys(ctx, db, seal.Options{KMS: of("k1")}))
		require.NoError(t, own.FinishRewrap(ctx, db.DB))
		_, err = seal.OpenKeys(ctx, db, seal.Options{KMS: of("k1")})
		require.ErrorContains(t, err, "seal rewrap --to")
		change(seal.Options{KMS: of("k2")}, own)
		last, err := seal.OpenKeys(ctx, db, seal.Options{KMS: of("k2")})
		opens(last, err)
		require.NoError(t, last.FinishRewrap(ctx, db.DB))
		_, err = seal.OpenKeys(ctx, db, seal.Options{Key: key(3)})
		require.ErrorContains(t, err, "configure encryption.kms")

		// The service answers with something else.
		s.mu.Lock()
		for c, k := range s.kept {
			k.plain = bytes.Repeat([]byte{9}, 32)
			s.kept[c] = k
		}
		s.mu.Unlock()
		_, err = seal.OpenKeys(ctx, db, seal.Options{KMS: of("k2")})
		require.ErrorContains(t, err, "another master key")
	})
}
