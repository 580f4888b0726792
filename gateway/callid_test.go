package gateway_test

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/gateway"
)

func secret(fill byte) func(string) []byte {
	return func(purpose string) []byte { return append(bytes.Repeat([]byte{fill}, 24), purpose...) }
}

func TestCallIDs(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	ids, err := gateway.NewCallIDs(secret(1), rand.Reader, func() time.Time { return now })
	require.NoError(t, err)
	others, err := gateway.NewCallIDs(secret(2), rand.Reader, func() time.Time { return now })
	require.NoError(t, err)
	id, err := ids.Mint("prj_a", "key_1")
	require.NoError(t, err)
	assert.Regexp(t, `^call_[0-9a-hjkmnp-tv-z]{48}$`, id)
	assert.True(t, ids.Verify("prj_a", id))
	assert.False(t, ids.Verify("prj_b", id))
	assert.False(t, others.Verify("prj_a", id), "another key")
	assert.True(t, ids.Owned("prj_a", "key_1", id))
	assert.False(t, ids.Owned("prj_a", "key_2", id))
	assert.False(t, ids.Owned("prj_b", "key_1", id))
	for i := len("call_"); i < len(id); i++ { // every character counts
		changed := id[:i] + "0" + id[i+1:]
		if changed == id {
			changed = id[:i] + "1" + id[i+1:]
		}
		assert.False(t, ids.Verify("prj_a", changed), changed)
	}
	for _, bad := range []string{"", "call_", id + "0", id[:len(id)-1], strings.ToUpper(id), "x" + id, "call_" + strings.Repeat("é", 24)} {
		assert.False(t, ids.Verify("prj_a", bad), bad)
	}
	again, err := ids.Mint("prj_a", "key_1")
	require.NoError(t, err)
	assert.NotEqual(t, id, again)
	now = now.Add(time.Millisecond)
	later, err := ids.Mint("prj_a", "key_1")
	require.NoError(t, err)
	assert.Less(t, id, later, "ids sort by time")
}

func TestFeedbackTokens(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	ids, err := gateway.NewCallIDs(secret(1), rand.Reader, func() time.Time { return now })
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		project := "prj_" + rapid.StringMatching(`[a-z0-9]{1,40}`).Draw(t, "project")
		id, err := ids.Mint(project, "key")
		require.NoError(t, err)
		token := ids.Token(project, id, time.Hour)
		gotProject, gotID, ok := ids.ReadToken(token)
		require.True(t, ok)
		require.Equal(t, []string{project, id}, []string{gotProject, gotID})
		at := rapid.IntRange(len("fbt_"), len(token)-1).Draw(t, "at")
		c := rapid.SampledFrom([]byte("ABCabc019-_")).Draw(t, "c")
		if token[at] != c {
			_, _, ok = ids.ReadToken(token[:at] + string(c) + token[at+1:])
			require.False(t, ok)
		}
		_, _, ok = ids.ReadToken(token + "A")
		require.False(t, ok)
		_, _, ok = ids.ReadToken(id)
		require.False(t, ok, "an id is no token")
		require.False(t, ids.Verify(project, token), "a token is no id")
	})
	id, _ := ids.Mint("prj_a", "key")
	token := ids.Token("prj_a", id, time.Hour)
	now = now.Add(time.Hour)
	_, _, ok := ids.ReadToken(token)
	assert.True(t, ok)
	now = now.Add(time.Second)
	_, _, ok = ids.ReadToken(token)
	assert.False(t, ok, "expired")
	assert.Empty(t, ids.Token("prj_a", "call_x", time.Hour))
}

func TestCallIDsRefuseWeakKeys(t *testing.T) {
	_, err := gateway.NewCallIDs(func(string) []byte { return []byte("short") }, rand.Reader, time.Now)
	require.Error(t, err)
	_, err = gateway.NewCallIDs(nil, rand.Reader, time.Now)
	require.Error(t, err)
	ids, err := gateway.NewCallIDs(secret(1), strings.NewReader(""), time.Now)
	require.NoError(t, err)
	_, err = ids.Mint("p", "k")
	require.Error(t, err, "no randomness, no id")
}

// TestCallIDsOfOtherCharacters puts every byte at every place of an id: only ids of the alphabet, as they were minted, are genuine and get a token.
func TestCallIDsOfOtherCharacters(t *testing.T) {
	ids, err := gateway.NewCallIDs(secret(1), rand.Reader, time.Now)
	require.NoError(t, err)
	id, err := ids.Mint("prj_a", "key_1")
	require.NoError(t, err)
	for at := range id {
		for b := range 256 {
			changed := []byte(id)
			changed[at] = byte(b)
			same := string(changed) == id
			require.Equal(t, same, ids.Verify("prj_a", string(changed)), "%q", changed)
			known := same || at >= len("call_") && strings.IndexByte("0123456789abcdefghjkmnpqrstvwxyz", byte(b)) >= 0
			require.Equal(t, known, ids.Token("prj_a", string(changed), time.Hour) != "", "%q", changed)
		}
	}
	_, read, ok := ids.ReadToken(ids.Token("prj_a", id, time.Hour))
	require.True(t, ok)
	require.Equal(t, id, read)
	require.False(t, ids.Verify("prj_a", id[:len(id)-1]))
	require.False(t, ids.Verify("prj_a", id+"0"))
	none := strings.Repeat("x", 200) // a project whose tokens would be too long: the id is read, and that is all
	require.Zero(t, testing.AllocsPerRun(100, func() { ids.Token(none, id, time.Hour) }))
}
