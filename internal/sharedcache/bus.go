package sharedcache

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
)

// Bus carries word of changes between replicas: a journal.Notifier. Its messages name what a change touched, so that a replica that has lost
// the database, but not Redis, forgets a revoked key all the same. Messages are sealed and may be lost: polling finds every change.
type Bus struct {
	cache   *Cache
	client  redis.UniversalClient // of its own: a subscription holds its connection
	sharded bool
	channel string
	onHint  func(journal.Change)
	denied  atomic.Bool // the server refuses the subscription

	mu     sync.Mutex
	recent map[int64][]journal.Touch // of changes that this replica applied, until they are published
}

const (
	maxRecent       = 1024
	subscribeWithin = time.Second // the first answer; without a bound a server that hangs would be waited for until it is thawed
)

// NewBus makes the notifier. client is for subscriptions alone; sharded chooses Redis Cluster's sharded pub/sub. onHint is told of
// each change heard of, before the journal has read it: only forget on it.
func NewBus(c *Cache, client redis.UniversalClient, sharded bool, onHint func(journal.Change)) *Bus {
	return &Bus{
		cache: c, client: client, sharded: sharded, onHint: onHint, recent: map[int64][]journal.Touch{},
		channel: c.o.Prefix + ":{changes}",
	}
}

// Applied is for journal.Subscribe: it keeps what a change touched for the message about it.
func (b *Bus) Applied(ch journal.Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.recent) >= maxRecent {
		clear(b.recent) // changes of others, never published here
	}
	b.recent[ch.Revision] = ch.Touches
}

type message struct {
	Revision int64           `json:"r"`
	Touches  []journal.Touch `json:"t,omitempty"`
}

func (b *Bus) bind() seal.Bind { return seal.Bind{Table: "redis.channel", Row: b.channel} }

// Publish implements journal.Notifier.
func (b *Bus) Publish(ctx context.Context, revision int64) {
	b.mu.Lock()
	m := message{Revision: revision, Touches: b.recent[revision]}
	delete(b.recent, revision)
	b.mu.Unlock()
	plain, err := json.Marshal(m)
	if err != nil {
		return
	}
	sealed, err := b.cache.o.Sealer.Seal(plain, b.bind())
	if err != nil {
		return
	}
	_ = b.cache.within(ctx, func(ctx context.Context) error {
		if b.sharded {
			return b.cache.o.Client.SPublish(ctx, b.channel, sealed).Err()
		}
		return b.cache.o.Client.Publish(ctx, b.channel, sealed).Err()
	})
}

// Subscribe implements journal.Notifier: it returns when ctx is done or the subscription breaks.
func (b *Bus) Subscribe(ctx context.Context, fn func(revision int64)) error {
	var sub *redis.PubSub
	if b.sharded {
		sub = b.client.SSubscribe(ctx, b.channel)
	} else {
		sub = b.client.Subscribe(ctx, b.channel)
	}
	defer sub.Close()
	if _, err := sub.ReceiveTimeout(ctx, subscribeWithin); err != nil {
		b.refused(err)
		return err
	}
	b.denied.Store(false)
	in := sub.Channel()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case msg, ok := <-in:
			if !ok {
				return errors.New("sharedcache: the subscription ended")
			}
			b.receive(msg.Payload, fn)
		}
	}
}

// refused tells, once, of what no waiting mends: the caller tries again, and without this word of changes would be late for ever, unseen.
func (b *Bus) refused(err error) {
	if redis.HasErrorPrefix(err, "NOPERM") && !b.denied.Swap(true) {
		b.cache.o.Log.Warn("redis does not let its user subscribe: changes of other replicas are found by polling alone", "error", err)
	}
}

// receive drops what does not open: only replicas have the key.
func (b *Bus) receive(payload string, fn func(int64)) {
	plain, err := b.cache.o.Sealer.Open([]byte(payload), b.bind())
	if err != nil {
		return
	}
	var m message
	if json.Unmarshal(plain, &m) != nil {
		return
	}
	ch := journal.Change{Revision: m.Revision, Touches: m.Touches}
	b.cache.Heard(ch)
	if b.onHint != nil {
		b.onHint(ch)
	}
	fn(m.Revision)
}
