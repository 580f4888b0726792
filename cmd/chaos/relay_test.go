package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/internal/testenv"
)

// value writes a random value of the Redis protocol.
func value(t *rapid.T, depth int) []byte {
	text := func() string { return rapid.StringMatching(`[ -~]{0,20}`).Draw(t, "text") }
	kinds := "+-:,_#($!="
	if depth > 0 {
		kinds += "*~>%|"
	}
	kind := kinds[rapid.IntRange(0, len(kinds)-1).Draw(t, "kind")]
	switch kind {
	case '$', '!', '=':
		body := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "body")
		return append(append([]byte(string(kind)+strconv.Itoa(len(body))+"\r\n"), body...), '\r', '\n')
	case '*', '~', '>', '%', '|':
		n := rapid.IntRange(0, 3).Draw(t, "n")
		out := []byte(string(kind) + strconv.Itoa(n) + "\r\n")
		if kind == '%' || kind == '|' {
			n *= 2
		}
		for range n {
			out = append(out, value(t, depth-1)...)
		}
		return out
	}
	return []byte(string(kind) + text() + "\r\n")
}

func TestFramesAreWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, two := value(t, 3), value(t, 3)
		in := bufio.NewReader(bytes.NewReader(append(bytes.Clone(one), two...)))
		for _, want := range [][]byte{one, two} {
			got, err := readFrame(in, nil)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("read %q, want %q: %v", got, want, err)
			}
		}
		if _, err := readFrame(in, nil); !errors.Is(err, io.EOF) {
			t.Fatalf("after the end: %v", err)
		}
		if cut := one[:len(one)-1]; len(cut) > 0 {
			if _, err := readFrame(bufio.NewReader(bytes.NewReader(cut)), nil); err == nil {
				t.Fatalf("%q is not whole", cut)
			}
		}
	})
	for _, bad := range []string{"HTTP/1.1 200 OK\r\n", "$x\r\n", "$99999999999\r\n", "\r\n", "+a\n"} {
		_, err := readFrame(bufio.NewReader(bytes.NewBufferString(bad)), nil)
		require.ErrorIs(t, err, errFrame, "%q", bad)
	}
	none, err := readFrame(bufio.NewReader(bytes.NewBufferString("$-1\r\n*-1\r\n")), nil)
	require.NoError(t, err)
	require.Equal(t, "$-1\r\n", string(none))
}

func TestRelayLies(t *testing.T) {
	server := testenv.Redis(t)
	r, err := newRelay(t.Context(), server.Addr)
	require.NoError(t, err)
	defer r.close()
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	for _, protocol := range []int{2, 3} {
		r.become(honest)
		c := redis.NewClient(&redis.Options{Addr: r.addr(), Protocol: protocol, MaxRetries: -1})
		defer c.Close()
		require.NoError(t, c.Set(ctx, "k", "v\r\n$5", 0).Err())
		require.Equal(t, "v\r\n$5", c.Get(ctx, "k").Val())
		sub := c.Subscribe(ctx, "ch")
		defer sub.Close()
		_, err = sub.Receive(ctx)
		require.NoError(t, err)

		r.become(muted)
		require.NoError(t, c.Publish(ctx, "ch", "lost").Err())
		require.NoError(t, sub.Ping(ctx))
		pong, err := sub.Receive(ctx)
		require.NoError(t, err)
		require.IsType(t, &redis.Pong{}, pong, "the publication came through")
		r.become(honest)
		require.NoError(t, c.Publish(ctx, "ch", "heard").Err())
		heard, err := sub.ReceiveMessage(ctx)
		require.NoError(t, err)
		require.Equal(t, "heard", heard.Payload)

		r.become(fullUp)
		require.ErrorContains(t, c.Get(ctx, "k").Err(), "OOM")
		r.become(nonsense)
		require.Error(t, c.Get(ctx, "k").Err())
		r.become(honest)
		require.NoError(t, c.Get(ctx, "k").Err())
	}
}
