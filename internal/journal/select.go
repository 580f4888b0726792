package journal

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/authentic"
)

// Select reads the rows of a model that narrow asks for, in the change that ctx belongs to or else from the database, and believes each as Read does. That
// none is missing is checked where like is not nil: the rows must then be all of the group whose columns like holds. narrow may run several times.
func Select[R any](ctx context.Context, j *Journal, like authentic.Grouped, narrow func(q *bun.SelectQuery)) (rows []R, err error) {
	err = j.Read(ctx, func(ctx context.Context, c *authentic.Claims) error {
		rows = nil
		q := j.within(ctx).NewSelect().Model(&rows)
		narrow(q)
		if err := q.Scan(ctx); err != nil {
			return err
		}
		for i := range rows {
			c.Is(&rows[i])
		}
		if like != nil {
			c.Group(like, len(rows))
		}
		return nil
	})
	return rows, err
}
