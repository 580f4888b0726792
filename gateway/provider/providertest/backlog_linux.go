package providertest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fullBacklog listens, accepts nobody, and fills its own queue: whoever dials it waits for an answer that does not come.
func fullBacklog(t *testing.T) (url string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(fd, 0))
	name, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*syscall.SockaddrInet4).Port)).String()
	for range 16 {
		c, err := net.DialTimeout("tcp", addr, 50*time.Millisecond)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			return fmt.Sprintf("http://%s", addr)
		}
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Skip("this kernel's queue does not fill")
	return ""
}
