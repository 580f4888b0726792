// Package openai sends requests to any upstream that speaks OpenAI's API. It uses http.Transport alone: nothing follows a
// redirect with the credential, nothing is retried that was sent, and bodies pass through as the upstream's own bytes.
package openai

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/egress"
)

// Options describe one upstream. Zero durations and sizes take the defaults.
type Options struct {
	Name          string
	BaseURL       string          // "https://api.openai.com/v1"; a query is sent along with every request
	Credential    provider.Secret // sent as a bearer token; empty sends none
	Organization  string          // OpenAI-Organization; "" sends none
	Project       string          // OpenAI-Project; "" sends none
	UserAgent     string          // when the request has none; default "promptgate"
	AllowPrivate  bool            // http:// and private, loopback and link-local addresses
	NoStreamUsage bool            // the upstream does not understand stream_options.include_usage
	HTTP2         bool            // offer HTTP/2 to TLS upstreams; HTTP/1.1 spreads streams over connections
	TLS           *tls.Config     // nil: the system's roots, TLS 1.2 or later

	DialTimeout time.Duration // to resolve and connect; default 5 s
	TLSTimeout  time.Duration // for the TLS handshake; default 5 s
	HeadTimeout time.Duration // from the call of Do to the answer's head; default 2 min
	IdleTimeout time.Duration // one silence within an answer's body; default 1 min
	MaxBody     int64         // bytes of an answer that is no stream of events; default 64 MiB
	MaxHead     int64         // bytes of an answer's head; default 128 KiB
	IdleConns   int           // kept open while idle; default 4096
}

// writeBuffer is the transport's, in bytes, for each connection.
const writeBuffer = 16 << 10

func (o *Options) defaults() {
	positive(&o.DialTimeout, 5*time.Second)
	positive(&o.TLSTimeout, 5*time.Second)
	positive(&o.HeadTimeout, 2*time.Minute)
	positive(&o.IdleTimeout, time.Minute)
	positive(&o.MaxBody, 64<<20)
	positive(&o.MaxHead, 128<<10)
	positive(&o.IdleConns, 4096)
	if o.UserAgent == "" {
		o.UserAgent = "promptgate"
	}
}

func positive[T ~int | ~int64](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

// Provider is one upstream. Its Close lets go of idle connections; calls in flight go on.
type Provider struct {
	o         Options
	base      url.URL
	header    http.Header // sent with every request; its values are shared, so nobody changes them
	direct    *direct     // for the usual request; may be nil
	watch     watch
	transport *http.Transport
}

var _ provider.Provider = (*Provider)(nil)

// New checks the options and makes a provider. It does not connect.
func New(o Options) (*Provider, error) {
	o.defaults()
	base, err := egress.ParseURL(o.BaseURL, o.AllowPrivate)
	if err != nil {
		return nil, fmt.Errorf("provider %q: the base URL %w", o.Name, err)
	}
	h := http.Header{
		"Content-Type":    {"application/json"},
		"Accept-Encoding": {"identity"}, // what is relayed is read here as well
		"User-Agent":      {o.UserAgent},
	}
	if !o.Credential.IsZero() {
		h["Authorization"] = []string{"Bearer " + o.Credential.Reveal()}
	}
	if o.Organization != "" {
		h["Openai-Organization"] = []string{o.Organization}
	}
	if o.Project != "" {
		h["Openai-Project"] = []string{o.Project}
	}
	for k, v := range h {
		if strings.ContainsFunc(v[0], func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, fmt.Errorf("provider %q: the value for the header %s is not printable ASCII", o.Name, k) // never the value
		}
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(o.HTTP2)
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	p := &Provider{o: o, base: *base, header: h, transport: &http.Transport{
		Proxy:                  nil, // the environment's proxy would see prompts, and resolve names past the egress rules
		DialContext:            egress.Dialer(o.DialTimeout, o.AllowPrivate).DialContext,
		TLSClientConfig:        o.TLS,
		TLSHandshakeTimeout:    o.TLSTimeout,
		DisableCompression:     true,
		MaxIdleConns:           0, // bounded per host, and there is one host
		MaxIdleConnsPerHost:    o.IdleConns,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: o.MaxHead,
		ForceAttemptHTTP2:      o.HTTP2,
		Protocols:              protocols,
		WriteBufferSize:        writeBuffer,
		ReadBufferSize:         readBuffer,
	}}
	p.direct = newDirect(p)
	return p, nil
}

// Name implements provider.Provider.
func (p *Provider) Name() string { return p.o.Name }

// Capabilities implements provider.Provider.
func (p *Provider) Capabilities() provider.Capabilities {
	return provider.Capabilities{StreamUsage: !p.o.NoStreamUsage}
}

// Close lets go of idle connections.
func (p *Provider) Close() error {
	if p.direct != nil {
		p.direct.lines.close()
	}
	p.transport.CloseIdleConnections()
	return nil
}

// Do implements provider.Provider.
func (p *Provider) Do(ctx context.Context, r *provider.Request) (*provider.Response, error) {
	if ctx.Err() != nil {
		return nil, p.fail(contextKind(ctx), context.Cause(ctx))
	}
	if err := checkEndpoint(r.Endpoint); err != nil {
		return nil, p.fail(provider.KindRefused, err)
	}
	e := newExchange(ctx, p, r)
	resp, err := p.ask(e, r)
	if err != nil {
		err = e.headError(err)
		e.end()
		return nil, err
	}
	if err := e.check(resp, r.Stream); err != nil {
		e.refuse(resp)
		return nil, err
	}
	e.head(resp)
	return &provider.Response{
		Status: resp.StatusCode, Header: resp.Header, ContentLength: resp.ContentLength, Body: e, Sent: e.sent.free(),
	}, nil
}

var errEndpoint = errors.New("the endpoint is no plain path")

// ask sends the request and returns the head of its answer.
func (p *Provider) ask(e *exchange, r *provider.Request) (*http.Response, error) {
	if p.direct.takes(r) {
		e.straight = true
		return p.direct.roundTrip(e, r)
	}
	target := p.base
	target.Path += "/" + r.Endpoint
	req := (&http.Request{
		Method: http.MethodPost, URL: &target, Host: p.base.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: p.headers(r),
	}).WithContext(e.context())
	e.sent.setBody(req)
	return p.transport.RoundTrip(req)
}

// checkEndpoint refuses an endpoint that could go anywhere but down from the base.
func checkEndpoint(endpoint string) error {
	for seg := range strings.SplitSeq(endpoint, "/") {
		if seg == "" || seg == "." || seg == ".." || strings.ContainsFunc(seg, notInPath) {
			return errEndpoint
		}
	}
	return nil
}

func notInPath(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:", r)
}

// allowed are the callers' headers that an upstream sees; everything else, hop-by-hop and identity headers above all, stays here.
// OpenAI-Organization and OpenAI-Project belong to the credential and come from the configuration.
func allowed(name string) bool {
	switch name {
	case "Openai-Beta", "Idempotency-Key", "User-Agent", "Content-Type":
		return true
	}
	return false
}

func (p *Provider) headers(r *provider.Request) http.Header {
	h := make(http.Header, 8)
	for k, v := range p.header {
		h[k] = v
	}
	for k, v := range r.Header {
		if k = http.CanonicalHeaderKey(k); allowed(k) && len(v) > 0 {
			h[k] = v
		}
	}
	if r.Stream {
		h["Accept"] = acceptStream[:]
	} else {
		h["Accept"] = acceptJSON[:]
	}
	if r.CallID != "" {
		h["X-Client-Request-Id"] = []string{r.CallID} // lets operators find a call in the upstream's own logs
	}
	return h
}

var ( //nolint:gochecknoglobals // constants
	acceptStream = [1]string{"text/event-stream"}
	acceptJSON   = [1]string{"application/json"}
)

func (p *Provider) fail(kind provider.Kind, err error) *provider.Error {
	return &provider.Error{Provider: p.o.Name, Kind: kind, Err: err}
}

// contextKind says why ctx ended: the caller left, or its time was up.
func contextKind(ctx context.Context) provider.Kind {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return provider.KindTimeout
	}
	return provider.KindCancelled
}
