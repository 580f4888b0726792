package sessions_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy/sessions"
)

// What browsers are told of the cookie: no script reads it, no other host sets it, it goes over TLS alone, and along with no request that another site sends but
// a link.
func TestCookie(t *testing.T) {
	kept := sessions.Cookie{Secure: true}.Set("", "token", time.Hour)
	require.Equal(t, "__Host-promptgate=token; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax", kept)
	require.Equal(t, "__Host-promptgate-link=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax", sessions.Cookie{Secure: true}.Set("-link", "", -1))
	require.Equal(t, "promptgate=token; Path=/; HttpOnly; SameSite=Lax", sessions.Cookie{}.Set("", "token", 0), "on loopback, where there is no TLS")
}

// Of two cookies of the name one may have been planted.
func TestTwoCookies(t *testing.T) {
	c := sessions.Cookie{}
	for cookies, want := range map[string]string{
		"promptgate=a": "a", "other=x; promptgate=a": "a", "promptgate=a; promptgate=a": "a", "promptgate-link=b": "", "": "", "bad cookie; promptgate=a": "a",
		"promptgate=a; promptgate=b": "refused", "promptgate=a|promptgate=b": "refused",
	} {
		got, err := c.Token(http.Header{"Cookie": strings.Split(cookies, "|")}, "")
		if want == "refused" {
			require.True(t, fault.Is(err, fault.InvalidAPIKey), cookies)
			continue
		}
		require.NoError(t, err, cookies)
		require.Equal(t, want, got, cookies)
	}
}

// A token's id tells nothing without the key, and links' tokens are no sessions'.
func TestHasher(t *testing.T) {
	_, err := sessions.NewHasher([]byte("too short"))
	require.Error(t, err)
	one, err := sessions.NewHasher([]byte(strings.Repeat("1", 32)))
	require.NoError(t, err)
	two, err := sessions.NewHasher([]byte(strings.Repeat("2", 32)))
	require.NoError(t, err)
	links, err := sessions.NewLinkHasher([]byte(strings.Repeat("1", 32)))
	require.NoError(t, err)
	token, id, err := one.Issue(strings.NewReader(strings.Repeat("r", 32)))
	require.NoError(t, err)
	require.Len(t, token, 43)
	again, ok := one.ID(token)
	require.True(t, ok)
	require.Equal(t, id, again)
	for _, h := range []*sessions.Hasher{two, links} {
		other, ok := h.ID(token)
		require.True(t, ok)
		require.NotEqual(t, id, other)
	}
	for _, bad := range []string{"", "short", token + "A", token[:42] + "!", token[:42] + "B"} { // the last has bits that count for nothing
		_, ok := one.ID(bad)
		require.False(t, ok, bad)
	}
	_, _, err = one.Issue(strings.NewReader("no randomness"))
	require.Error(t, err)
}
