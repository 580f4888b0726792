package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TLSFiles are the certificates of servers and their clients, all from one authority, as PEM files.
type TLSFiles struct {
	CAFile            string
	CertFile, KeyFile string // for 127.0.0.1, and for clients
	config            *tls.Config
}

// newTLSFiles makes them in dir.
func newTLSFiles(t testing.TB, dir string) TLSFiles {
	t.Helper()
	f := TLSFiles{CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "server.pem"), KeyFile: filepath.Join(dir, "server.key")}
	roots, err := certificates(dir)
	check(t, "make certificates", err)
	own, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
	check(t, "read certificates", err)
	f.config = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
	return f
}

// RedisTLS starts a server that speaks TLS alone, with a certificate for 127.0.0.1 from an authority of its own. Its clients show theirs
// unless "--tls-auth-clients" "no" is among the arguments.
func RedisTLS(t testing.TB, extraArgs ...string) *RedisServer {
	t.Helper()
	s, dir := newRedis(t, math.MaxUint16), redisFolder(t)
	s.TLSFiles = newTLSFiles(t, dir)
	s.run(t, dir, extraArgs...)
	return s
}

// certificates writes ca.pem, and server.pem with server.key, which it has signed, into dir.
func certificates(dir string) (*x509.CertPool, error) {
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test redis"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	caKey, err := writeKey(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, err
	}
	leafKey, err := writeKey(filepath.Join(dir, "server.key"))
	if err != nil {
		return nil, err
	}
	root, err := writeCertificate(filepath.Join(dir, "ca.pem"), ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	if _, err := writeCertificate(filepath.Join(dir, "server.pem"), leaf, ca, &leafKey.PublicKey, caKey); err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	return roots, nil
}

func writeKey(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func writeCertificate(name string, c, signer *x509.Certificate, key *ecdsa.PublicKey, by *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, c, signer, key, by)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return text, os.WriteFile(name, text, 0o600)
}
