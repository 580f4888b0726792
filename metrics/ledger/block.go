package ledger

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

// blockCalls is how many calls a block has at most: one that is looked for is found among so many.
const blockCalls = 64

// bundle is the calls of a batch that share the columns of a block, and a row of figures.
type bundle struct {
	block  rollupKey
	row    rollupKey
	folded bool // the row stands for more than the block's columns would say of each call
	calls  []*spooledCall
}

// bundles sorts a batch, each bundle by time. folded is how many of the calls are not kept apart in the figures.
func (c *rollupCache) bundles(shard string, calls []spooledCall) (out []*bundle, folded int64) {
	rows := &rowGrants{cache: c, fresh: map[rollupKey]bool{}, more: map[projectMinute]int{}}
	byKey, byBlock := map[rollupKey]*bundle{}, map[rollupKey]*bundle{}
	var lastKey rollupKey
	var last *bundle
	for i := range calls {
		c := &calls[i]
		if key := keyOf(shard, &c.call); last == nil || key != lastKey { // mostly it is the key of the call before
			if last = byKey[key]; last == nil {
				fresh := rows.grant(key)
				if last = byBlock[fresh.block]; last == nil {
					last = fresh
					byBlock[fresh.block] = last
					out = append(out, last)
				}
				byKey[key] = last
			}
			lastKey = key
		}
		last.calls = append(last.calls, c)
	}
	for _, b := range out {
		if b.folded {
			folded += int64(len(b.calls))
		}
		slices.SortFunc(b.calls, func(x, y *spooledCall) int { return comparePlaces(&x.call, &y.call) })
	}
	return out, folded
}

// comparePlaces orders calls as lists do, the oldest first.
func comparePlaces(a, b *metrics.Call) int {
	return cmp.Or(cmp.Compare(a.Start.UnixMicro(), b.Start.UnixMicro()), cmp.Compare(a.ID, b.ID))
}

// appendToBlock encodes a record behind those that stand in a block.
func appendToBlock(block, record []byte) []byte {
	return append(binary.AppendUvarint(block, uint64(len(record))), record...)
}

// sizeInBlock is at most how many bytes calls take in a block.
func sizeInBlock(calls []*spooledCall) int {
	n := 0
	for _, c := range calls {
		n += binary.MaxVarintLen32 + len(c.record)
	}
	return n
}

// callsOf reads a block.
func callsOf(block []byte) ([]metrics.Call, error) {
	calls := make([]metrics.Call, 0, blockCalls)
	for len(block) > 0 {
		n, width := binary.Uvarint(block)
		if width <= 0 || n > uint64(len(block)-width) {
			return nil, unreadable(fmt.Errorf("%w: a block is cut", errRecord))
		}
		end := width + int(n)
		c, _, err := decode(block[width:end])
		if err != nil {
			return nil, unreadable(err)
		}
		if c == nil {
			return nil, unreadable(fmt.Errorf("%w: it is no call", errRecord))
		}
		calls = append(calls, *c)
		block = block[end:]
	}
	return calls, nil
}

func unreadable(err error) error {
	return fault.Wrap(err, fault.Internal, "A recorded call cannot be read.")
}
