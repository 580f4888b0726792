package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// A benchmark runs this test binary again, as the upstream or as the bare proxy.
const (
	benchRole   = "PROMPTGATE_BENCH_ROLE"
	benchAddr   = "PROMPTGATE_BENCH_ADDR"
	benchTarget = "PROMPTGATE_BENCH_TARGET"
	mallocsPath = "/__mallocs"

	// What the upstream does, unless it is the usual.
	benchDelay  = "PROMPTGATE_BENCH_DELAY"  // before each answer that is no stream; none
	benchGap    = "PROMPTGATE_BENCH_GAP"    // between the chunks of a stream; 1ms
	benchChunks = "PROMPTGATE_BENCH_CHUNKS" // of a stream; 100
	benchEvent  = "PROMPTGATE_BENCH_EVENT"  // bytes more in each of their events; none
	// benchShapeName is the shape of requests, for the rig as well; chat.
	benchShapeName = "PROMPTGATE_BENCH_SHAPE"
)

// playRole serves until it is killed when this process was started for a benchmark; it returns otherwise.
func playRole() {
	role, addr := os.Getenv(benchRole), os.Getenv(benchAddr)
	if role == "" {
		return
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	if role == "proxy" {
		log.Fatal(http.Serve(l, bareProxy(os.Getenv(benchTarget)))) //nolint:gosec // loopback, for seconds
	}
	u := upstream{delay: setting(benchDelay, 0, time.ParseDuration), gap: setting(benchGap, time.Millisecond, time.ParseDuration)}
	shape := benchShapes()[setting(benchShapeName, "chat", func(s string) (string, error) { return s, nil })]
	u.answer, u.stream = shape.answers(setting(benchChunks, 100, strconv.Atoi), setting(benchEvent, 0, strconv.Atoi))
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go u.answerAll(c)
	}
}

// setting is what the environment says, or else the usual.
func setting[T any](name string, usual T, parse func(string) (T, error)) T {
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	v, err := parse(text)
	if err != nil {
		log.Fatal(name, ": ", err)
	}
	return v
}

// upstream answers every request alike.
type upstream struct {
	answer     []byte
	stream     [][]byte
	delay, gap time.Duration
}

// bareProxy does nothing but pass on, with a transport that keeps its connections.
func bareProxy(target string) http.Handler {
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target})
	p.Transport = &http.Transport{MaxIdleConnsPerHost: 4096, IdleConnTimeout: 90 * time.Second, DisableCompression: true}
	p.ErrorLog, p.BufferPool = log.New(io.Discard, "", 0), &copyBuffers{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == mallocsPath {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			fmt.Fprintf(w, "mallocs %d\n", m.Mallocs)
			return
		}
		p.ServeHTTP(w, r)
	})
}

// copyBuffers lends the proxy what it copies answers with.
type copyBuffers struct{ pool sync.Pool }

func (p *copyBuffers) Get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

func (p *copyBuffers) Put(b []byte) { p.pool.Put(&b) }

// answerAll answers what comes over one connection, as cheaply as can be.
func (u *upstream) answerAll(c net.Conn) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 16<<10)
	var body []byte
	for {
		n, chunked, err := readHead(in)
		if err != nil || chunked {
			return
		}
		body = append(body[:0], make([]byte, n)...)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		if !bytes.Contains(body, []byte(`"stream":true`)) {
			time.Sleep(u.delay)
			if _, err := c.Write(u.answer); err != nil {
				return
			}
			continue
		}
		for i, chunk := range u.stream {
			if i > 0 {
				time.Sleep(u.gap)
			}
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}
}

// readHead reads a request's head and returns the length of its body.
func readHead(in *bufio.Reader) (length int, chunked bool, err error) {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, false, err
		}
		if len(line) <= 2 {
			return length, chunked, nil
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, false, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		}
	}
}
