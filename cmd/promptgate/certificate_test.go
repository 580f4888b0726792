package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
)

// issue writes a certificate for gate.test, signed by itself, into the files of c and returns who trusts it.
func issue(t *testing.T, c configs.TLS, serial int64) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "gate.test"}, DNSNames: []string{"gate.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}, &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "gate.test"}}, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(c.CertFile, cert, 0o600))
	require.NoError(t, os.WriteFile(c.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(cert))
	return pool
}

func certFiles(t *testing.T) configs.TLS {
	dir := t.TempDir()
	return configs.TLS{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")}
}

func withTLS(t *testing.T, log io.Writer) (a *App, trusted *x509.CertPool) {
	t.Helper()
	cfg := configs.Default()
	cfg.Addr, cfg.OpsAddr, cfg.Data, cfg.TLS = "127.0.0.1:0", "127.0.0.1:0", t.TempDir(), certFiles(t)
	trusted = issue(t, cfg.TLS, 1)
	a, err := newApp(t.Context(), cfg, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	a.start()
	t.Cleanup(a.stop)
	return a, trusted
}

func TestListenersSpeakTLS(t *testing.T) {
	a, trusted := withTLS(t, io.Discard)
	for addr, path := range map[string]string{a.addr(): "/openapi.json", a.ops.Addr().String(): "/livez"} {
		c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: trusted, ServerName: "gate.test", NextProtos: []string{"h2", "http/1.1"}})
		require.NoError(t, err)
		require.Equal(t, "http/1.1", c.ConnectionState().NegotiatedProtocol, "HTTP/2 is not offered")
		require.Equal(t, "200 OK", ask(t, c, bufio.NewReader(c), path))
		require.NoError(t, c.Close())

		_, err = tls.Dial("tcp", addr, &tls.Config{RootCAs: trusted, ServerName: "gate.test", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
		require.ErrorContains(t, err, "protocol version")

		plain, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		require.Equal(t, "400 Bad Request", ask(t, plain, bufio.NewReader(plain), path), "plain HTTP is told so, and not served")
		require.NoError(t, plain.Close())
	}
	var out bytes.Buffer
	own := &streams{out: &out}
	require.NoError(t, readyCmd{URL: "https://" + a.ops.Addr().String(), Timeout: 5 * time.Second}.Run(t.Context(), own))
	require.Equal(t, "ready\n", out.String())
}

// ask sends a request over a connection and returns the answer's status.
func ask(t *testing.T, c net.Conn, r *bufio.Reader, path string) string {
	t.Helper()
	_, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: gate.test\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	return resp.Status
}

// A renewed certificate is shown to new connections; those that are there go on. Files that do not belong together change nothing.
func TestCertificateIsReplacedWhileConnectionsStay(t *testing.T) {
	var log syncBuffer
	a, old := withTLS(t, &log)
	dial := func(trusted *x509.CertPool) (*tls.Conn, error) {
		return tls.Dial("tcp", a.addr(), &tls.Config{RootCAs: trusted, ServerName: "gate.test"})
	}
	before, err := dial(old)
	require.NoError(t, err)
	r := bufio.NewReader(before)
	require.Equal(t, "200 OK", ask(t, before, r, "/openapi.json"))

	other := certFiles(t)
	fresh := issue(t, other, 2)
	cert, err := os.ReadFile(other.CertFile)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(a.cfg.TLS.CertFile, cert, 0o600)) // the key has not come yet
	a.cert.reread()
	a.cert.reread()
	require.Equal(t, 1, strings.Count(log.String(), "cannot be used"), "told once")
	still, err := dial(old)
	require.NoError(t, err, "the old one stays")
	require.NoError(t, still.Close())

	key, err := os.ReadFile(other.KeyFile)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(a.cfg.TLS.KeyFile, key, 0o600))
	a.cert.reread()
	_, err = dial(old)
	require.Error(t, err)
	after, err := dial(fresh)
	require.NoError(t, err)
	require.NoError(t, after.Close())
	require.Equal(t, "200 OK", ask(t, before, r, "/openapi.json"), "the old connection goes on")
	require.NoError(t, before.Close())
	require.Contains(t, log.String(), "the certificate was replaced")
	require.NotContains(t, log.String(), "PRIVATE")
}

func TestCertificatesThatCannotBeUsed(t *testing.T) {
	a, b := certFiles(t), certFiles(t)
	issue(t, a, 1)
	issue(t, b, 2)
	for _, c := range []configs.TLS{{CertFile: a.CertFile, KeyFile: b.KeyFile}, {CertFile: "/nonexistent", KeyFile: a.KeyFile}, {CertFile: a.KeyFile, KeyFile: a.CertFile}} {
		cfg := configs.Default()
		cfg.Addr, cfg.Data, cfg.TLS = "127.0.0.1:0", t.TempDir(), c
		_, err := newApp(context.Background(), cfg, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "mend tls.cert_file and tls.key_file")
	}
}
