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
	DB           int
	TLS          bool
	CAFile       string        // PEM; "" means the system's roots
	Budget       time.Duration // of one command
}

// NewClient makes a client for a standalone server, Sentinel or a cluster. It does not connect. No command retries: the budget is for one try, and
// what fails is answered by the database.
func NewClient(c Config) (redis.UniversalClient, error) {
	o := &redis.UniversalOptions{
		Addrs: c.Addrs, MasterName: c.MasterName, IsClusterMode: c.Cluster, Username: c.Username, Password: c.Password, DB: c.DB,
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
	if c.PasswordFile != "" {
		if o.Password, err = readPassword(c.PasswordFile); err != nil {
			return nil, fmt.Errorf("redis: %w", err)
		}
	}
	if c.TLS {
		if o.TLSConfig, err = tlsConfig(c.CAFile); err != nil {
			return nil, fmt.Errorf("redis: %w", err)
		}
	}
	return redis.NewUniversalClient(o), nil
}

// readPassword refuses an empty file: without a password the client would ask as the default user.
func readPassword(name string) (string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" {
		return "", fmt.Errorf("%s holds no password", name)
	}
	return password, nil
}

func tlsConfig(caFile string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	return c, nil
}
