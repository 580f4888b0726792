package pricing_test

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/metrics/pricing"
)

func usd(v float64) *float64 { return &v }

func newTable(t testing.TB) *pricing.Table {
	t.Helper()
	table, err := pricing.New()
	require.NoError(t, err)
	return table
}

// checkGolden compares with the reference: [provider, model, time, seven counts, dollars].
func checkGolden(t *testing.T, data []byte) {
	t.Helper()
	table := newTable(t)
	var vectors [][]any
	require.NoError(t, json.Unmarshal(data, &vectors))
	require.Greater(t, len(vectors), 1000)
	for _, v := range vectors {
		n := func(i int) int64 { return int64(v[i].(float64)) }
		at, err := time.Parse(time.RFC3339, v[2].(string))
		require.NoError(t, err)
		tokens := metrics.Tokens{
			Reported: true, Input: n(3), CachedInput: n(4), CacheWrite: n(5), AudioInput: n(6),
			Output: n(7), Reasoning: n(8), AudioOutput: n(9),
		}
		micros, ok := table.Cost(&metrics.PriceList{Catalogue: v[0].(string)}, v[1].(string), at, tokens)
		require.True(t, ok, "%v", v)
		want := v[10].(float64) * 1e6
		require.LessOrEqual(t, math.Abs(float64(micros)-want), 0.5+want*1e-12+1e-6, "%v: got %d", v, micros)
	}
}

func TestCostEqualsReference(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	checkGolden(t, data)
}

// TestCostEqualsInstalledReference runs the reference itself.
func TestCostEqualsInstalledReference(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	pkg := filepath.Join(root, ".cache/genai-prices/node_modules/@pydantic/genai-prices")
	require.DirExists(t, pkg, "run `make tools`: it installs the package into .cache")
	out, err := exec.CommandContext(t.Context(), "node", "gen/golden.mjs", pkg, "prices.json").Output()
	require.NoError(t, err)
	checkGolden(t, out)
}

// TestOwnPricesWinWhileTheyHold: the exact name before a pattern, the latest that holds, the catalogue when none does.
func TestOwnPricesWinWhileTheyHold(t *testing.T) {
	day := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	table := newTable(t)
	openai := &metrics.PriceList{Catalogue: "openai", Own: []metrics.Price{
		{Model: "gpt-4o", From: day.AddDate(0, 1, 0), Until: day.AddDate(0, 3, 0), Input: usd(30), Output: usd(40)},
		{Model: "gpt-4o", From: day, Until: day.AddDate(0, 3, 0), Input: usd(10), Output: usd(20)},
		{Model: "gpt-4o*", From: day, Until: day.AddDate(0, 3, 0), Input: usd(7)},
		{Model: "local-*", Input: usd(0), Output: usd(0)},
	}}
	in := metrics.Tokens{Reported: true, Input: 1000, CachedInput: 400}
	cost := func(model string, at time.Time) int64 {
		micros, ok := table.Cost(openai, model, at, in)
		require.True(t, ok, model)
		return micros
	}
	public := int64(600*2.5 + 400*1.25)
	assert.EqualValues(t, 10_000, cost("GPT-4o", day), "the cached part has no price of its own: priced as input")
	assert.EqualValues(t, 30_000, cost("gpt-4o", day.AddDate(0, 2, 0)))
	assert.EqualValues(t, public, cost("gpt-4o", day.Add(-time.Second)), "the catalogue's, before")
	assert.EqualValues(t, public, cost("gpt-4o", day.AddDate(0, 3, 0)), "and after")
	assert.EqualValues(t, 7_000, cost("gpt-4o-2024-08-06", day), "by its pattern")
	assert.EqualValues(t, 0, cost("local-llama", day), "free is a price")
	for _, list := range []*metrics.PriceList{nil, {}, {Catalogue: metrics.CatalogueNone}} {
		_, ok := table.Cost(list, "gpt-4o", day, in)
		assert.False(t, ok, "without a list models have no price")
	}
}

// TestEveryCatalogueIsThere: what can be chosen is what is built in.
func TestEveryCatalogueIsThere(t *testing.T) {
	var built struct{ Providers []struct{ ID string } }
	data, err := os.ReadFile("prices.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &built))
	var ids []string
	for _, p := range built.Providers {
		ids = append(ids, p.ID)
	}
	assert.ElementsMatch(t, ids, metrics.Catalogues())
	for _, id := range ids {
		require.NoError(t, metrics.PriceList{Catalogue: id}.Check())
	}
}

func TestUnknownIsNeverZero(t *testing.T) {
	table := newTable(t)
	own := &metrics.PriceList{Catalogue: "openai", Own: []metrics.Price{
		{Model: "embed", Input: usd(1)},
		{Model: "late", From: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), Input: usd(1)},
		{Model: "gone", Until: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), Input: usd(1)},
	}}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		model  string
		tokens metrics.Tokens
	}{
		"nothing reported":       {"gpt-4o", metrics.Tokens{Input: 5}},
		"unknown model":          {"gpt-99-ultra", metrics.Tokens{Reported: true, Input: 5}},
		"known, paid otherwise":  {"whisper-1", metrics.Tokens{Reported: true, Input: 5}},
		"a kind without a price": {"embed", metrics.Tokens{Reported: true, Input: 5, Output: 1}},
		"not yet":                {"late", metrics.Tokens{Reported: true, Input: 5}},
		"no longer":              {"gone", metrics.Tokens{Reported: true, Input: 5}},
		"negative":               {"embed", metrics.Tokens{Reported: true, Input: -5}},
		"beyond the scale":       {"embed", metrics.Tokens{Reported: true, Input: math.MaxInt64}},
	} {
		micros, ok := table.Cost(own, c.model, now, c.tokens)
		assert.False(t, ok, name)
		assert.Zero(t, micros, name)
	}
	micros, ok := table.Cost(own, "embed", now, metrics.Tokens{Estimated: true, Input: 7})
	assert.True(t, ok, "estimates are priced: budgets need them")
	assert.EqualValues(t, 7, micros)
}

func TestRoundsOnceHalfUp(t *testing.T) {
	table := newTable(t)
	own := &metrics.PriceList{Own: []metrics.Price{{Model: "m", Input: usd(0.1), CachedInput: usd(0.25), Output: usd(0.15)}}}
	for want, tokens := range map[int64]metrics.Tokens{
		0: {Input: 4},                             // 0.4
		1: {Input: 5},                             // 0.5
		2: {Input: 14, CachedInput: 4, Output: 0}, // 1.0 + 1.0
		3: {Input: 19, Output: 4},                 // 1.9 + 0.6: rounded apart it were 3 too, half up of 2.5
	} {
		tokens.Reported = true
		got, ok := table.Cost(own, "m", time.Now(), tokens)
		require.True(t, ok)
		assert.Equal(t, want, got, "%+v", tokens)
	}
}

// Embeddings have input alone, and pictures and sound their own prices.
func TestPricesWithoutText(t *testing.T) {
	table := newTable(t)
	list := &metrics.PriceList{Catalogue: "openai"}
	for model, c := range map[string]struct {
		tokens metrics.Tokens
		want   int64
	}{
		"text-embedding-3-small": {metrics.Tokens{Input: 1_000_000}, 20_000},
		"text-embedding-3-large": {metrics.Tokens{Input: 1_000_000}, 130_000},
		"text-embedding-ada-002": {metrics.Tokens{Input: 1_000_000}, 100_000},
		"gpt-4o-mini-transcribe": {metrics.Tokens{Input: 1000, AudioInput: 1000, Output: 100}, 3500},
		"gpt-image-1":            {metrics.Tokens{Input: 100, Output: 1000}, 40_500},
	} {
		c.tokens.Reported = true
		got, ok := table.Cost(list, model, time.Now(), c.tokens)
		require.True(t, ok, model)
		assert.Equal(t, c.want, got, model)
	}
	for _, model := range []string{"whisper-1", "tts-1", "omni-moderation-latest"} {
		_, ok := table.Cost(list, model, time.Now(), metrics.Tokens{Input: 10, Output: 10, Reported: true})
		assert.False(t, ok, model)
	}
}

// TestNoTokenPricedTwice: whatever the parts say, the cost stays between everything at the cheapest and everything at the
// dearest price.
func TestNoTokenPricedTwice(t *testing.T) {
	table := newTable(t)
	own := &metrics.PriceList{Own: []metrics.Price{{
		Model: "m", Input: usd(3), CachedInput: usd(1), CacheWrite: usd(4), AudioInput: usd(9),
		Output: usd(10), Reasoning: usd(8), AudioOutput: usd(20),
	}}}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<38)
		tokens := metrics.Tokens{
			Reported: true, Input: n.Draw(t, "in"), CachedInput: n.Draw(t, "cached"), CacheWrite: n.Draw(t, "write"),
			AudioInput: n.Draw(t, "audio"), Output: n.Draw(t, "out"), Reasoning: n.Draw(t, "reasoning"), AudioOutput: n.Draw(t, "audio out"),
		}
		got, ok := table.Cost(own, "m", time.Now(), tokens)
		if !ok {
			t.Fatal("not priced")
		}
		if got < tokens.Input+8*tokens.Output || got > 9*tokens.Input+20*tokens.Output {
			t.Fatalf("%d for %+v", got, tokens)
		}
	})
}

func TestNonsenseIsNoPrice(t *testing.T) {
	day := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for name, l := range map[string]metrics.PriceList{
		"negative":          {Own: []metrics.Price{{Model: "m", Input: usd(-1)}}},
		"not a number":      {Own: []metrics.Price{{Model: "m", Input: usd(math.NaN())}}},
		"infinite":          {Own: []metrics.Price{{Model: "m", Output: usd(math.Inf(1))}}},
		"no model":          {Own: []metrics.Price{{Input: usd(1)}}},
		"two asterisks":     {Own: []metrics.Price{{Model: "a*b*", Input: usd(1)}}},
		"no amount":         {Own: []metrics.Price{{Model: "m"}}},
		"over before":       {Own: []metrics.Price{{Model: "m", From: day, Until: day, Input: usd(1)}}},
		"unknown catalogue": {Catalogue: "no-such"},
		"too many":          {Own: make([]metrics.Price, metrics.MaxPrices+1)},
	} {
		assert.Error(t, l.Check(), name)
	}
	require.NoError(t, metrics.PriceList{}.Check())
}

func BenchmarkCost(b *testing.B) {
	table := newTable(b)
	list := &metrics.PriceList{Catalogue: "openai"}
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	b.ReportAllocs()
	for b.Loop() {
		table.Cost(list, "gpt-4o-mini", at, metrics.Tokens{Reported: true, Input: 1000, CachedInput: 500, Output: 100})
	}
}
