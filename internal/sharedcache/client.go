// Package sharedcache is the cache that replicas share in Redis, without any domain in it: sealed entries that carry the journal's revision,
// tombstones written by every change, and word of changes by pub/sub. Losing it costs speed, never truth: whatever it cannot
// answer within its budget is read from the database.
package sharedcache

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Config says where Redis is.
type Config struct {
	Addrs        []string
	Cluster      bool
	MasterName   string // Sentinel's name of the master; Addrs are then the Sentinels
	Username     string
	Password     string
	PasswordFile string // instead of Password; line breaks at its end are not part of it
	// What the Sentinels ask for, which may differ from what the servers do.
	SentinelUsername     string
	SentinelPassword     string
	SentinelPasswordFile string
	DB                   int
	TLS                  bool          // of the Sentinels as well
	CAFile               string        // PEM; "" means the system's roots
	CertFile, KeyFile    string        // PEM, both or neither: what this client shows; read again for each connection
	Budget               time.Duration // of one command
}

// NewClient makes a client for a standalone server, Sentinel or a cluster. It does not connect. No command retries: the budget is for one try, and
// what fails is answered by the database.
func NewClient(c Config) (redis.UniversalClient, error) {
	o := &redis.UniversalOptions{
		Addrs: c.Addrs, MasterName: c.MasterName, IsClusterMode: c.Cluster, Username: c.Username, SentinelUsername: c.SentinelUsername, DB: c.DB,
		DialTimeout: c.Budget, ReadTimeout: c.Budget, WriteTimeout: c.Budget, PoolTimeout: c.Budget,
		ContextTimeoutEnabled: true, // without it a paused server holds every command for ReadTimeout, whatever the context says
		MaxRetries:            -1,
		MaxRedirects:          3,
		DialerRetries:         1,
		DisableIdentity:       true, // one command less at each connection, and one right less that its user needs
		// Announcements of a managed Redis' maintenance: not what this cache needs, and goroutines for ever.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	var err error
	if o.Password, err = readPassword(c.Password, c.PasswordFile); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	if o.SentinelPassword, err = readPassword(c.SentinelPassword, c.SentinelPasswordFile); err != nil {
		return nil, fmt.Errorf("redis: Sentinel: %w", err)
	}
	if c.TLS {
		if o.TLSConfig, err = tlsConfig(c); err != nil {
			return nil, fmt.Errorf("redis: %w", err)
		}
	}
	return redis.NewUniversalClient(o), nil
}

// readPassword takes the password from a file when one is named. It refuses an empty one: without a password the client would ask as
// the default user.
func readPassword(password, name string) (string, error) {
	if name == "" {
		return password, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	if password = strings.TrimRight(string(text), "\r\n"); password == "" {
		return "", fmt.Errorf("%s holds no password", name)
	}
	return password, nil
}

func tlsConfig(c Config) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, err
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", c.CAFile)
		}
	}
	if c.CertFile != "" {
		own := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", c.CertFile, c.KeyFile, err)
			}
			return &pair, nil
		}
		if _, err := own(); err != nil {
			return nil, err // at the start, not at the first connection
		}
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own() }
	}
	return t, nil
}
