package keys_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/keys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)

func newHasher(t testing.TB) *keys.Hasher {
	t.Helper()
	h, err := keys.NewHasher(bytes.Repeat([]byte{7}, keys.MinHashKey))
	require.NoError(t, err)
	return h
}

func issue(t testing.TB, h *keys.Hasher) keys.Issued {
	t.Helper()
	k, err := h.Issue(rand.Reader)
	require.NoError(t, err)
	return k
}

func TestKeyFormat(t *testing.T) {
	h := newHasher(t)
	seen := map[string]bool{}
	for range 100 {
		k := issue(t, h)
		require.Regexp(t, `^pg_[a-z2-7]{48}_[a-z2-7]{7}$`, k.Plaintext)
		require.Len(t, k.Plaintext, keys.Length)
		lookup, ok := keys.Parse(k.Plaintext)
		require.True(t, ok)
		require.Equal(t, k.Lookup, lookup)
		require.Len(t, k.Hash, 32)
		require.True(t, h.Verify(k.Plaintext, k.Hash))
		require.True(t, strings.HasSuffix(k.Plaintext, k.LastFour))
		require.False(t, seen[k.Lookup])
		seen[k.Lookup] = true
		for _, shown := range []string{k.String(), fmt.Sprintf("%v %+v %#v", k, k, k), k.LogValue().String()} {
			require.NotContains(t, shown, k.Plaintext[19:51], "the secret is shown")
		}
	}
	// The format is a promise to the keys that are out there: this one must be understood for ever.
	fixed, err := h.Issue(bytes.NewReader(make([]byte, 30)))
	require.NoError(t, err)
	assert.Equal(t, "pg_"+strings.Repeat("a", 48)+"_6gxc7ba", fixed.Plaintext)

	_, err = h.Issue(bytes.NewReader(nil))
	assert.Error(t, err)
	_, err = keys.NewHasher(make([]byte, keys.MinHashKey-1))
	assert.Error(t, err)
	other, err := keys.NewHasher(bytes.Repeat([]byte{8}, keys.MinHashKey))
	require.NoError(t, err)
	assert.False(t, other.Verify(fixed.Plaintext, fixed.Hash), "the hash does not depend on the secret")
}

// CRC-32 finds each single wrong character and each swap of neighbours.
func TestTyposAreFound(t *testing.T) {
	token := issue(t, newHasher(t)).Plaintext
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(token)
		i := rapid.IntRange(0, len(b)-2).Draw(t, "place")
		switch rapid.SampledFrom([]string{"replace", "swap", "drop", "add", "case"}).Draw(t, "typo") {
		case "replace":
			b[i] = rapid.Byte().Draw(t, "byte")
		case "swap":
			b[i], b[i+1] = b[i+1], b[i]
		case "drop":
			b = append(b[:i], b[i+1:]...)
		case "add":
			b = append(b, rapid.Byte().Draw(t, "byte"))
		case "case":
			b = bytes.ToUpper(b)
		}
		_, ok := keys.Parse(string(b))
		require.Equal(t, string(b) == token, ok, "%s", b)
	})
}

func FuzzParse(f *testing.F) {
	h := newHasher(f)
	f.Add("")
	f.Add("pg_")
	f.Add(issue(f, h).Plaintext)
	f.Fuzz(func(t *testing.T, s string) {
		if lookup, ok := keys.Parse(s); ok && (len(lookup) != 16 || len(s) != keys.Length) {
			t.Fatal(s)
		}
	})
}

// world is a store, a feed and a clock that a test turns by hand.
type world struct {
	mu        sync.Mutex
	records   map[string]policy.KeyRecord
	err       error
	now       time.Time
	confirmed time.Time
	tell      func(journal.Change)
	during    func() // runs in each read, after it has read
	reads     atomic.Int64
}

func (w *world) KeyByLookup(ctx context.Context, lookup string) (policy.KeyRecord, error) {
	w.reads.Add(1)
	w.mu.Lock()
	rec, ok, err, during := w.records[lookup], false, w.err, w.during
	ok = rec.Lookup != ""
	w.mu.Unlock()
	if during != nil {
		during()
	}
	switch {
	case err != nil:
		return policy.KeyRecord{}, err
	case ctx.Err() != nil:
		return policy.KeyRecord{}, ctx.Err()
	case !ok:
		return policy.KeyRecord{}, fault.New(fault.NotFound, "no")
	}
	return rec, nil
}

func (w *world) Subscribe(fn func(journal.Change)) { w.tell = fn }

func (w *world) ConfirmedAt() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.confirmed }

func (w *world) Now() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }

func (w *world) set(f func()) { w.mu.Lock(); defer w.mu.Unlock(); f() }

// put stores a record and tells the feed, as a committed change does.
func (w *world) put(rec policy.KeyRecord) {
	w.set(func() { w.records[rec.Lookup] = rec })
	w.tell(journal.Change{Touches: []journal.Touch{{Kind: "label", Key: "x"}, {Kind: policy.TouchKey, Key: rec.Lookup}}})
}

func newWorld(t testing.TB) (*world, *keys.Authenticator, *keys.Hasher) {
	t.Helper()
	w := &world{records: map[string]policy.KeyRecord{}, now: noon, confirmed: noon}
	h := newHasher(t)
	a, err := keys.NewAuthenticator(w, h, w, keys.Options{Clock: w.Now})
	require.NoError(t, err)
	return w, a, h
}

func record(k keys.Issued, i int) policy.KeyRecord {
	return policy.KeyRecord{ID: "key_" + k.Lookup, Project: "prj_1", Name: fmt.Sprint("key ", i), Lookup: k.Lookup, Hash: k.Hash,
		Roles: []string{"viewer"}, Networks: []string{"10.0.0.0/8"}, Revision: int64(i)}
}

func TestAuthenticate(t *testing.T) {
	ctx := context.Background()
	w, a, h := newWorld(t)
	good, stranger := issue(t, h), issue(t, h)
	w.put(record(good, 1))

	p, err := a.Authenticate(ctx, good.Plaintext)
	require.NoError(t, err)
	assert.Equal(t, "key_"+good.Lookup, p.ID)
	assert.Equal(t, "key", p.Kind)
	assert.Equal(t, "prj_1", p.Project)
	assert.EqualValues(t, 1, p.Revision)
	for range 3 {
		again, err := a.Authenticate(ctx, good.Plaintext)
		require.NoError(t, err)
		assert.Same(t, p, again)
	}
	assert.EqualValues(t, 1, w.reads.Load(), "warm requests ask nobody")

	// A key with the same lookup and its own right checksum, but another secret.
	forged := good.Lookup + issue(t, h).Plaintext[19:51]
	raw := reissue(t, h, forged)
	_, wrongSecret := a.Authenticate(ctx, raw)
	_, unknown := a.Authenticate(ctx, stranger.Plaintext)
	expiring := issue(t, h)
	rec := record(expiring, 2)
	rec.Expires = noon.Add(time.Minute)
	w.put(rec)
	_, err = a.Authenticate(ctx, expiring.Plaintext)
	require.NoError(t, err)
	w.set(func() { w.now = noon.Add(time.Minute) })
	_, expired := a.Authenticate(ctx, expiring.Plaintext)
	rec = record(good, 3)
	rec.RevokedAt = noon
	w.put(rec)
	_, revoked := a.Authenticate(ctx, good.Plaintext)
	for name, err := range map[string]error{"wrong secret": wrongSecret, "unknown": unknown, "expired": expired, "revoked": revoked} {
		require.Equal(t, fault.InvalidAPIKey, fault.CodeOf(err), name)
		assert.Equal(t, unknown.Error(), err.Error(), "%s can be told apart", name)
	}

	reads := w.reads.Load()
	for _, s := range []string{"", "pg_", "sk-123", good.Plaintext + "x", strings.ToUpper(good.Plaintext), good.Plaintext[:keys.Length-1] + "b"} {
		_, err := a.Authenticate(ctx, s)
		require.Equal(t, fault.InvalidAPIKey, fault.CodeOf(err), "%q", s)
		if s != "" {
			assert.NotContains(t, err.Error(), good.Plaintext[19:51])
		}
	}
	assert.Equal(t, reads, w.reads.Load(), "a typo needs no look-up")
}

// reissue spells out the key that the given 48 characters would be.
func reissue(t *testing.T, h *keys.Hasher, body string) string {
	t.Helper()
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	raw, bits, n := []byte{}, 0, 0
	for _, c := range body {
		bits, n = bits<<5|strings.IndexRune(alphabet, c), n+5
		if n >= 8 {
			raw, n = append(raw, byte(bits>>(n-8))), n-8
			bits &= 1<<n - 1
		}
	}
	k, err := h.Issue(bytes.NewReader(raw))
	require.NoError(t, err)
	require.Equal(t, "pg_"+body, k.Plaintext[:51])
	return k.Plaintext
}

func TestUnknownKeysAreRememberedBriefly(t *testing.T) {
	ctx := context.Background()
	w, a, h := newWorld(t)
	k := issue(t, h)
	for range 3 {
		_, err := a.Authenticate(ctx, k.Plaintext)
		require.Equal(t, fault.InvalidAPIKey, fault.CodeOf(err))
	}
	assert.EqualValues(t, 1, w.reads.Load())
	w.set(func() { w.now = noon.Add(10 * time.Second) })
	_, err := a.Authenticate(ctx, k.Plaintext)
	require.Error(t, err)
	assert.EqualValues(t, 2, w.reads.Load(), "for ten seconds")
	w.put(record(k, 1))
	_, err = a.Authenticate(ctx, k.Plaintext)
	require.NoError(t, err, "a key works as soon as it is created")
}

func TestInfrastructureFaultsAreNotTheKeys(t *testing.T) {
	ctx := context.Background()
	w, a, h := newWorld(t)
	k := issue(t, h)
	w.put(record(k, 1))
	for _, err := range []error{errors.New("connection refused"), fault.New(fault.StorageFull, "full"), context.DeadlineExceeded, context.Canceled} {
		w.set(func() { w.err = err })
		_, got := a.Authenticate(ctx, k.Plaintext)
		assert.Equal(t, fault.RegistryUnavailable, fault.CodeOf(got), "%v", err)
	}
	w.set(func() { w.err = nil })
	_, err := a.Authenticate(ctx, k.Plaintext)
	require.NoError(t, err, "a fault is not remembered")
	w.set(func() { w.err = errors.New("down") })
	_, err = a.Authenticate(ctx, k.Plaintext)
	require.NoError(t, err, "and does not end what is known")

	broken := record(issue(t, h), 2)
	broken.Networks = []string{"nowhere"}
	w.put(broken)
	_, err = a.Authenticate(ctx, reissue(t, h, broken.Lookup+strings.Repeat("a", 32)))
	assert.NotEqual(t, fault.InvalidAPIKey, fault.CodeOf(err))
}

func TestStaleKeysAreNotServed(t *testing.T) {
	ctx := context.Background()
	w, a, h := newWorld(t)
	k := issue(t, h)
	w.put(record(k, 1))
	_, err := a.Authenticate(ctx, k.Plaintext)
	require.NoError(t, err)
	w.set(func() { w.now = noon.Add(time.Hour) })
	_, err = a.Authenticate(ctx, k.Plaintext)
	require.NoError(t, err)
	w.set(func() { w.now = noon.Add(time.Hour + 1) })
	_, err = a.Authenticate(ctx, k.Plaintext)
	assert.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err))
	w.set(func() { w.confirmed = w.now })
	_, err = a.Authenticate(ctx, k.Plaintext)
	require.NoError(t, err)
	w.set(func() { w.confirmed = time.Time{} }) // a feed that never heard from its database
	_, err = a.Authenticate(ctx, k.Plaintext)
	assert.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err))
}

// A read that began before a revocation must neither be answered from nor installed after it.
func TestRevocationOvertakesRead(t *testing.T) {
	ctx := context.Background()
	w, a, h := newWorld(t)
	k := issue(t, h)
	w.put(record(k, 1))
	var once sync.Once
	w.set(func() {
		w.during = func() {
			once.Do(func() { // the record has been read as valid; now the revocation commits and is heard of
				rec := record(k, 2)
				rec.RevokedAt = noon
				w.put(rec)
			})
		}
	})
	_, err := a.Authenticate(ctx, k.Plaintext)
	assert.Equal(t, fault.InvalidAPIKey, fault.CodeOf(err))
	_, err = a.Authenticate(ctx, k.Plaintext)
	assert.Equal(t, fault.InvalidAPIKey, fault.CodeOf(err))
	assert.EqualValues(t, 2, w.reads.Load())
}

// The same for a key that is created while somebody is told that it does not exist.
func TestCreationOvertakesRead(t *testing.T) {
	ctx := context.Background()
	w, a, h := newWorld(t)
	k := issue(t, h)
	var once sync.Once
	w.set(func() { w.during = func() { once.Do(func() { w.put(record(k, 1)) }) } })
	_, err := a.Authenticate(ctx, k.Plaintext)
	require.NoError(t, err)
}

// A key that changes during every read is answered from a read younger than the request, and is not kept.
func TestRestlessKey(t *testing.T) {
	ctx := context.Background()
	w, a, h := newWorld(t)
	k := issue(t, h)
	w.put(record(k, 1))
	w.set(func() { w.during = func() { w.put(record(k, 2)) } })
	for range 2 {
		before := w.reads.Load()
		_, err := a.Authenticate(ctx, k.Plaintext)
		require.NoError(t, err)
		assert.EqualValues(t, 3, w.reads.Load()-before)
	}
}

func TestReadsAreShared(t *testing.T) {
	w, a, h := newWorld(t)
	k := issue(t, h)
	w.put(record(k, 1))
	entered, release := make(chan struct{}), make(chan struct{})
	w.set(func() { w.during = func() { close(entered); <-release } })

	leader, leave := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	errs := make([]error, 20)
	wg.Go(func() { _, errs[0] = a.Authenticate(leader, k.Plaintext) })
	<-entered
	for i := 1; i < len(errs); i++ {
		wg.Go(func() { _, errs[i] = a.Authenticate(context.Background(), k.Plaintext) })
	}
	impatient, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := a.Authenticate(impatient, k.Plaintext)
	assert.Equal(t, fault.ClientClosed, fault.CodeOf(err), "who leaves does not wait for the others' read")
	late, cancel := context.WithDeadline(context.Background(), time.Now().Add(-1))
	defer cancel()
	_, err = a.Authenticate(late, k.Plaintext)
	assert.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err))

	leave() // who reads for all may leave: the read goes on
	close(release)
	wg.Wait()
	for _, err := range errs[1:] {
		assert.NoError(t, err)
	}
	assert.EqualValues(t, 1, w.reads.Load())
}

// Under concurrent edits nobody ever gets a principal older than the last change that was heard of before asking.
func TestNeverOlderThanHeard(t *testing.T) {
	w, a, h := newWorld(t)
	k := issue(t, h)
	w.put(record(k, 1))
	var heard atomic.Int64
	heard.Store(1)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				least := heard.Load()
				p, err := a.Authenticate(context.Background(), k.Plaintext)
				if !assert.NoError(t, err) || !assert.GreaterOrEqual(t, p.Revision, least) {
					return
				}
			}
		})
	}
	for i := 2; i < 3000; i++ {
		w.put(record(k, i))
		heard.Store(int64(i))
	}
	close(stop)
	wg.Wait()
}

func BenchmarkAuthenticate(b *testing.B) {
	for _, n := range []int{10, 1_000, 100_000} {
		w, a, h := newWorld(b)
		tokens := make([]string, n)
		for i := range tokens {
			k := issue(b, h)
			tokens[i] = k.Plaintext
			w.put(record(k, i))
			_, err := a.Authenticate(b.Context(), k.Plaintext)
			require.NoError(b, err)
		}
		reads := w.reads.Load()
		b.Run(fmt.Sprintf("warm/keys=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, err := a.Authenticate(context.Background(), tokens[i]); err != nil {
					b.Fatal(err)
				}
				if i++; i == n {
					i = 0
				}
			}
		})
		require.Equal(b, reads, w.reads.Load())
	}
	_, a, h := newWorld(b)
	typo := issue(b, h).Plaintext[:keys.Length-1] + "7"
	b.Run("typo", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.Authenticate(context.Background(), typo); err == nil {
				b.Fatal("accepted")
			}
		}
	})
}
