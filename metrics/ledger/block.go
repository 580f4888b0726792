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

// bundle is the calls of a batch that share a row of figures: their minute and all that they are selected by.
type bundle struct {
	key   rollupKey
	calls []*spooledCall
}

// bundles sorts a batch, each bundle by time.
func bundles(shard string, calls []spooledCall) []*bundle {
	var out []*bundle
	byKey := map[rollupKey]*bundle{}
	last := &bundle{}
	for i := range calls {
		c := &calls[i]
		if key := keyOf(shard, &c.call); key != last.key || len(last.calls) == 0 { // mostly it is the key of the call before
			if last = byKey[key]; last == nil {
				last = &bundle{key: key}
				byKey[key] = last
				out = append(out, last)
			}
		}
		last.calls = append(last.calls, c)
	}
	for _, b := range out {
		slices.SortFunc(b.calls, func(x, y *spooledCall) int { return comparePlaces(&x.call, &y.call) })
	}
	return out
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
