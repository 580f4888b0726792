package seal

import (
	"context"
	"fmt"
	"strings"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/sqldb"
)

// Count is how many values of a project one key seals in a column.
type Count struct {
	Project string
	Key     uint32
	Values  int64
}

// CountKeys counts the values of columns of a table (or of a join), by project and key. Empty ones are sealed by nobody.
func CountKeys(ctx context.Context, db bun.IDB, from, project string, columns ...string) ([]Count, error) {
	parts := make([]string, 0, len(columns))
	for _, c := range columns {
		parts = append(parts, fmt.Sprintf("SELECT %s AS project, substr(%s, 1, 5) AS prefix, COUNT(*) AS n FROM %s WHERE length(%s) > 0 GROUP BY 1, 2", project, c, from, c))
	}
	rows, err := db.QueryContext(ctx, strings.Join(parts, " UNION ALL "))
	if err != nil {
		return nil, fmt.Errorf("seal: count: %w", sqldb.Classify(err))
	}
	defer rows.Close()
	var out []Count
	for rows.Next() {
		var c Count
		var prefix []byte
		if err := rows.Scan(&c.Project, &prefix, &c.Values); err != nil {
			return nil, fmt.Errorf("seal: count: %w", sqldb.Classify(err))
		}
		c.Key = PrefixKey(prefix)
		out = append(out, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("seal: count: %w", sqldb.Classify(err))
	}
	return out, nil
}

// Again opens a value and seals it by the key that seals now. An empty one stays empty.
func (s *Sealer) Again(sealed []byte, b Bind) ([]byte, error) {
	if len(sealed) == 0 {
		return sealed, nil
	}
	plain, err := s.Open(sealed, b)
	if err != nil {
		return nil, err
	}
	return s.Seal(plain, b)
}
