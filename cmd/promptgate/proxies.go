package main

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// forwarded is the header in which proxies say who asked them, each behind what it was told itself.
const forwarded = "X-Forwarded-For"

// behind has requests come from whom trusted proxies say they come from: limits of sign-ins, networks of keys and the journal go by it. What anybody else
// writes into the header counts for nothing. Without trusted proxies it is h itself.
func behind(h http.Handler, trusted []netip.Prefix) http.Handler {
	if len(trusted) == 0 {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && within(trusted, peer.Addr()) {
			r.RemoteAddr = asker(r.Header.Values(forwarded), trusted, r.RemoteAddr)
		}
		h.ServeHTTP(w, r)
	})
}

// unreadable is the address of whoever a trusted proxy does not name: it lies in nobody's network.
const unreadable = "unknown"

// asker is the last one in the header who is no trusted proxy, "host:port"; peer where nobody else was named.
func asker(headers []string, trusted []netip.Prefix, peer string) string {
	said := strings.Split(strings.Join(headers, ","), ",")
	for _, entry := range slices.Backward(said) {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		a, ok := addressIn(entry)
		if !ok {
			return unreadable
		}
		peer = net.JoinHostPort(a.String(), "0") // its port was the proxy's to know
		if !within(trusted, a) {
			break
		}
	}
	return peer
}

// addressIn reads what proxies write: an address, some with its port, IPv6 in brackets or not.
func addressIn(entry string) (netip.Addr, bool) {
	if at, err := netip.ParseAddrPort(entry); err == nil {
		return at.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(entry, "["), "]"))
	return a.Unmap().WithZone(""), err == nil
}

func within(nets []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap()
	return slices.ContainsFunc(nets, func(n netip.Prefix) bool { return n.Contains(a) })
}
