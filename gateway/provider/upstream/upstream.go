// Package upstream is the one HTTP client that every provider uses. It uses http.Transport and connections of its own: nothing follows a
// redirect with the credential, nothing is retried that was sent, and bodies pass through as the upstream's own bytes.
package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/egress"
)

// Options describe one upstream. Zero durations and sizes take the defaults.
type Options struct {
	Name         string
	BaseURL      string                     // "https://host/v1"; a query is sent along with every request
	Header       http.Header                // sent with every request; nothing secret
	Secrets      map[string]provider.Secret // headers that are credentials, with their whole values
	Forward      []string                   // the callers' headers that the upstream sees, in canonical form; none means none
	APIs         []string                   // the shapes of requests that it speaks, as Request.API names them
	LastEvent    string                     // data with which a stream may end whose connection ends with it; "": only an empty line shows its end
	AllowPrivate bool                       // http:// and private, loopback and link-local addresses
	HTTP2        bool                       // offer HTTP/2 to TLS upstreams; HTTP/1.1 spreads streams over connections
	TLS          *tls.Config                // nil: the system's roots, TLS 1.2 or later

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
}

// headers are what every request is sent with.
func (o *Options) headers() (http.Header, error) {
	h := http.Header{
		"Content-Type":    {"application/json"},
		"Accept-Encoding": {"identity"}, // what is relayed is read here as well
		"User-Agent":      {"promptgate"},
	}
	for k, v := range o.Header {
		h[http.CanonicalHeaderKey(k)] = v
	}
	for k, v := range o.Secrets {
		h[http.CanonicalHeaderKey(k)] = []string{v.Reveal()}
	}
	for k, values := range h {
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) {
				return nil, fmt.Errorf("provider %q: the value for the header %s is not printable ASCII", o.Name, k) // never the value
			}
		}
	}
	return h, nil
}

func positive[T ~int | ~int64](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

// Client sends requests to one upstream. Its Close lets go of idle connections; calls in flight go on.
type Client struct {
	o         Options
	base      url.URL
	header    http.Header // sent with every request; its values are shared, so nobody changes them
	direct    *direct     // for the usual request; may be nil
	watch     watch
	transport *http.Transport
}

// New checks the options and makes a client. It does not connect.
func New(o Options) (*Client, error) {
	o.defaults()
	base, err := egress.ParseURL(o.BaseURL, o.AllowPrivate)
	if err != nil {
		return nil, fmt.Errorf("provider %q: the base URL %w", o.Name, err)
	}
	h, err := o.headers()
	if err != nil {
		return nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(o.HTTP2)
	if o.TLS == nil {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	c := &Client{o: o, base: *base, header: h, transport: &http.Transport{
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
	c.direct = newDirect(c)
	return c, nil
}

// Name is the provider's.
func (c *Client) Name() string { return c.o.Name }

// APIs are the shapes of requests that the upstream speaks. Callers do not change them.
func (c *Client) APIs() []string { return c.o.APIs }

// Close lets go of idle connections.
func (c *Client) Close() error {
	if c.direct != nil {
		c.direct.lines.close()
	}
	c.transport.CloseIdleConnections()
	return nil
}

// Do sends a request as provider.Provider does.
func (c *Client) Do(ctx context.Context, r *provider.Request) (*provider.Response, error) {
	if ctx.Err() != nil {
		return nil, c.fail(contextKind(ctx), context.Cause(ctx))
	}
	if !slices.Contains(c.o.APIs, r.API) {
		return nil, c.fail(provider.KindRefused, fmt.Errorf("it does not speak the API %q", r.API))
	}
	if err := checkEndpoint(r.Endpoint); err != nil {
		return nil, c.fail(provider.KindRefused, err)
	}
	e := newExchange(ctx, c, r)
	resp, err := c.ask(e, r) //nolint:contextcheck // the exchange holds it
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
func (c *Client) ask(e *exchange, r *provider.Request) (*http.Response, error) {
	if c.direct.takes(r) {
		e.straight = true
		return c.direct.roundTrip(e, r)
	}
	target := c.base
	target.Path += "/" + r.Endpoint
	target.RawQuery = joinQueries(c.base.RawQuery, r.Query)
	req := (&http.Request{
		Method: cmp.Or(r.Method, http.MethodPost), URL: &target, Host: c.base.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: c.headers(r),
	}).WithContext(e.context())
	if len(r.Body) > 0 || req.Method == http.MethodPost {
		e.sent.setBody(req)
	} else {
		delete(req.Header, "Content-Type")
	}
	return c.transport.RoundTrip(req)
}

// joinQueries is the base's query with what a request asks beside it: never twice what the base says.
func joinQueries(base, more string) string {
	if base == "" || more == "" {
		return base + more
	}
	said, err := url.ParseQuery(base)
	if err != nil {
		return base
	}
	asked, err := url.ParseQuery(more)
	if err != nil {
		return base
	}
	for name := range said {
		delete(asked, name)
	}
	if len(asked) == 0 {
		return base
	}
	return base + "&" + asked.Encode()
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

// headers are a request's. Of the caller's own, hop-by-hop and identity headers above all stay here: only those of Options.Forward pass.
func (c *Client) headers(r *provider.Request) http.Header {
	h := make(http.Header, 8)
	for k, v := range c.header {
		h[k] = v
	}
	for k, v := range r.Header {
		if k = http.CanonicalHeaderKey(k); len(v) > 0 && slices.Contains(c.o.Forward, k) {
			h[k] = v
		}
	}
	switch {
	case r.Accept != "":
		h["Accept"] = []string{r.Accept}
	case r.Stream:
		h["Accept"] = acceptStream[:]
	default:
		h["Accept"] = acceptJSON[:]
	}
	if r.CallID != "" {
		h["X-Client-Request-Id"] = []string{r.CallID} // lets operators find a call in the upstream's own logs
	}
	return h
}

var (
	acceptStream = [1]string{"text/event-stream"} //nolint:gochecknoglobals // a constant
	acceptJSON   = [1]string{"application/json"}  //nolint:gochecknoglobals // a constant
)

func (c *Client) fail(kind provider.Kind, err error) *provider.Error {
	return &provider.Error{Provider: c.o.Name, Kind: kind, Err: err}
}

// contextKind says why ctx ended: the caller left, or its time was up.
func contextKind(ctx context.Context) provider.Kind {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return provider.KindTimeout
	}
	return provider.KindCancelled
}
