package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// VaultOptions say which key of a transit engine it is.
type VaultOptions struct {
	Addr      string // https://vault.example.com:8200
	Mount     string // of the transit engine
	Key       string
	Namespace string // "" for none
	Token     string
	TokenFile string // instead of Token; read again for each request, as agents write it
	CAFile    string // "" means the system's authorities
	Timeout   time.Duration
}

// Vault seals by HashiCorp Vault's transit engine, or what speaks its API.
type Vault struct {
	o      VaultOptions
	addr   *url.URL
	client *http.Client
}

// NewVault sends nothing.
func NewVault(o VaultOptions) (*Vault, error) {
	v := &Vault{o: o}
	var err error
	if v.addr, err = safeURL("encryption.vault.addr", o.Addr); err != nil {
		return nil, err
	}
	if v.client, err = newClient(o.CAFile); err != nil {
		return nil, fmt.Errorf("encryption.vault.ca_file: %w", err)
	}
	return v, nil
}

// ID implements seal.Wrapper.
func (v *Vault) ID() string {
	return "vault:" + v.o.Namespace + "/" + strings.Trim(v.o.Mount, "/") + "/" + v.o.Key
}

type vaultAnswer struct {
	Data struct {
		Ciphertext string `json:"ciphertext"`
		Plaintext  []byte `json:"plaintext"` // base64, as encoding/json reads it
	} `json:"data"`
	Errors []string `json:"errors"`
}

// Wrap implements seal.Wrapper.
func (v *Vault) Wrap(ctx context.Context, secret []byte) ([]byte, error) {
	out, err := v.call(ctx, "encrypt", map[string]any{"plaintext": secret})
	if err == nil && !strings.HasPrefix(out.Data.Ciphertext, "vault:") {
		err = v.explain("encrypt", errors.New("the answer holds no ciphertext"))
	}
	return []byte(out.Data.Ciphertext), err
}

// Unwrap implements seal.Wrapper.
func (v *Vault) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	out, err := v.call(ctx, "decrypt", map[string]any{"ciphertext": string(wrapped)})
	return out.Data.Plaintext, err
}

func (v *Vault) call(ctx context.Context, operation string, in map[string]any) (out vaultAnswer, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	err = persist(ctx, v.o.Timeout, func(ctx context.Context) error {
		out = vaultAnswer{}
		return v.once(ctx, operation, body, &out)
	})
	if err != nil {
		return out, v.explain(operation, err)
	}
	return out, nil
}

func (v *Vault) explain(operation string, err error) error {
	return fmt.Errorf("vault (%s, %s/%s, %s): %w", v.addr.Host, strings.Trim(v.o.Mount, "/"), v.o.Key, operation, err)
}

func (v *Vault) token() (string, error) {
	if v.o.TokenFile == "" {
		return v.o.Token, nil
	}
	text, err := os.ReadFile(v.o.TokenFile)
	if err != nil {
		return "", fmt.Errorf("encryption.vault.token_file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("encryption.vault.token_file: %s is empty", v.o.TokenFile)
	}
	return token, nil
}

func (v *Vault) once(ctx context.Context, operation string, body []byte, out *vaultAnswer) error {
	token, err := v.token()
	if err != nil {
		return err
	}
	at := v.addr.JoinPath("v1", strings.Trim(v.o.Mount, "/"), operation, url.PathEscape(v.o.Key))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Vault-Request", "true")
	req.Header.Set("X-Vault-Token", token)
	if v.o.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", v.o.Namespace)
	}
	status, answer, err := send(v.client, req, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil && status == http.StatusOK {
		return fmt.Errorf("the answer is no JSON: %w", err)
	}
	if status == http.StatusOK {
		return nil
	}
	return v.refusal(status, strings.Join(out.Errors, "; "))
}

func (v *Vault) refusal(status int, said string) error {
	err := fmt.Errorf("%d: %.300s", status, said)
	switch {
	case status == http.StatusForbidden:
		return fmt.Errorf("%w (the token is wrong or expired, or its policy lacks update on %[2]s/encrypt/%[3]s and %[2]s/decrypt/%[3]s)", err, strings.Trim(v.o.Mount, "/"), v.o.Key)
	case status == http.StatusNotFound:
		return fmt.Errorf("%w (is encryption.vault.mount right, and the namespace?)", err)
	case strings.Contains(said, "minimum"):
		return fmt.Errorf("%w (the key's min_decryption_version is past the one that wrapped the master key: lower it, start, then run `promptgate seal rewrap`)", err)
	case status == http.StatusBadRequest:
		return fmt.Errorf("%w (is encryption.vault.key the key that wrapped the master key?)", err)
	case status == http.StatusServiceUnavailable:
		return errAgain{fmt.Errorf("%w (is Vault sealed? unseal it)", err)}
	case status >= http.StatusInternalServerError, status == http.StatusTooManyRequests, status == http.StatusPreconditionFailed:
		return errAgain{err}
	}
	return err
}
