package sqlstore_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy/policytest"
	"github.com/promptgate/promptgate/policy/sqlstore"
)

func TestSignIns(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, _ string) {
		policytest.SignIns(t, func(t *testing.T) policytest.SignInEnv {
			url := testenv.SQLite(t)
			if strings.HasPrefix(t.Name(), "TestSignIns/postgres") {
				url = testenv.Postgres(t)
			}
			db, j := openDB(t, url)
			changes := watched(t, j)
			var ahead atomic.Int64
			return policytest.SignInEnv{
				Store:   sqlstore.New(db, j, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }),
				Changes: changes,
				Ahead:   func(d time.Duration) { ahead.Add(int64(d)) },
			}
		})
	})
}
