package ledger

import "github.com/promptgate/promptgate/metrics"

// A project has so many rows of figures a minute and process, however many keys, models and prompts it calls.
const (
	detailedRows = 1000 // beyond them callers, variants, models and endpoints are not kept apart
	promptRows   = 4000 // beyond them prompts are not, either: only outcomes and purposes, of which there are few
)

// rowGrants gives out the rows of figures that a batch adds to.
type rowGrants struct {
	cache *rollupCache
	fresh map[rollupKey]bool    // rows that the batch begins
	more  map[projectMinute]int // how many of them each has
}

// grant is the bundle for calls of a key: in a row of its own as long as there is room, else in one that sums up.
func (g *rowGrants) grant(key rollupKey) *bundle {
	if g.take(key, detailedRows) {
		return &bundle{block: key, row: key}
	}
	block := key
	block.variant, block.provider, block.model, block.principal, block.endpoint = metrics.Other, metrics.Other, metrics.Other, metrics.Other, metrics.Other
	if g.take(block, promptRows) {
		return &bundle{block: block, row: block, folded: true}
	}
	row := block
	row.promptID, row.version, row.label = metrics.Other, 0, metrics.Other
	return &bundle{block: block, row: row, folded: true}
}

// take reports whether a row is there, or may begin since its project has fewer than limit.
func (g *rowGrants) take(key rollupKey, limit int) bool {
	if g.fresh[key] || g.cache.rows[key] != nil {
		return true
	}
	place := key.place()
	if g.cache.widths[place]+g.more[place] >= limit {
		return false
	}
	g.fresh[key] = true
	g.more[place]++
	return true
}
