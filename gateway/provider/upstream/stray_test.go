//go:build unix

package upstream

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const answerStray = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n\"stray\""

// What comes after an answer is no answer to the next call, however soon that is made.
func TestStrayAnswer(t *testing.T) {
	read := make(chan struct{})
	url, connections := script(t, func(c net.Conn, in *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			_, _ = in.Discard(len(`{"model":"m"}`))
			_, _ = io.WriteString(c, answerOK)
			<-read
			_, _ = io.WriteString(c, answerStray)
		}
	})
	p := plain(t, Options{BaseURL: url})
	for range 3 {
		require.Equal(t, "{}", fetch(t, p))
		read <- struct{}{}
		s := &p.direct.lines
		require.Eventually(t, func() bool { return !s.idle[0].quiet() }, time.Minute, time.Millisecond)
		s.idle[0].idleFrom = time.Now()
	}
	require.EqualValues(t, 3, connections.Load())
}

// records holds what is written until it is told to send it all at once.
type records struct {
	net.Conn
	held []byte
	hold bool
}

func (r *records) Write(p []byte) (int, error) {
	if !r.hold {
		return r.Conn.Write(p)
	}
	r.held = append(r.held, p...)
	return len(p), nil
}

// Over TLS the stray answer may be a record of its own that was read along with the answer's: neither the kernel nor the line's buffer has it.
func TestStrayAnswerOverTLS(t *testing.T) {
	borrowed := httptest.NewTLSServer(nil) // its certificate
	defer borrowed.Close()
	roots := x509.NewCertPool()
	roots.AddCert(borrowed.Certificate())
	config := &tls.Config{Certificates: borrowed.TLS.Certificates, MinVersion: tls.VersionTLS12}
	for name, stray := range map[string]string{"stray": answerStray, "none": ""} {
		t.Run(name, func(t *testing.T) {
			url, connections := script(t, func(c net.Conn, _ *bufio.Reader) {
				raw := &records{Conn: c}
				s := tls.Server(raw, config)
				in := bufio.NewReader(s)
				for {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					_, _ = in.Discard(len(`{"model":"m"}`))
					raw.hold = true
					_, _ = io.WriteString(s, answerOK)
					_, _ = io.WriteString(s, stray)
					raw.hold = false
					_, _ = c.Write(raw.held)
					raw.held = nil
				}
			})
			p := plain(t, Options{BaseURL: "https" + url[len("http"):], TLS: &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12}})
			for range 3 {
				require.Equal(t, "{}", fetch(t, p))
			}
			require.Equal(t, map[bool]int32{true: 3, false: 1}[stray != ""], connections.Load())
		})
	}
}
