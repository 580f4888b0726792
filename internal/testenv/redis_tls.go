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
	"strconv"
	"testing"
	"time"
)

// RedisTLS starts a server that speaks TLS alone, with a certificate for 127.0.0.1 from an authority of its own (CAFile).
func RedisTLS(t testing.TB) *RedisServer {
	t.Helper()
	port, err := freePort(math.MaxUint16)
	check(t, "find a port", err)
	dir := redisFolder(t)
	roots, err := certificates(dir)
	check(t, "make certificates", err)
	file := func(name string) string { return filepath.Join(dir, name) }
	s := &RedisServer{
		Addr: "127.0.0.1:" + strconv.Itoa(port), CAFile: file("ca.pem"), tls: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
	s.run(t, dir, []string{
		"--port", "0", "--tls-port", strconv.Itoa(port), "--tls-auth-clients", "no", "--save", "", "--appendonly", "no",
		"--tls-cert-file", file("server.pem"), "--tls-key-file", file("server.key"), "--tls-ca-cert-file", file("ca.pem"),
	})
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
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
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
