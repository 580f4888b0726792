package policytest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

// SignInStore is one empty store of people and how they sign in.
type SignInStore interface {
	People
	policy.SignIns
}

// SignInEnv is one empty store and what the suite needs around it.
type SignInEnv struct {
	Store   SignInStore
	Changes func() []journal.Change
	Ahead   func(time.Duration) // sets the store's clock ahead
}

// SignIns runs the suite; open makes a fresh environment for each test.
func SignIns(t *testing.T, open func(t *testing.T) SignInEnv) {
	for name, test := range map[string]func(*testing.T, SignInEnv){
		"SessionsEnd": sessionsEnd, "SessionsAreRenewed": sessionsRenewed, "SessionsAreBounded": sessionsBounded, "InviteReplay": inviteReplay,
		"NewerLinksVoidOlder": newerLinks, "FirstAccount": firstAccount, "PasswordResetRaces": resetRaces, "Passkeys": passkeys, "PasskeyReplay": passkeyReplay,
		"Requirements": requirements, "DeactivatedMayNothing": deactivated,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func session(id, user string) policy.Session {
	now := time.Now()
	return policy.Session{ID: id, UserID: user, Method: policy.ByPassword, CreatedAt: now, RotatedAt: now, Idle: time.Hour, EndsAt: now.Add(24 * time.Hour)}
}

func began(t *testing.T, e SignInEnv, id, user string) policy.Session {
	t.Helper()
	s, err := e.Store.BeginSession(context.Background(), origin, session(id, user), nil)
	require.NoError(t, err)
	return s
}

func idsOf(t *testing.T, e SignInEnv, user string) []string {
	t.Helper()
	list, err := e.Store.SessionsOf(context.Background(), user)
	require.NoError(t, err)
	ids := []string{}
	for _, s := range list {
		ids = append(ids, s.ID)
	}
	return ids
}

func (e SignInEnv) touched(touch journal.Touch) bool {
	for _, c := range e.Changes() {
		for _, t := range c.Touches {
			if t == touch {
				return true
			}
		}
	}
	return false
}

func sessionsEnd(t *testing.T, e SignInEnv) {
	ctx := context.Background()
	ana, bo := person(t, e.Store, "ana@example.com"), person(t, e.Store, "bo@example.com")
	one := began(t, e, "ses_1", ana.ID)
	began(t, e, "ses_2", ana.ID)
	assert.Equal(t, ana.Epoch, one.Epoch)
	got, err := e.Store.SessionByID(ctx, "ses_1")
	require.NoError(t, err)
	assert.Equal(t, one.UserID, got.UserID)
	assert.Equal(t, []string{"ses_1", "ses_2"}, idsOf(t, e, ana.ID))
	requireCode(t, fault.NotFound, e.Store.EndSession(ctx, origin, bo.ID, "ses_1")) // another's
	require.NoError(t, e.Store.EndSession(ctx, origin, ana.ID, "ses_1"))
	requireCode(t, fault.NotFound, e.Store.EndSession(ctx, origin, ana.ID, "ses_1"))
	_, err = e.Store.SessionByID(ctx, "ses_1")
	requireCode(t, fault.NotFound, err)
	assert.True(t, e.touched(journal.Touch{Kind: policy.TouchSession, Key: "ses_1"}))
	_, err = e.Store.EndSessions(ctx, origin, ana.ID)
	require.NoError(t, err)
	assert.Empty(t, idsOf(t, e, ana.ID), "void, by the account's epoch")
	began(t, e, "ses_3", ana.ID)
	_, err = e.Store.SessionByID(ctx, "ses_2")
	requireCode(t, fault.NotFound, err) // void ones go at the next sign-in
	stale := session("ses_4", ana.ID)
	stale.Epoch = ana.Epoch + 9
	_, err = e.Store.BeginSession(ctx, origin, stale, nil)
	requireCode(t, fault.Conflict, err) // the account was changed between the proof and now
}

func sessionsRenewed(t *testing.T, e SignInEnv) {
	ctx := context.Background()
	ana, bo := person(t, e.Store, "ana@example.com"), person(t, e.Store, "bo@example.com")
	old := began(t, e, "ses_1", ana.ID)
	next := old
	next.ID = "ses_2"
	theirs := next
	theirs.UserID = bo.ID
	_, err := e.Store.RenewSession(ctx, origin, "ses_1", theirs)
	requireCode(t, fault.NotFound, err)
	require.NoError(t, e.Store.Seen(ctx, policy.SessionSeen{ID: "ses_1", Sealed: []byte("x")}))
	require.NoError(t, e.Store.Seen(ctx, policy.SessionSeen{ID: "ses_1", Sealed: []byte("y")}))
	seen, err := e.Store.LastSeen(ctx, "ses_1")
	require.NoError(t, err)
	assert.Equal(t, "y", string(seen.Sealed))
	before := len(e.Changes())
	require.NoError(t, e.Store.Seen(ctx, policy.SessionSeen{ID: "ses_1", Sealed: []byte("z")}))
	assert.Len(t, e.Changes(), before, "being used invalidates no cache")
	_, err = e.Store.RenewSession(ctx, origin, "ses_1", next)
	require.NoError(t, err)
	_, err = e.Store.RenewSession(ctx, origin, "ses_1", next)
	requireCode(t, fault.NotFound, err)
	_, err = e.Store.LastSeen(ctx, "ses_1")
	requireCode(t, fault.NotFound, err)
	assert.Equal(t, []string{"ses_2"}, idsOf(t, e, ana.ID))
	for _, id := range []string{"ses_1", "ses_2"} {
		assert.True(t, e.touched(journal.Touch{Kind: policy.TouchSession, Key: id}))
	}
}

func sessionsBounded(t *testing.T, e SignInEnv) {
	ana := person(t, e.Store, "ana@example.com")
	for i := range 53 {
		began(t, e, fmt.Sprintf("ses_%02d", i), ana.ID)
	}
	ids := idsOf(t, e, ana.ID)
	assert.Len(t, ids, 50)
	assert.Equal(t, "ses_52", ids[49])
}

func linkTo(t *testing.T, e SignInEnv, id string, p policy.Purpose, user string) {
	t.Helper()
	_, err := e.Store.PutLink(context.Background(), origin, policy.Link{ID: id, Purpose: p, UserID: user}, false)
	require.NoError(t, err)
}

// Of many who use a link at once, one gets in; nobody does afterwards, nor when it is too old.
func inviteReplay(t *testing.T, e SignInEnv) {
	ctx := context.Background()
	u, err := e.Store.CreateUser(ctx, origin, policy.User{Email: "new@example.com"})
	require.NoError(t, err)
	linkTo(t, e, "lnk_1", policy.ToJoin, u.ID)
	var in, out atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			_, _, err := e.Store.Redeem(ctx, origin, policy.Redemption{Link: "lnk_1", Session: session(fmt.Sprint("ses_", i), "")})
			switch {
			case err == nil:
				in.Add(1)
			case fault.Is(err, fault.NotFound):
				out.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, 1, in.Load())
	assert.EqualValues(t, 7, out.Load())
	assert.Len(t, idsOf(t, e, u.ID), 1)
	a, err := e.Store.Account(ctx, u.ID)
	require.NoError(t, err)
	assert.Equal(t, policy.UserActive, a.State)
	_, err = e.Store.LinkByID(ctx, "lnk_1")
	requireCode(t, fault.NotFound, err)

	linkTo(t, e, "lnk_2", policy.ToSignIn, u.ID)
	_, err = e.Store.LinkByID(ctx, "lnk_2")
	require.NoError(t, err)
	e.Ahead(16 * time.Minute)
	_, err = e.Store.LinkByID(ctx, "lnk_2")
	requireCode(t, fault.NotFound, err)
	_, _, err = e.Store.Redeem(ctx, origin, policy.Redemption{Link: "lnk_2", Session: session("ses_9", "")})
	requireCode(t, fault.NotFound, err)
}

func newerLinks(t *testing.T, e SignInEnv) {
	ctx := context.Background()
	ana, bo := person(t, e.Store, "ana@example.com"), person(t, e.Store, "bo@example.com")
	linkTo(t, e, "lnk_1", policy.ToReset, ana.ID)
	linkTo(t, e, "lnk_2", policy.ToSignIn, ana.ID)
	linkTo(t, e, "lnk_3", policy.ToReset, bo.ID)
	linkTo(t, e, "lnk_4", policy.ToReset, ana.ID)
	for id, there := range map[string]bool{"lnk_1": false, "lnk_2": true, "lnk_3": true, "lnk_4": true} {
		_, err := e.Store.LinkByID(ctx, id)
		assert.Equal(t, there, err == nil, id)
	}
	_, err := e.Store.PutLink(ctx, origin, policy.Link{ID: "lnk_5", Purpose: policy.ToReset, UserID: ana.ID}, true)
	requireCode(t, fault.Conflict, err)
	_, err = e.Store.LinkByID(ctx, "lnk_4")
	require.NoError(t, err)
	_, err = e.Store.PutLink(ctx, origin, policy.Link{ID: "lnk_6", Purpose: policy.ToReset, UserID: "usr_none"}, false)
	requireCode(t, fault.NotFound, err)
}

func firstAccount(t *testing.T, e SignInEnv) {
	ctx := context.Background()
	linkTo(t, e, "lnk_1", policy.ToSetUp, "")
	redeem := func(link, email string) (policy.User, error) {
		u, _, err := e.Store.Redeem(ctx, origin, policy.Redemption{
			Link: link, First: &policy.FirstAccount{User: policy.User{Email: email}, Project: "prj"}, Session: session("ses_"+link, ""),
		})
		return u, err
	}
	_, _, err := e.Store.Redeem(ctx, origin, policy.Redemption{Link: "lnk_1", Session: session("ses_1", "")})
	requireCode(t, fault.InvalidRequest, err)
	_, err = redeem("lnk_1", "no address")
	requireCode(t, fault.InvalidRequest, err) // and the link is still good
	u, err := redeem("lnk_1", "Ana@example.com")
	require.NoError(t, err)
	assert.True(t, u.Operator)
	assert.True(t, member(t, e.Store, "prj", u.ID).Bindings[0].Administers(time.Now()))
	linkTo(t, e, "lnk_2", policy.ToSetUp, "")
	_, err = redeem("lnk_2", "eve@example.com")
	requireCode(t, fault.NotFound, err) // there is an account already
	_, err = e.Store.UserByEmail(ctx, "eve@example.com")
	requireCode(t, fault.NotFound, err)
}

// A reset takes the password away and ends all sessions; of a password that is set meanwhile and the reset, the later one counts, wholly.
func resetRaces(t *testing.T, e SignInEnv) {
	ctx := context.Background()
	ana := person(t, e.Store, "ana@example.com")
	u, err := e.Store.SetPassword(ctx, origin, policy.Password{UserID: ana.ID, Sealed: []byte("one")})
	require.NoError(t, err)
	assert.Equal(t, ana.Epoch+1, u.Epoch)
	began(t, e, "ses_old", ana.ID)
	linkTo(t, e, "lnk_1", policy.ToReset, ana.ID)
	u, s, err := e.Store.Redeem(ctx, origin, policy.Redemption{Link: "lnk_1", Session: session("ses_new", "")})
	require.NoError(t, err)
	assert.Equal(t, u.Epoch, s.Epoch)
	assert.Equal(t, []string{"ses_new"}, idsOf(t, e, ana.ID), "the old session has ended, that of the reset goes on")
	_, err = e.Store.PasswordOf(ctx, ana.ID)
	requireCode(t, fault.NotFound, err)

	for i := range 5 {
		linkTo(t, e, "lnk_2", policy.ToReset, ana.ID)
		var all sync.WaitGroup
		all.Go(func() {
			_, err := e.Store.SetPassword(ctx, origin, policy.Password{UserID: ana.ID, Sealed: []byte("attacker's")})
			assert.NoError(t, err)
		})
		all.Go(func() {
			_, _, err := e.Store.Redeem(ctx, origin, policy.Redemption{Link: "lnk_2", Session: session(fmt.Sprint("ses_race", i), "")})
			assert.NoError(t, err)
		})
		all.Wait()
		_, err = e.Store.PasswordOf(ctx, ana.ID)
		if fault.Is(err, fault.NotFound) {
			assert.Equal(t, []string{fmt.Sprint("ses_race", i)}, idsOf(t, e, ana.ID), "the reset came last")
		} else {
			assert.Empty(t, idsOf(t, e, ana.ID), "the password came last, and ended the session of the reset")
		}
	}
}

func passkeys(t *testing.T, e SignInEnv) {
	ctx := context.Background()
	ana, bo := person(t, e.Store, "ana@example.com"), person(t, e.Store, "bo@example.com")
	began(t, e, "ses_1", ana.ID)
	_, err := e.Store.AddPasskey(ctx, origin, policy.Passkey{UserID: ana.ID, ID: "k1", Name: "laptop", Credential: []byte("{}"), IssuedAt: time.Now()})
	require.NoError(t, err)
	assert.Empty(t, idsOf(t, e, ana.ID), "another factor ends the sessions")
	_, err = e.Store.AddPasskey(ctx, origin, policy.Passkey{UserID: bo.ID, ID: "k1", Credential: []byte("{}")})
	requireCode(t, fault.Conflict, err)
	held, err := e.Store.PasskeysOf(ctx, ana.ID)
	require.NoError(t, err)
	require.Len(t, held, 1)
	assert.Equal(t, "laptop", held[0].Name)
	_, err = e.Store.RemovePasskey(ctx, origin, bo.ID, "k1")
	requireCode(t, fault.NotFound, err)
	u, err := e.Store.RemovePasskey(ctx, origin, ana.ID, "k1")
	require.NoError(t, err)
	assert.Equal(t, ana.Epoch+2, u.Epoch)
}

func passkeyReplay(t *testing.T, e SignInEnv) {
	ctx := context.Background()
	ana := person(t, e.Store, "ana@example.com")
	now := time.Now()
	_, err := e.Store.AddPasskey(ctx, origin, policy.Passkey{UserID: ana.ID, ID: "k1", Credential: []byte(`{"n":0}`), IssuedAt: now})
	require.NoError(t, err)
	proof := policy.Passkey{UserID: ana.ID, ID: "k1", Credential: []byte(`{"n":1}`), IssuedAt: now.Add(time.Second)}
	_, err = e.Store.BeginSession(ctx, origin, session("ses_1", ana.ID), &proof)
	require.NoError(t, err)
	held, err := e.Store.PasskeysOf(ctx, ana.ID)
	require.NoError(t, err)
	assert.JSONEq(t, `{"n":1}`, string(held[0].Credential))
	assert.False(t, held[0].UsedAt.IsZero())
	_, err = e.Store.BeginSession(ctx, origin, session("ses_2", ana.ID), &proof)
	requireCode(t, fault.PermissionDenied, err)
	proof.ID = "k2"
	_, err = e.Store.BeginSession(ctx, origin, session("ses_3", ana.ID), &proof)
	requireCode(t, fault.NotFound, err)
	assert.Equal(t, []string{"ses_1"}, idsOf(t, e, ana.ID))
}

func requirements(t *testing.T, e SignInEnv) {
	ctx := context.Background()
	m, err := e.Store.Requires(ctx, "prj")
	require.NoError(t, err)
	assert.Empty(t, m)
	requireCode(t, fault.InvalidRequest, e.Store.Require(ctx, origin, "prj", "smoke"))
	for _, want := range []policy.Method{policy.ByPasskey, policy.ByPasskey, policy.ByPassword, ""} {
		require.NoError(t, e.Store.Require(ctx, origin, "prj", want))
		m, err = e.Store.Requires(ctx, "prj")
		require.NoError(t, err)
		assert.Equal(t, want, m)
	}
	m, err = e.Store.Requires(ctx, "other")
	require.NoError(t, err)
	assert.Empty(t, m)
}

func deactivated(t *testing.T, e SignInEnv) {
	ctx := context.Background()
	ana := person(t, e.Store, "ana@example.com")
	linkTo(t, e, "lnk_1", policy.ToSignIn, ana.ID)
	ana.State = policy.UserDeactivated
	_, err := e.Store.UpdateUser(ctx, origin, ana)
	require.NoError(t, err)
	_, err = e.Store.BeginSession(ctx, origin, session("ses_1", ana.ID), nil)
	requireCode(t, fault.NotFound, err)
	_, _, err = e.Store.Redeem(ctx, origin, policy.Redemption{Link: "lnk_1", Session: session("ses_1", "")})
	requireCode(t, fault.NotFound, err)
	_, err = e.Store.PutLink(ctx, origin, policy.Link{ID: "lnk_2", Purpose: policy.ToReset, UserID: ana.ID}, false)
	requireCode(t, fault.NotFound, err)
	_, err = e.Store.SetPassword(ctx, origin, policy.Password{UserID: ana.ID, Sealed: []byte("x")})
	requireCode(t, fault.NotFound, err)
}
