package registry

import "context"

// pointer is a label of a prompt, or a handle when of is nil, that a change ended.
type pointer struct {
	project, name string
	of            *Identified
}

// Run reads again what changes end, until ctx is done. Without it a Resolver works as well, but the next call has to wait, or to do without the
// database.
func (r *Resolver) Run(ctx context.Context) error {
	r.refreshes.Run(ctx, r.refresh)
	return nil
}

// refresh leaves errors to the call that needs the answer.
func (r *Resolver) refresh(ctx context.Context, next pointer) {
	if next.of == nil {
		_, _ = r.Identify(ctx, next.project, next.name)
		return
	}
	_, _ = r.Resolve(ctx, next.of, Selector{Kind: SelectLabel, Label: next.name})
}

// RefreshesDropped counts the pointers that there was no room for.
func (r *Resolver) RefreshesDropped() int64 { return r.refreshes.Dropped() }
