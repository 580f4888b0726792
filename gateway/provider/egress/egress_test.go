package egress_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider/egress"
)

func TestAddresses(t *testing.T) {
	for _, s := range []string{
		"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.1.1",
		"100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1",
		"64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "100::1",
	} {
		require.ErrorIs(t, egress.Check(netip.MustParseAddr(s), false), egress.ErrBlocked, s)
		require.NoError(t, egress.Check(netip.MustParseAddr(s), true), s)
	}
	for _, s := range []string{"169.254.169.254", "::ffff:169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::a", "192.0.0.192", "169.254.170.23"} {
		require.ErrorIs(t, egress.Check(netip.MustParseAddr(s), false), egress.ErrBlocked, s)
		require.ErrorIs(t, egress.Check(netip.MustParseAddr(s), true), egress.ErrBlocked, s)
	}
	for _, s := range []string{"1.1.1.1", "172.32.0.1", "100.128.0.1", "8.8.8.8", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "168.63.129.17"} {
		require.NoError(t, egress.Check(netip.MustParseAddr(s), false), s)
	}
	require.ErrorIs(t, egress.Check(netip.Addr{}, false), egress.ErrBlocked)
}

func TestTheDialerChecksWhatANameResolvesTo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	for _, host := range []string{"localhost", "127.0.0.1", "0.0.0.0"} {
		_, err := egress.Dialer(0, false).DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
		require.ErrorIs(t, err, egress.ErrBlocked, host)
	}
	c, err := egress.Dialer(0, true).DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, c.Close())
	_, err = egress.Dialer(0, true).DialContext(t.Context(), "udp", l.Addr().String())
	require.ErrorIs(t, err, egress.ErrBlocked)
}

func TestURLs(t *testing.T) {
	for in, want := range map[string]string{
		"https://api.openai.com/v1":   "https://api.openai.com/v1",
		"HTTPS://API.Example.COM/v1/": "https://api.example.com/v1",
		"https://h:8443":              "https://h:8443",
		"https://h/a/b?api-version=1": "https://h/a/b?api-version=1",
		"https://8.8.8.8/v1":          "https://8.8.8.8/v1",
	} {
		u, err := egress.ParseURL(in, false)
		require.NoError(t, err, in)
		require.Equal(t, want, u.String())
	}
	for _, in := range []string{
		"", "api.openai.com", "//h/v1", "http://h/v1", "ftp://h", "file:///etc/passwd", "https://", "https:///v1", "https:h", "https://u:p@h", "https://u@h",
		"https://h/#f", "https://h/v1#", "https://127.0.0.1", "https://[::1]:1", "https://localhost", "https://LOCALHOST.", "https://a.localhost", "https://[fe80::1%25eth0]/",
		"https://169.254.169.254/latest", "https://h/../x", "https://h/a%2f..", "https://h/%2e%2e/x", "https://:443/x",
	} {
		_, err := egress.ParseURL(in, false)
		require.Error(t, err, in)
		require.NotContains(t, err.Error(), "u:p")
	}
	for _, in := range []string{"http://127.0.0.1:11434/v1", "http://ollama:11434", "http://localhost"} {
		_, err := egress.ParseURL(in, true)
		require.NoError(t, err, in)
	}
	_, err := egress.ParseURL("http://169.254.169.254", true)
	require.Error(t, err)
}
