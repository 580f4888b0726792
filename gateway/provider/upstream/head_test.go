package upstream

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func head(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }

// plainHeads are taken, the others are left to http.ReadResponse, which refuses some.
func plainHeads() (plain, others []string) {
	const ok, length = "HTTP/1.1 200 OK", "Content-Length: 2"
	return []string{
			head(ok, length), head(ok, "content-LENGTH: \t2 \t"), head(ok, "Content-Length: 0002", "X:", "y: a: b"),
			head(ok, "Connection: keep-alive", "set-cookie: a", "Set-Cookie: b", "SET-COOKIE: c", length, "Content-Type: text/html"),
			head(ok, length, "A: 1", "B: 2", "A: 3", "-: x", "9: y"), head(ok, "Content-Length: 9223372036854775807"),
		}, []string{
			"", "H", ok, ok + "\r\n", head(ok), head(ok, ""), head(ok, "", length), head("HTTP/1.0 200 OK", length), head("HTTP/1.1 200", length),
			head("HTTP/1.1  200 OK", length), head("HTTP/1.1 200 ok", length), head("HTTP/1.1 204 No Content", length), head("HTTP/1.1 0200 OK", length),
			head("HTTP/1.1 103 Early Hints") + head(ok, length), head(ok, "Content-Type: text/plain"), head(ok, length, length),
			head(ok, length, "content-length: 3"), head(ok, "Content-Length: 2, 2"), head(ok, "Content-Length: +2"), head(ok, "Content-Length: -2"),
			head(ok, "Content-Length: 0"), head(ok, "Content-Length: 0", length), head(ok, "Content-Length:"), head(ok, "Content-Length: 0x2"), head(ok, "Content-Length: 1_0"),
			head(ok, "Content-Length: 9223372036854775808"), head(ok, "Content-Length: 2\x00"), head(ok, "Transfer-Encoding: chunked"),
			head(ok, "Transfer-Encoding: chunked", length), head(ok, length, "transfer-encoding: identity"), head(ok, "Transfer-Encoding : chunked", length),
			head(ok, length, "Trailer: X"), head(ok, length, "Connection: close"), head(ok, length, "connection: Keep-Alive, close"),
			head(ok, "Connection: keep-alive", "Connection: close", length), head(ok, length, "Pragma: no-cache"), head(ok, " X: y", length),
			head(ok, length, "X: y", " folded"), head(ok, length, "X: y", "\tfolded"), head(ok, "Content-Length : 2"), head(ok, "Content Length: 2", length),
			head(ok, length, ": x"), head(ok, length, "nothing"), head(ok, length, "X: a\rb"), head(ok, length, "X: a\nY: b"), head(ok, length, "X: a\x7f"),
			head(ok, length, "X\x00: a"), head(ok, length, "X: \xff"), head(ok, length, "Ⅹ: a"), head(ok, length, "X_Y: a"), head(ok, length, "X[: a"),
			strings.ReplaceAll(head(ok, length), "\r", ""), strings.TrimSuffix(head(ok, length), "\r\n") + "\n",
		}
}

// agree gives raw, of which the first cut bytes come at once, to plainHead and to http.ReadResponse, and returns whether it was taken: then it
// means the same to both.
func agree(t require.TestingT, raw []byte, cut int) bool {
	reader := func() *bufio.Reader {
		return bufio.NewReaderSize(io.MultiReader(bytes.NewReader(raw[:cut]), bytes.NewReader(raw[cut:])), readBuffer)
	}
	l, in := &line{in: reader()}, reader()
	_, _ = l.in.Peek(1)
	got := plainHead(l)
	if got == nil {
		rest, err := io.ReadAll(l.in)
		require.NoError(t, err)
		require.Equal(t, string(raw), string(rest), "what is left is left whole")
		return false
	}
	want, err := http.ReadResponse(in, nil)
	require.NoError(t, err, "%q", raw)
	gotBody, gotErr := io.ReadAll(got.Body)
	wantBody, wantErr := io.ReadAll(want.Body)
	require.Equal(t, wantErr, gotErr)
	require.Equal(t, string(wantBody), string(gotBody))
	n, err := got.Body.Read(make([]byte, 1))
	require.Zero(t, n)
	require.Error(t, err)
	got.Body, want.Body = nil, nil
	require.Equal(t, want, got, "%q", raw)
	for k, v := range got.Header {
		if len(v) == 1 {
			require.Equal(t, 1, cap(v), "%s: who appends a value overwrites no other header's", k)
		}
	}
	gotRest, _ := io.ReadAll(l.in)
	wantRest, _ := io.ReadAll(in)
	require.Equal(t, string(wantRest), string(gotRest))
	return true
}

func TestPlainHeads(t *testing.T) {
	plain, others := plainHeads()
	for _, text := range plain {
		raw := []byte(text + "{}" + answerOK)
		require.True(t, agree(t, raw, len(raw)), "%q", text)
		for cut := len(text) - 1; cut < len(raw); cut++ {
			require.Equal(t, cut >= len(text), agree(t, raw, cut), "%q cut at %d", text, cut)
			require.Equal(t, cut >= len(text), agree(t, raw[:cut], cut), "%q ends at %d", text, cut)
		}
	}
	for _, text := range others {
		raw := []byte(text + "{}")
		require.False(t, agree(t, raw, len(raw)), "%q", text)
	}
	long := head("HTTP/1.1 200 OK", "Content-Length: 2", "X: "+strings.Repeat("x", readBuffer))
	require.False(t, agree(t, []byte(long), len(long)))
}

// Whatever a head is made of, the quick way means what http.ReadResponse means by it.
func TestPlainHeadMeansTheSame(t *testing.T) {
	harmless := []string{
		"Connection: keep-alive\r\n", "Cache-Control: no-store\r\n", "X-Request-Id: 1\r\n", "x-request-id: 2\r\n", "set-cookie: a=b; c\r\n", "Set-Cookie:\r\n",
		"date: \t now \r\n", "Content-Type:application/json\r\n",
	}
	harmful := []string{
		"Content-Length: 0\r\n", "content-length:2\r\n", "Connection: close\r\n", "Connection:", "Pragma: no-cache\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding:",
		"Trailer: X\r\n", "\r\n", "\n", "\r", ":", " ", "\t", "X", "é", "\x00", "\x7f", "0", "HTTP/1.1 200 OK\r\n",
	}
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		lines := append(rapid.SliceOfN(rapid.SampledFrom(harmless), 0, 12).Draw(t, "lines"), "Content-Length: 2\r\n")
		lines = rapid.Permutation(lines).Draw(t, "order")
		harm := rapid.SliceOfN(rapid.SampledFrom(append(harmful, harmless...)), 0, 2).Draw(t, "harm")
		lines = slices.Insert(lines, rapid.IntRange(0, len(lines)).Draw(t, "at"), harm...)
		raw := []byte("HTTP/1.1 200 OK\r\n" + strings.Join(lines, "") + "\r\n{}and more")
		if rapid.IntRange(0, 3).Draw(t, "changed") == 0 {
			raw[rapid.IntRange(0, len(raw)-1).Draw(t, "byte")] = rapid.Byte().Draw(t, "to")
		}
		cut := len(raw) - rapid.IntRange(0, len("{}and more")+2).Draw(t, "late")
		if agree(t, raw, cut) {
			taken++
		}
	})
	require.Positive(t, taken, "of a hundred heads, a third")
}

func FuzzPlainHead(f *testing.F) {
	plain, others := plainHeads()
	for _, text := range append(plain, others...) {
		f.Add([]byte(text+"{}"), uint16(len(text)))
	}
	f.Fuzz(func(t *testing.T, raw []byte, cut uint16) { agree(t, raw, min(int(cut), len(raw))) })
}

// BenchmarkHead compares the two for what a small upstream says.
func BenchmarkHead(b *testing.B) {
	text := []byte(head("HTTP/1.1 200 OK", "Content-Type: application/json", "Date: Sun, 22 Nov 2026 17:44:22 GMT", "Content-Length: 2") + "{}")
	for name, read := range map[string]func(*line) (*http.Response, error){
		"plain":        readHead,
		"ReadResponse": func(l *line) (*http.Response, error) { return http.ReadResponse(l.in, nil) },
	} {
		b.Run(name, func(b *testing.B) {
			src := bytes.NewReader(nil)
			l := &line{in: bufio.NewReaderSize(src, readBuffer)}
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(text)
				l.in.Reset(src)
				resp, err := read(l)
				if err != nil {
					b.Fatal(err)
				}
				if _, err = io.Copy(io.Discard, resp.Body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
