package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promptgate/promptgate/configs"
)

// certificate is what the listeners show. New connections get what the files hold now; those that are there stay.
type certificate struct {
	of      configs.TLS
	log     *slog.Logger
	current atomic.Pointer[tls.Certificate]
	text    []byte // what current was made of
	failing bool
}

// certificateEvery is how often the files are looked at: what renews certificates gives notice in days.
const certificateEvery = 10 * time.Second

// readCertificate returns nil where none is configured.
func readCertificate(of configs.TLS, log *slog.Logger) (*certificate, error) {
	if of.CertFile == "" {
		return nil, nil
	}
	c := &certificate{of: of, log: log}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("tls: %w; mend tls.cert_file and tls.key_file", err)
	}
	if left := time.Until(c.current.Load().Leaf.NotAfter); left <= 0 {
		log.Warn("the certificate of tls.cert_file has expired: clients will refuse it", "file", of.CertFile, "expired", c.current.Load().Leaf.NotAfter)
	}
	return c, nil
}

// read takes the files, which must belong together.
func (c *certificate) read() error {
	cert, err := os.ReadFile(c.of.CertFile)
	if err != nil {
		return err
	}
	key, err := os.ReadFile(c.of.KeyFile)
	if err != nil {
		return err
	}
	text := append(append(cert, 0), key...)
	if bytes.Equal(text, c.text) {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s and %s: %w", c.of.CertFile, c.of.KeyFile, err)
	}
	if c.text != nil {
		c.log.Info("the certificate was replaced", "file", c.of.CertFile, "expires", pair.Leaf.NotAfter)
	}
	c.text = text
	c.current.Store(&pair)
	return nil
}

// run reads the files again until ctx is done. What cannot be used, such as one file of two that are being replaced, changes nothing.
func (c *certificate) run(ctx context.Context) error {
	tick := time.NewTicker(certificateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			c.reread()
		}
	}
}

func (c *certificate) reread() {
	err := c.read()
	if err != nil && !c.failing {
		c.log.Error("the certificate's files cannot be used; the one that was read before stays", "error", err, "expires", c.current.Load().Leaf.NotAfter)
	}
	c.failing = err != nil
}

// wrap makes a listener speak TLS; a nil certificate leaves it as it is.
func (c *certificate) wrap(l net.Listener) net.Listener {
	if c == nil {
		return l
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	})
}

func (c *certificate) register(reg prometheus.Registerer) error {
	if c == nil {
		return nil
	}
	return reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "promptgate_tls_certificate_expires_seconds", Help: "When the listeners' certificate expires, in seconds since 1970.",
	}, func() float64 { return float64(c.current.Load().Leaf.NotAfter.Unix()) }))
}

// onlyHTTP1 keeps HTTP/2 out: how long a client may take is held against its connection (deadlines of reads, rolling ones of writes), and draining
// closes connections; streams of HTTP/2 share one.
func onlyHTTP1() *http.Protocols {
	p := &http.Protocols{}
	p.SetHTTP1(true)
	return p
}
