// Package redislease keeps what replicas share of rates, and of what runs at a time, in Redis. No budget is in it: what is lost or put back with a Redis is
// a minute's worth of a rate.
package redislease

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/promptgate/promptgate/policy/limits"
)

// Guard runs one round trip within Redis' time, or refuses at once while Redis is left alone. sharedcache.Cache is one.
type Guard interface {
	Within(ctx context.Context, do func(ctx context.Context) error) error
}

// Counters implements limits.Counters. It is safe for concurrent use.
type Counters struct {
	client redis.UniversalClient
	guard  Guard
	prefix string
}

var _ limits.Counters = (*Counters)(nil)

// New makes counters whose keys begin with prefix.
func New(client redis.UniversalClient, guard Guard, prefix string) *Counters {
	return &Counters{client: client, guard: guard, prefix: prefix + ":limit:"}
}

// name is a key in Redis: no name of a customer's is shown.
func (c *Counters) name(kind, key string) string {
	sum := sha256.Sum256([]byte(key))
	return c.prefix + kind + ":" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// take is limits.Refilled and limits.Drain: a bucket is "units at", in units of a minute's thousandth of a token times sixty, and milliseconds. ARGV is tokens a
// minute, want, need, the time in milliseconds. It answers what was got and what is left.
//
//nolint:gochecknoglobals // a constant
var take = redis.NewScript(`
local rate, want, need, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local unit = 60000
local have, at = rate * unit, now
local old = redis.call('GET', KEYS[1])
if old then
  local h, a = string.match(old, '^(-?%d+) (%d+)$')
  if h then
    have, at = tonumber(h), tonumber(a)
    if now > at then
      have = have + rate * math.min(now - at, unit)
      at = now
    end
    have = math.min(have, rate * unit)
  end
end
local got, room
if want < 0 then
  have = math.min(have - want * unit, rate * unit)
  got, room = want, math.max(0, math.floor(have / unit))
else
  room = math.max(0, math.floor(have / unit))
  if room < need or room == 0 then
    got = 0
  else
    got = math.min(want, room)
    have, room = have - got * unit, room - got
  end
end
redis.call('SET', KEYS[1], string.format('%.0f %.0f', have, at), 'PX', 120000)
return {got, room}`)

// Take implements limits.Counters.
func (c *Counters) Take(ctx context.Context, key string, b limits.Bucket) (got, room int64, err error) {
	out, err := c.run(ctx, take, c.name("rate", key), b.PerMinute, b.Want, b.Need, b.Now.UnixMilli())
	if err != nil {
		return 0, 0, err
	}
	if len(out) != 2 {
		return 0, 0, errAnswer
	}
	return out[0], out[1], nil
}

// hold is limits.Share among holders: "holder=places@until;…". ARGV is holder, limit, base, want, need, now and until, in milliseconds.
//
//nolint:gochecknoglobals // a constant
var hold = redis.NewScript(`
local me, limit, base, want, need = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local now, till = tonumber(ARGV[6]), tonumber(ARGV[7])
local room, others, keep, last = limit - base, 0, {}, till
for holder, n, at in string.gmatch(redis.call('GET', KEYS[1]) or '', '([%w_]+)=(%d+)@(%d+);') do
  if holder ~= me and tonumber(at) >= now then
    room, others, last = room - tonumber(n), others + 1, math.max(last, tonumber(at))
    keep[#keep + 1] = holder .. '=' .. n .. '@' .. at .. ';'
  end
end
local got = 0
if room > 0 and need <= room and want > 0 then
  got = math.max(need, math.min(want, need + math.floor((room - need) / (2 * (others + 1)))))
end
if base + got > 0 then
  keep[#keep + 1] = me .. '=' .. string.format('%.0f', base + got) .. '@' .. ARGV[7] .. ';'
end
redis.call('SET', KEYS[1], table.concat(keep), 'PX', math.max(1, last - now))
return {got}`)

// Hold implements limits.Counters.
func (c *Counters) Hold(ctx context.Context, key string, s limits.Stretch) (got int64, err error) {
	out, err := c.run(ctx, hold, c.name("places", key), s.Holder, s.Limit, s.Base, s.Want, s.Need, s.Now.UnixMilli(), s.Now.Add(s.For).UnixMilli())
	if err != nil {
		return 0, err
	}
	if len(out) != 1 {
		return 0, errAnswer
	}
	return out[0], nil
}

var errAnswer = errors.New("redislease: not an answer of its scripts")

func (c *Counters) run(ctx context.Context, script *redis.Script, key string, args ...any) (out []int64, err error) {
	err = c.guard.Within(ctx, func(ctx context.Context) (err error) {
		out, err = script.Run(ctx, c.client, []string{key}, args...).Int64Slice()
		return err
	})
	return out, err
}
