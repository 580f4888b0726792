package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBrowserComesInBySSO: the whole flow in Chromium, over a real provider's own pages.
func TestBrowserComesInBySSO(t *testing.T) {
	o := newOffice(t, nil)
	o.idp.knows("ana", "ana@example.com", nil)
	var cookies []struct {
		Name, SameSite string
		HTTPOnly       bool
	}
	browse(t, "sso comesIn", map[string]any{"site": o.site, "login": "ana"}, &cookies)
	require.NotEmpty(t, cookies)
	for _, c := range cookies {
		require.True(t, c.HTTPOnly, c.Name)
		require.Equal(t, "Lax", c.SameSite, c.Name)
	}
	u, err := o.app.stores.keys.UserByEmail(t.Context(), "ana@example.com")
	require.NoError(t, err)
	require.True(t, u.Active())

	o.idp.be(map[string]any{"break": "nonce"})
	browse(t, "sso refused", map[string]any{"site": o.site, "login": "ana", "says": "was not accepted"}, nil)
}
