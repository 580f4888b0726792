package template

// Compiled is a version's content parsed to trees, ready to render; safe for concurrent use.
type Compiled struct{}
