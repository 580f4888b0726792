package sso

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	maxAnswer    = 1 << 20 // bytes of discovery, keys or tokens
	maxRedirects = 3
	answerTime   = 8 * time.Second // a request as a whole, with its redirects

	// DialTime bounds connecting to a provider.
	DialTime = 3 * time.Second
)

var errTooLarge = fmt.Errorf("its answer is larger than %d bytes", maxAnswer)

// Network is how providers are reached. Both say no to addresses that people may not aim this process at.
type Network struct {
	// Check refuses an address when an issuer is saved, and each that a provider names or redirects to.
	Check func(u *url.URL) error
	// Dial connects, and refuses what a name resolves to.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// client is an HTTP client of bounded time, answers and redirects, which goes where the network lets it.
func (n Network) client() *http.Client {
	return &http.Client{
		Timeout: answerTime,
		Transport: &bounded{n.Check, &http.Transport{
			DialContext: n.Dial, TLSHandshakeTimeout: DialTime, ResponseHeaderTimeout: answerTime, MaxResponseHeaderBytes: 64 << 10,
			IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 2, ForceAttemptHTTP2: true,
		}},
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("it redirects too often")
			}
			if via[0].Method != http.MethodGet { // a credential is not carried elsewhere
				return errors.New("it redirects where it has to answer")
			}
			return nil // where to is judged as for every request
		},
	}
}

// bounded judges where each request goes, redirects too, and cuts answers that are too long.
type bounded struct {
	check func(u *url.URL) error
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := b.check(r.URL); err != nil {
		return nil, err
	}
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength > maxAnswer {
		_ = resp.Body.Close()
		return nil, errTooLarge
	}
	resp.Body = &cut{resp.Body, maxAnswer}
	return resp, nil
}

// cut fails past some bytes: an answer that ends early would be another answer.
type cut struct {
	io.ReadCloser

	left int64
}

// Read implements io.Reader.
func (c *cut) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}
