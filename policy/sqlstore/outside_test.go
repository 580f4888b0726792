package sqlstore_test

import (
	"testing"

	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy/policytest"
)

func openOutside(t *testing.T, url string) policytest.OutsideEnv {
	t.Helper()
	e := open(t, url)
	return policytest.OutsideEnv{Store: e.Store.(policytest.Outside), Changes: e.Changes}
}

func TestSSOOnBothDatabases(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		policytest.SSO(t, func(t *testing.T) policytest.OutsideEnv { return openOutside(t, testenv.SQLite(t)) })
	})
	t.Run("postgres", func(t *testing.T) {
		policytest.SSO(t, func(t *testing.T) policytest.OutsideEnv { return openOutside(t, testenv.Postgres(t)) })
	})
}

func TestProvisioningOnBothDatabases(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		policytest.Provisioning(t, func(t *testing.T) policytest.OutsideEnv { return openOutside(t, testenv.SQLite(t)) })
	})
	t.Run("postgres", func(t *testing.T) {
		policytest.Provisioning(t, func(t *testing.T) policytest.OutsideEnv { return openOutside(t, testenv.Postgres(t)) })
	})
}
