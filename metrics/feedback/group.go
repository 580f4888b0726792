package feedback

import (
	"slices"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

// dimension is where a dimension stands in the database, and in a Group.
type dimension struct {
	name   metrics.Dimension
	column string // of metrics_call_blocks and metrics_rollups
	target func(*metrics.Group) any
}

func dimensions() []dimension {
	return []dimension{
		{metrics.ByPrompt, "prompt_id", func(g *metrics.Group) any { return &g.PromptID }},
		{metrics.ByVersion, "version", func(g *metrics.Group) any { return &g.Version }},
		{metrics.ByLabel, "label", func(g *metrics.Group) any { return &g.Label }},
		{metrics.ByVariant, "variant", func(g *metrics.Group) any { return &g.Variant }},
		{metrics.ByModel, "model", func(g *metrics.Group) any { return &g.Model }},
		{metrics.ByProvider, "provider", func(g *metrics.Group) any { return &g.Provider }},
		{metrics.ByKey, "principal", func(g *metrics.Group) any { return &g.Key }},
		{metrics.ByEndpoint, "endpoint", func(g *metrics.Group) any { return &g.Endpoint }},
		{metrics.ByPurpose, "purpose", func(g *metrics.Group) any { return &g.Purpose }},
	}
}

func find(name metrics.Dimension) (dimension, bool) {
	all := dimensions()
	i := slices.IndexFunc(all, func(d dimension) bool { return d.name == name })
	if i < 0 {
		return dimension{}, false
	}
	return all[i], true
}

// Columns are the columns of metrics_call_blocks and metrics_rollups that a grouping reads. The error is InvalidRequest.
func Columns(group []metrics.Dimension) ([]string, error) {
	refuse := func(format string, args ...any) ([]string, error) {
		return nil, fault.New(fault.InvalidRequest, format, args...).WithParam("by")
	}
	if len(group) == 0 {
		return refuse("Figures are grouped by one dimension or more: %s.", dimensionNames())
	}
	var columns []string
	for _, name := range group {
		d, known := find(name)
		switch {
		case !known:
			return refuse("%q is no dimension of figures: use %s.", name, dimensionNames())
		case slices.Contains(columns, d.column):
			return refuse("%q is named twice: leave one out.", name)
		case name == metrics.ByVersion && !slices.Contains(group, metrics.ByPrompt):
			return refuse("Versions are grouped with their prompt: ask for prompt and version.")
		}
		columns = append(columns, d.column)
	}
	return columns, nil
}

func dimensionNames() string {
	var list []string
	for _, d := range dimensions() {
		list = append(list, string(d.name))
	}
	return strings.Join(list, ", ")
}

// Targets are where a row of Columns(group) is scanned to.
func Targets(g *metrics.Group, group []metrics.Dimension) []any {
	targets := make([]any, 0, len(group)+4) // room for what stands behind them
	for _, name := range group {
		if d, known := find(name); known {
			targets = append(targets, d.target(g))
		}
	}
	return targets
}
