// Package egress keeps requests that somebody else may aim (providers' base URLs, webhooks) away from the networks that this
// process can reach and they should not: loopback, private and link-local addresses, cloud metadata. A URL is checked when it is
// saved, for a good message, and every address again when it is dialled, which is the check that counts: names resolve to
// whatever their owner likes, at any moment.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// ErrBlocked is in the chain of every dial that was refused because of its address.
var ErrBlocked = errors.New("egress: address not allowed")

// Metadata services of clouds: whoever reads them holds the machine's credentials. They are refused even where private addresses
// are allowed, for nothing else listens there.
var metadata = [...]netip.Addr{ //nolint:gochecknoglobals // a constant
	netip.AddrFrom4([4]byte{169, 254, 169, 254}),                           // AWS, Azure, GCP and others
	netip.AddrFrom4([4]byte{169, 254, 170, 2}),                             // AWS: credentials of a container's task
	netip.AddrFrom4([4]byte{169, 254, 170, 23}),                            // AWS: identity of a pod
	netip.AddrFrom4([4]byte{100, 100, 100, 200}),                           // Alibaba
	netip.AddrFrom4([4]byte{192, 0, 0, 192}),                               // Oracle
	netip.AddrFrom4([4]byte{168, 63, 129, 16}),                             // Azure's wire server, in a public range
	netip.AddrFrom16([16]byte{0xfd, 0x00, 0x0e, 0xc2, 14: 0x02, 15: 0x54}), // AWS over IPv6
	netip.AddrFrom16([16]byte{0xfd, 0x00, 0x0e, 0xc2, 15: 0x23}),           // AWS: identity of a pod
	netip.AddrFrom16([16]byte{0xfd, 0x20, 0x00, 0xce, 15: 0x0a}),           // GCP over IPv6
}

// Special ranges that netip's own predicates do not cover.
var special = [...]netip.Prefix{ //nolint:gochecknoglobals // a constant
	cidr4(0, 0, 0, 8),                       // "this network"
	cidr4(100, 64, 0, 10),                   // carrier-grade NAT
	cidr4(192, 0, 0, 24),                    // protocol assignments
	cidr4(192, 0, 2, 24),                    // documentation
	cidr4(198, 18, 0, 15),                   // benchmarks
	cidr4(198, 51, 100, 24),                 // documentation
	cidr4(203, 0, 113, 24),                  // documentation
	cidr4(240, 0, 0, 4),                     // reserved, broadcast
	cidr6(96),                               // ::/96: IPv4-compatible, deprecated
	cidr6(64, 0x01),                         // 100::/64: discard
	cidr6(32, 0x20, 0x01, 0, 0),             // Teredo
	cidr6(32, 0x20, 0x01, 0x0d, 0xb8),       // documentation
	cidr6(16, 0x20, 0x02),                   // 6to4: hides an IPv4 address
	cidr6(96, 0, 0x64, 0xff, 0x9b),          // NAT64: hides an IPv4 address
	cidr6(48, 0, 0x64, 0xff, 0x9b, 0, 0x01), // local NAT64
	cidr6(10, 0xfe, 0xc0),                   // site-local, deprecated
}

func cidr4(a, b, c byte, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{a, b, c}), bits)
}

func cidr6(bits int, lead ...byte) netip.Prefix {
	var b [16]byte
	copy(b[:], lead)
	return netip.PrefixFrom(netip.AddrFrom16(b), bits)
}

// Check says why an address may not be dialled, or nil. The error wraps ErrBlocked. allowPrivate lets everything through but
// metadata services.
func Check(addr netip.Addr, allowPrivate bool) error {
	addr = addr.Unmap().WithZone("")
	for _, m := range metadata {
		if addr == m {
			return fmt.Errorf("%w: %s is a metadata service", ErrBlocked, addr)
		}
	}
	if allowPrivate {
		return nil
	}
	// IsGlobalUnicast is false for loopback, link-local, multicast and unspecified ones, and true for private ones.
	if !addr.IsValid() || !addr.IsGlobalUnicast() || addr.IsPrivate() {
		return fmt.Errorf("%w: %s is no public address", ErrBlocked, addr)
	}
	for _, p := range special {
		if p.Contains(addr) {
			return fmt.Errorf("%w: %s is in the reserved range %s", ErrBlocked, addr, p)
		}
	}
	return nil
}

// Dialer dials TCP, and only addresses that Check lets through. A name's addresses are checked after it was resolved, each as
// it is dialled. timeout bounds resolving and connecting.
func Dialer(timeout time.Duration, allowPrivate bool) *net.Dialer {
	return &net.Dialer{
		Timeout:   timeout,
		KeepAlive: 30 * time.Second,
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			if network != "tcp4" && network != "tcp6" {
				return fmt.Errorf("%w: network %s", ErrBlocked, network)
			}
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%w: %q", ErrBlocked, address)
			}
			return Check(at.Addr(), allowPrivate)
		},
	}
}

// ParseURL reads a base URL that requests with a credential may go to: https (http only where private addresses are allowed), a
// host, no user, no fragment, and no literal address that the dialer would refuse. Trailing slashes of its path are dropped. The
// error is written for whoever entered the URL.
func ParseURL(raw string, allowPrivate bool) (*url.URL, error) {
	const maxLen = 2048
	if len(raw) > maxLen {
		return nil, fmt.Errorf("is longer than %d bytes", maxLen)
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("is not a URL; write it like https://host/v1") // url's error would repeat a password
	case u.Scheme != "https" && (u.Scheme != "http" || !allowPrivate):
		return nil, errors.New("must begin with https://")
	case u.Opaque != "" || u.Hostname() == "":
		return nil, errors.New("names no host; write it like https://host/v1")
	case u.User != nil:
		return nil, errors.New("must not hold a user or password; enter the credential in its own field")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, errors.New("must not hold a fragment (#)")
	}
	if err := checkHost(u.Hostname(), allowPrivate); err != nil {
		return nil, err
	}
	if strings.Contains(u.EscapedPath(), "%") || hasDots(u.Path) {
		return nil, errors.New("has a path with escapes or dot segments; write it plainly")
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

func checkHost(host string, allowPrivate bool) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		if err := Check(addr, allowPrivate); err != nil {
			return fmt.Errorf("points to %s, which is not allowed: private, local and metadata addresses are refused", host)
		}
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if !allowPrivate && (name == "localhost" || strings.HasSuffix(name, ".localhost")) {
		return fmt.Errorf("points to %s, which is not allowed: private, local and metadata addresses are refused", host)
	}
	return nil
}

func hasDots(path string) bool {
	for seg := range strings.SplitSeq(path, "/") {
		if seg == "." || seg == ".." {
			return true
		}
	}
	return false
}
