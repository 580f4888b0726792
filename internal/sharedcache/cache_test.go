package sharedcache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/testenv"
)

type fixture struct {
	*Cache
	client   redis.UniversalClient
	revision atomic.Int64
}

func newFixture(t testing.TB, addr string, sealer *seal.Sealer) *fixture {
	t.Helper()
	f := &fixture{}
	var err error
	f.client, err = NewClient(Config{Addrs: []string{addr}, Budget: 500 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.client.Close() })
	f.Cache, err = New(Options{Client: f.client, Sealer: sealer, Revision: f.revision.Load, Budget: 500 * time.Millisecond})
	require.NoError(t, err)
	return f
}

func sealerFor(t testing.TB) *seal.Sealer {
	return testenv.Sealer(t, testenv.Open(t, testenv.SQLite(t)))
}

// load counts how often the database below is asked.
type below struct {
	value string
	asked int
}

func (b *below) load(context.Context) (string, error) { b.asked++; return b.value, nil }

func read(t *testing.T, f *fixture, k Key, b *below) string {
	t.Helper()
	v, err := Read(t.Context(), f.Cache, k, false, b.load)
	require.NoError(t, err)
	return v
}

func touch(revision int64, k Key) journal.Change {
	return journal.Change{Revision: revision, Touches: []journal.Touch{{Kind: k.Kind, Project: k.Project, Key: k.ID}}}
}

var label = Key{"label", "prj_1", "pmpt_1\x00production"}

func TestReplicasShare(t *testing.T) {
	sealer, addr := sealerFor(t), testenv.Redis(t).Addr
	one, two := newFixture(t, addr, sealer), newFixture(t, addr, sealer)
	b := &below{value: "<1>"}
	require.Equal(t, "<1>", read(t, one, label, b))
	require.Equal(t, "<1>", read(t, two, label, b))
	require.Equal(t, 1, b.asked, "the second replica had to ask the database")
}

// A change ends what is shared for everybody, and a read that began before it cannot bring the old value back.
func TestChangeOutlivesReadsInFlight(t *testing.T) {
	sealer, addr := sealerFor(t), testenv.Redis(t).Addr
	one, two := newFixture(t, addr, sealer), newFixture(t, addr, sealer)
	b := &below{value: "old"}
	_, err := Read(t.Context(), one.Cache, label, false, func(ctx context.Context) (string, error) {
		two.revision.Store(7)
		two.Apply(touch(7, label)) // the change comes while the old value is on its way
		return b.load(ctx)
	})
	require.NoError(t, err)
	b.value = "new"
	require.Equal(t, "new", read(t, two, label, b), "the old value was put over the tombstone")
	one.revision.Store(7)
	one.Apply(touch(7, label)) // late word of it does not bury what is newer
	require.Equal(t, "new", read(t, one, label, b))
	require.Equal(t, 2, b.asked)
}

// A tombstone can be lost with the server that held it. Who has heard of the change does not believe older entries; who starts later
// is told by Seed.
func TestLostTombstone(t *testing.T) {
	sealer, addr := sealerFor(t), testenv.Redis(t).Addr
	one := newFixture(t, addr, sealer)
	one.revision.Store(3)
	b := &below{value: "old"}
	read(t, one, label, b)
	b.value = "new"
	one.Heard(touch(7, label))
	one.revision.Store(7)
	require.Equal(t, "new", read(t, one, label, b))

	two := newFixture(t, addr, sealer)
	require.NoError(t, two.client.Del(t.Context(), two.name(label)).Err())
	two.revision.Store(3)
	stale := &below{value: "stale"}
	read(t, two, label, stale)
	for name, seed := range map[string]func(*fixture){
		"seeded":            func(f *fixture) { f.Seed(0, []journal.Change{touch(7, label)}) },
		"older than a life": func(f *fixture) { f.Seed(9, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, addr, sealer)
			f.revision.Store(2) // so that the stale entry stays for the next case
			require.Equal(t, "stale", read(t, f, label, &below{value: "new"}), "the entry is there")
			seed(f)
			require.Equal(t, "new", read(t, f, label, &below{value: "new"}))
		})
	}
}

// What never changes is believed whatever its age: only pointers can be from before a change.
func TestWhatNeverChangesHasNoFloor(t *testing.T) {
	f := newFixture(t, testenv.Redis(t).Addr, sealerFor(t))
	f.revision.Store(3)
	version := func(b *below) string {
		v, err := Read(t.Context(), f.Cache, Key{"version", "prj_1", "1"}, true, b.load)
		require.NoError(t, err)
		return v
	}
	require.Equal(t, "text", version(&below{value: "text"}))
	f.Seed(9, nil)
	require.Equal(t, "text", version(&below{value: "asked again"}))
}

// Whoever can write to Redis cannot make a replica believe anything: entries are bound to kind, project, key and revision.
func TestForgedEntries(t *testing.T) {
	sealer, server := sealerFor(t), testenv.Redis(t)
	f := newFixture(t, server.Addr, sealer)
	f.revision.Store(5)
	other := Key{"label", "prj_2", label.ID}
	read(t, f, other, &below{value: "theirs"})
	theirs, err := f.client.Get(t.Context(), f.name(other)).Result()
	require.NoError(t, err)
	read(t, f, label, &below{value: "ours"})
	ours, err := f.client.Get(t.Context(), f.name(label)).Result()
	require.NoError(t, err)
	require.NotContains(t, ours, "ours", "not sealed")
	flipped := []byte(ours)
	flipped[len(flipped)-1] ^= 1
	for name, forged := range map[string]string{
		"another project's": theirs, "a later revision": stamp(9) + ours[revisionDigits:], "a flipped bit": string(flipped), "cut": ours[:30],
		"short": "1", "not a number": strings.Repeat("x", 40), "garbage": stamp(9) + "garbage", "negative": "-0000000000000000001" + ours[revisionDigits:],
	} {
		require.NoError(t, f.client.Set(t.Context(), f.name(label), forged, 0).Err())
		require.Equal(t, "truth", read(t, f, label, &below{value: "truth"}), name)
	}
	// An entry of another type is an error of Redis, and no harm.
	require.NoError(t, f.client.Del(t.Context(), f.name(label)).Err())
	require.NoError(t, f.client.LPush(t.Context(), f.name(label), "x").Err())
	require.Equal(t, "truth", read(t, f, label, &below{value: "truth"}))
}

// A paused server costs each read no more than its budget, and after three of them nothing; it is used again when it answers.
func TestPausedRedis(t *testing.T) {
	sealer, server := sealerFor(t), testenv.Redis(t)
	f := newFixture(t, server.Addr, sealer)
	f.o.Budget = 50 * time.Millisecond
	b := &below{value: "v"}
	read(t, f, label, b)
	server.Pause()
	for range 20 {
		require.Equal(t, "v", read(t, f, label, b))
	}
	require.True(t, f.Down(), "the breaker never opened")
	require.Equal(t, 21, b.asked)
	server.Resume()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	require.Eventually(t, func() bool { return !f.Down() }, 10*time.Second, 20*time.Millisecond)
	read(t, f, label, b)
	asked := b.asked
	read(t, f, label, b)
	require.Equal(t, asked, b.asked, "Redis answers again and is not used")

	server.Pause() // its loss is noticed without any reader
	require.Eventually(t, f.Down, 10*time.Second, 20*time.Millisecond)
	server.Resume()
	stop()
	require.NoError(t, <-done)
}

func TestReadKeepsTheSourcesErrors(t *testing.T) {
	f := newFixture(t, testenv.Redis(t).Addr, sealerFor(t))
	boom := errors.New("boom")
	_, err := Read(t.Context(), f.Cache, label, false, func(context.Context) (string, error) { return "", boom })
	require.ErrorIs(t, err, boom)
	require.Equal(t, "v", read(t, f, label, &below{value: "v"}), "the error was shared")
}

// No two keys share an entry, whatever their parts hold.
func TestNamesNeverCollide(t *testing.T) {
	c := &Cache{o: Options{Prefix: "p"}}
	part := rapid.OneOf(
		rapid.SampledFrom([]string{"", "3", "v3", "three", "a", "a/b", "a\x00b", "\x00", "production", "pmpt_1\x003"}),
		rapid.StringN(0, 6, 12),
	)
	rapid.Check(t, func(t *rapid.T) {
		a := Key{part.Draw(t, "kind"), part.Draw(t, "project"), part.Draw(t, "id")}
		b := Key{part.Draw(t, "kind"), part.Draw(t, "project"), part.Draw(t, "id")}
		require.Equal(t, a == b, c.name(a) == c.name(b), "%q %q", a, b)
	})
}

func TestInvalidationsForgetOldestFirst(t *testing.T) {
	v := newInvalidations(3)
	for i := range int64(5) {
		v.add(fmt.Sprint("k", i), i+1)
	}
	require.EqualValues(t, 5, v.newest("k4", false))
	require.EqualValues(t, 3, v.newest("k2", false))
	require.EqualValues(t, 2, v.newest("k0", false), "forgotten, so the floor holds for it")
	require.EqualValues(t, 2, v.newest("never heard of", false))
	v.add("k4", 1)
	require.EqualValues(t, 5, v.newest("k4", false), "older word does not lower it")
}

func TestBus(t *testing.T) {
	sealer, addr := sealerFor(t), testenv.Redis(t).Addr
	one, two := newFixture(t, addr, sealer), newFixture(t, addr, sealer)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	subscriber, err := NewClient(Config{Addrs: []string{addr}, Budget: time.Second})
	require.NoError(t, err)
	defer subscriber.Close()
	hints := make(chan journal.Change, 10)
	sender := NewBus(one.Cache, one.client, false, nil)
	receiver := NewBus(two.Cache, subscriber, false, func(c journal.Change) { hints <- c })
	ctx, cancel := context.WithCancel(t.Context())
	revisions := make(chan int64, 10)
	ended := make(chan error, 1)
	go func() { ended <- receiver.Subscribe(ctx, func(r int64) { revisions <- r }) }()
	require.Eventually(t, func() bool {
		n, err := one.client.PubSubNumSub(t.Context(), sender.channel).Result()
		return err == nil && n[sender.channel] == 1
	}, 5*time.Second, 5*time.Millisecond)

	require.NoError(t, one.client.Publish(t.Context(), sender.channel, "forged").Err())
	ch := touch(12, label)
	sender.Applied(ch)
	sender.Publish(t.Context(), 12)
	require.EqualValues(t, 12, <-revisions, "a forged message went through")
	require.Equal(t, ch, <-hints)
	require.EqualValues(t, 12, two.seen.newest(two.name(label), false))
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

func BenchmarkReadFromRedis(b *testing.B) {
	f := newFixture(b, testenv.Redis(b).Addr, sealerFor(b))
	load := func(context.Context) (string, error) { return strings.Repeat("x", 1024), nil }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(b.Context(), f.Cache, label, false, load); err != nil {
			b.Fatal(err)
		}
	}
}
