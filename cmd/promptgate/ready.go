package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// readyCmd is for health checks in an image that has no shell and no curl.
type readyCmd struct {
	URL     string        `help:"Address of the listener that serves /readyz: ops_addr where one is set." default:"http://127.0.0.1:8080"`
	Timeout time.Duration `help:"How long to wait for the answer." default:"3s"`
}

// Run fails unless the gateway takes calls. Degraded is ready: it serves.
func (c readyCmd) Run(ctx context.Context, out *streams) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(c.URL, "/")+"/readyz", http.NoBody)
	if err != nil {
		return errUsage{err}
	}
	resp, err := checker(req.URL).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	status, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return err
	}
	said := strings.TrimSpace(string(status))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %d %s", resp.StatusCode, said)
	}
	_, err = fmt.Fprintln(out.out, said)
	return err
}

// checker asks this machine's own listener whatever name its certificate is for: nothing secret is sent, and the answer is yes or no.
func checker(u *url.URL) *http.Client {
	host := u.Hostname()
	ip := net.ParseIP(host)
	own := host == "localhost" || ip != nil && ip.IsLoopback()
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: own}}} //nolint:gosec // as said above
}
