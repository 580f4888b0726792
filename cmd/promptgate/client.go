package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// remote are the flags of every command that talks to a running gateway.
type remote struct {
	URL string `help:"Address of the gateway." env:"PROMPTGATE_URL" default:"http://127.0.0.1:8080"`
	Key string `help:"API key, pg_…; better given by the environment." env:"PROMPTGATE_KEY" placeholder:"KEY"`
}

// client calls the gateway's APIs.
type client struct {
	base string
	key  string
	http *http.Client
}

func (r remote) client() (*client, error) {
	if r.Key == "" {
		return nil, errUsage{errors.New("no API key: export PROMPTGATE_KEY=pg_… (`make run` prints one), or pass --key")}
	}
	u, err := url.Parse(r.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errUsage{fmt.Errorf("%q is no address of a gateway; write http://host:port", r.URL)}
	}
	return &client{base: strings.TrimRight(r.URL, "/"), key: r.Key, http: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the key goes nowhere else
	}}, nil
}

// call is one request of the management API; in and out may be nil.
func (c *client) call(ctx context.Context, method, path string, in, out any, header ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	resp, err := c.send(ctx, method, path, body, header...)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return failure(resp)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("the gateway's answer to %s %s cannot be read: %w", method, path, err)
	}
	return nil
}

// send is one request whose answer is not read yet. header holds names and values in turn.
func (c *client) send(ctx context.Context, method, path string, body io.Reader, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("User-Agent", "promptgate/"+version)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i+1] != "" {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := c.http.Do(req)
	var refused *net.OpError
	if errors.As(err, &refused) {
		return nil, fmt.Errorf("no gateway answers at %s (%w); start one with `promptgate serve`, or set PROMPTGATE_URL", c.base, err)
	}
	return resp, err
}

// statusError is an answer that says no.
type statusError struct {
	Status  int
	Code    string
	Message string
}

func (e *statusError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("%s (%d)", e.Message, e.Status)
	}
	return fmt.Sprintf("%s (%d %s)", e.Message, e.Status, e.Code)
}

// failure reads either error shape: the management API's problem or the data plane's envelope.
func failure(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var body struct {
		Detail string   `json:"detail"`
		Code   string   `json:"code"`
		Errors []string `json:"errors"`
		Error  struct {
			Message string `json:"message"`
			Code    any    `json:"code"` // other servers send numbers and null
		} `json:"error"`
	}
	e := &statusError{Status: resp.StatusCode, Message: http.StatusText(resp.StatusCode)}
	if json.Unmarshal(b, &body) != nil {
		return e
	}
	switch {
	case body.Detail != "":
		e.Message, e.Code = strings.Join(append([]string{body.Detail}, body.Errors...), "\n  "), body.Code
	case body.Error.Message != "":
		e.Message = body.Error.Message
		e.Code, _ = body.Error.Code.(string)
	}
	return e
}

// promptPath is the path of a prompt in the management API.
func promptPath(name string, more ...string) string {
	p := "/api/v1/prompts/" + url.PathEscape(name)
	for _, m := range more {
		p += "/" + url.PathEscape(m)
	}
	return p
}

// splitRef splits name@label or name@3 at the last @; selector is "" when there is none.
func splitRef(ref string) (name, selector string) {
	if i := strings.LastIndexByte(ref, '@'); i >= 0 {
		return ref[:i], ref[i+1:]
	}
	return ref, ""
}
