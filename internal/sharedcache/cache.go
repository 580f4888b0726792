package sharedcache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
)

// Options of a Cache; Client, Sealer and Revision are required.
type Options struct {
	Client   redis.UniversalClient
	Sealer   *seal.Sealer
	Revision func() int64  // the journal's, as this replica has applied it
	Prefix   string        // of every key; default "promptgate"
	Budget   time.Duration // of one command; default 50 ms
	TTL      time.Duration // of pointers; what never changes lives ten times as long; default 1 h
	Registry prometheus.Registerer
	Log      *slog.Logger
	Clock    func() time.Time
	OnHit    func(kind string) // called for each read that Redis answers
}

// Cache reads through Redis. It is safe for concurrent use and starts no goroutine: Run is to be run.
type Cache struct {
	o        Options
	seen     *invalidations
	meter    *meter
	failures atomic.Int32 // in a row
	down     atomic.Bool  // Redis is left alone
}

// New makes a cache. It does not connect.
func New(o Options) (*Cache, error) {
	if o.Client == nil || o.Sealer == nil || o.Revision == nil {
		return nil, errors.New("sharedcache: a client, a sealer and a revision are required")
	}
	if o.Prefix == "" {
		o.Prefix = "promptgate"
	}
	if o.Budget <= 0 {
		o.Budget = 50 * time.Millisecond
	}
	if o.TTL <= 0 {
		o.TTL = time.Hour
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.OnHit == nil {
		o.OnHit = func(string) {}
	}
	c := &Cache{o: o, seen: newInvalidations(maxInvalidations)}
	var err error
	if c.meter, err = newMeter(o.Registry); err != nil {
		return nil, err
	}
	return c, nil
}

// Key names an entry. Kinds and keys are those of journal.Touch, so that a change finds the entries that it made stale.
type Key struct {
	Kind    string
	Project string
	ID      string
}

// name is the key in Redis: a hash over parts with their lengths, so that no two Keys share one, and no name of a customer's is shown.
func (c *Cache) name(k Key) string {
	var buf [256]byte
	b := buf[:0]
	for _, part := range [...]string{k.Kind, k.Project, k.ID} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	sum := sha256.Sum256(b)
	return c.o.Prefix + ":" + k.Kind + ":" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// A stored entry is 20 digits of revision, then nothing (a tombstone) or the sealed value. Digits compare as text: Lua's numbers
// would lose the low ones.
const revisionDigits = 20

func stamp(revision int64) string { return fmt.Sprintf("%0*d", revisionDigits, max(revision, 0)) }

// fill stores a value that was read at a revision, unless a change after that revision was heard of: ARGV is revision, value, TTL in ms.
//
//nolint:gochecknoglobals // a constant
var fill = redis.NewScript(`
local cur = redis.call('GETRANGE', KEYS[1], 0, 19)
if cur ~= '' and cur > ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
return 1`)

// bury writes a tombstone, unless what stands there is of that change or a later one: ARGV is revision, TTL in ms.
const bury = `
local cur = redis.call('GETRANGE', KEYS[1], 0, 19)
if cur ~= '' and cur >= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`

// Read answers k from Redis, else from load, whose answer is put into Redis for the other replicas. Errors are load's: Redis itself never
// makes a read fail. Values that never change (versions) are kept longer.
func Read[T any](ctx context.Context, c *Cache, k Key, immutable bool, load func(context.Context) (T, error)) (T, error) {
	name := c.name(k)
	var v T
	if sealed, revision, ok := c.get(ctx, k, name, immutable); ok {
		if err := c.open(sealed, k, name, revision, &v); err == nil {
			c.meter.read(k.Kind, "hit")
			c.o.OnHit(k.Kind)
			return v, nil
		}
		// Not ours, or not of this place: whoever wrote it had no key. Read the truth and write over it.
		c.meter.read(k.Kind, "forged")
		var zero T
		v = zero
	}
	// What load answers is at least as new as the revision that was applied before it began.
	revision := c.o.Revision()
	v, err := load(ctx)
	if err == nil {
		c.put(ctx, k, name, revision, v, immutable)
	}
	return v, err
}

func (c *Cache) get(ctx context.Context, k Key, name string, immutable bool) (sealed []byte, revision int64, ok bool) {
	var raw []byte
	err := c.within(ctx, func(ctx context.Context) (err error) {
		raw, err = c.o.Client.Get(ctx, name).Bytes()
		return err
	})
	switch {
	case errors.Is(err, redis.Nil):
		c.meter.read(k.Kind, "miss")
		return nil, 0, false
	case errors.Is(err, errOpen):
		c.meter.read(k.Kind, "skipped")
		return nil, 0, false
	case err != nil:
		c.meter.read(k.Kind, "error")
		return nil, 0, false
	}
	if len(raw) < revisionDigits {
		c.meter.read(k.Kind, "forged")
		return nil, 0, false
	}
	revision, err = strconv.ParseInt(string(raw[:revisionDigits]), 10, 64)
	switch {
	case err != nil:
		c.meter.read(k.Kind, "forged")
		return nil, 0, false
	case len(raw) == revisionDigits:
		c.meter.read(k.Kind, "tombstone")
		return nil, 0, false
	case revision < c.seen.newest(name, immutable):
		c.meter.read(k.Kind, "old")
		return nil, 0, false
	}
	return raw[revisionDigits:], revision, true
}

// bind ties an entry to its place: project, kind, key and revision.
func bind(k Key, name string, revision int64) seal.Bind {
	return seal.Bind{Table: "redis." + k.Kind, Row: name, Column: strconv.FormatInt(revision, 10), Project: k.Project}
}

func (c *Cache) open(sealed []byte, k Key, name string, revision int64, v any) error {
	plain, err := c.o.Sealer.Open(sealed, bind(k, name, revision))
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, v)
}

func (c *Cache) put(ctx context.Context, k Key, name string, revision int64, v any, immutable bool) {
	plain, err := marshal(v)
	if err != nil {
		return // a value without JSON is not shared
	}
	sealed, err := c.o.Sealer.Seal(plain, bind(k, name, revision))
	if err != nil {
		return
	}
	ttl := c.o.TTL
	if immutable {
		ttl *= 10
	}
	// The reader has its answer: its leaving does not stop others from having it too.
	_ = c.within(context.WithoutCancel(ctx), func(ctx context.Context) error {
		return fill.Run(ctx, c.o.Client, []string{name}, stamp(revision), sealed, ttl.Milliseconds()).Err()
	})
}

// Apply is for journal.Subscribe, before anything that reads through this cache: from here on entries older than the change are not
// believed, and Redis is told.
func (c *Cache) Apply(ch journal.Change) {
	c.Heard(ch)
	if !ch.At.IsZero() {
		c.meter.lag.Observe(max(0, c.o.Clock().Sub(ch.At).Seconds()))
	}
	if len(ch.Touches) == 0 {
		return
	}
	// A change to many keys is told in one round trip. Failing is no harm: whoever has heard of the change does not believe older entries.
	_ = c.within(context.Background(), func(ctx context.Context) error {
		p := c.o.Client.Pipeline()
		for _, t := range ch.Touches {
			p.Eval(ctx, bury, []string{c.name(Key{t.Kind, t.Project, t.Key})}, stamp(ch.Revision), c.o.TTL.Milliseconds())
		}
		_, err := p.Exec(ctx)
		return err
	})
}

// Heard makes this replica distrust entries older than a change, without telling Redis: for changes heard of by pub/sub, and for those
// before the start of this process (Seed).
func (c *Cache) Heard(ch journal.Change) {
	for _, t := range ch.Touches {
		c.seen.add(c.name(Key{t.Kind, t.Project, t.Key}), ch.Revision)
	}
}

// Seed tells a new process of the changes since TTL ago, oldest first: an entry that a lost tombstone should have ended may still be there. floor is
// the revision of TTL ago, or of the oldest change that is given when there were more: no pointer that is older can have lived that long, so one that
// is there was kept and put back by somebody, and is not believed, such as a key that was revoked since.
func (c *Cache) Seed(floor int64, changes []journal.Change) {
	c.seen.raise(floor)
	for _, ch := range changes {
		c.Heard(ch)
	}
}

// TTL is how long a pointer may live in Redis.
func (c *Cache) TTL() time.Duration { return c.o.TTL }

// marshal keeps < > & as they are: raw JSON inside v is part of what is stored.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}
