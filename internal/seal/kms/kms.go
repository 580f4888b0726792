// Package kms lets a key management service hold the key that seals ours: AWS KMS, and the transit engine of HashiCorp Vault. Each is asked once, at a
// start, and when the master key is replaced; no call ever waits for it.
package kms

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	maxAnswer  = 1 << 20
	firstPause = 200 * time.Millisecond
	maxPause   = 2 * time.Second
)

// errAgain marks what another try may mend: no connection, a server's own fault, too many requests.
type errAgain struct{ error }

func (e errAgain) Unwrap() error { return e.error }

// persist tries until it works, the failure is one that stays, or timeout has passed.
func persist(ctx context.Context, timeout time.Duration, try func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last error
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := try(ctx)
		var again errAgain
		if err == nil || !errors.As(err, &again) {
			return err
		}
		if last == nil || ctx.Err() == nil {
			last = again.error // what the deadline cut says less than what came before
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer that helps within %s, the last: %w", timeout, last)
		case <-time.After(pause):
		}
	}
}

// send posts a body and returns status and answer. Redirects are not followed: what is sent is for this address.
func send(client *http.Client, req *http.Request, body []byte) (status int, answer []byte, err error) {
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address, which the caller says
		}
		return 0, nil, errAgain{err}
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, errAgain{err}
	}
	return resp.StatusCode, answer, nil
}

// newClient trusts the system's authorities, or those of a file.
func newClient(caFile string) (*http.Client, error) {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", caFile)
		}
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// safeURL is an address that a key may be sent to: https, or this machine.
func safeURL(setting, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%s: %q is no address; write https://host:port", setting, text)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s: %s would get the master key in plaintext; write https://", setting, text)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}
