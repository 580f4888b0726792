package people_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/people"
)

// source is people in memory, which counts what is read and can be away.
type source struct {
	accounts map[string]*policy.Account
	bindings map[string]*[]policy.Binding // by project and subject
	roles    map[string]*policy.Role
	reads    int
	down     bool
}

func answer[V any](s *source, m map[string]*V, key string) (*V, error) {
	s.reads++
	if s.down {
		return nil, fault.New(fault.RegistryUnavailable, "down")
	}
	if v, ok := m[key]; ok {
		return v, nil
	}
	return nil, fault.New(fault.NotFound, "none")
}

func (s *source) Account(_ context.Context, id string) (*policy.Account, error) {
	return answer(s, s.accounts, id)
}

func (s *source) Bindings(_ context.Context, project, subject string) (*[]policy.Binding, error) {
	v, err := answer(s, s.bindings, project+subject)
	if fault.Is(err, fault.NotFound) {
		return &[]policy.Binding{}, nil
	}
	return v, err
}

func (s *source) Role(_ context.Context, project, name string) (*policy.Role, error) {
	return answer(s, s.roles, project+name)
}

func (s *source) Service(context.Context, string, string) (*policy.ServiceAccount, error) {
	return answer(s, map[string]*policy.ServiceAccount{}, "")
}

// feed tells what the test says, and was last certain at a time that the test sets.
type feed struct {
	subscribers []func(journal.Change)
	certain     time.Time
}

func (f *feed) Subscribe(fn func(journal.Change)) { f.subscribers = append(f.subscribers, fn) }
func (f *feed) ConfirmedAt() time.Time            { return f.certain }

func (f *feed) touch(kind, project, key string) {
	for _, fn := range f.subscribers {
		fn(journal.Change{Touches: []journal.Touch{{Kind: kind, Project: project, Key: key}}})
	}
}

type env struct {
	*source
	*feed
	*people.Directory
	now time.Time
}

func open(t testing.TB) *env {
	e := &env{now: time.Unix(1_000_000, 0), feed: &feed{}, source: &source{
		accounts: map[string]*policy.Account{"usr_1": {
			User: policy.User{ID: "usr_1", Email: "a@example.com", State: policy.UserActive, Revision: 1}, Groups: []policy.GroupMember{{GroupID: "grp_1", Revision: 2}},
		}},
		bindings: map[string]*[]policy.Binding{
			"prjusr_1": {{ID: "bnd_1", Role: "viewer", Prompts: []string{"**"}, Revision: 3}},
			"prjgrp_1": {{ID: "bnd_2", Role: "caller", Prompts: []string{"**"}, Revision: 4}},
		},
		roles: map[string]*policy.Role{"prjcaller": {Project: "prj", Name: "caller", Actions: []policy.Action{policy.ActionCall}, Revision: 5}},
	}}
	e.certain = e.now
	var err error
	e.Directory, err = people.New(e.source, e.feed, people.Options{Clock: func() time.Time { return e.now }})
	require.NoError(t, err)
	return e
}

func (e *env) member(t *testing.T) *policy.Principal {
	t.Helper()
	p, err := e.Member(t.Context(), "prj", "usr_1")
	require.NoError(t, err)
	return p
}

// Whatever a member is put together from, a change of it is seen by the next question, and nothing else is read again.
func TestMembersFollowTheirParts(t *testing.T) {
	e := open(t)
	first := e.member(t)
	require.Equal(t, 4, e.reads)
	require.Same(t, first, e.member(t))
	require.Equal(t, 4, e.reads, "a warm question reads nothing")
	assert.Equal(t, []policy.Action{policy.ActionCall}, first.Groups[0].Bindings[0].Actions)

	for what, change := range map[string]func(){
		"own bindings": func() {
			e.bindings["prjusr_1"] = &[]policy.Binding{{ID: "bnd_1", Role: "editor", Prompts: []string{"**"}, Revision: 6}}
			e.touch(policy.TouchBindings, "prj", "usr_1")
		},
		"a group's": func() {
			e.bindings["prjgrp_1"] = &[]policy.Binding{{ID: "bnd_2", Role: "viewer", Prompts: []string{"**"}, Revision: 7}}
			e.touch(policy.TouchBindings, "prj", "grp_1")
		},
		"the account": func() {
			a := *e.accounts["usr_1"]
			a.Revision = 8
			e.accounts["usr_1"] = &a
			e.touch(policy.TouchUser, "", "usr_1")
		},
	} {
		before, reads := e.member(t), e.reads
		change()
		after := e.member(t)
		assert.NotSame(t, before, after, what)
		assert.NotEqual(t, before.Revision, after.Revision, what)
		assert.Equal(t, reads+1, e.reads, what)
	}
	// A role.
	e = open(t)
	before := e.member(t)
	e.roles["prjcaller"] = &policy.Role{Name: "caller", Actions: []policy.Action{policy.ActionRead}, Revision: 9}
	e.touch(policy.TouchRole, "prj", "caller")
	assert.NotEqual(t, before.Revision, e.member(t).Revision)
	// What does not concern it.
	same := e.member(t)
	e.touch(policy.TouchBindings, "other", "usr_1")
	e.touch(policy.TouchUser, "", "usr_2")
	assert.Same(t, same, e.member(t))
}

func TestDeactivatedIsNoMember(t *testing.T) {
	e := open(t)
	e.member(t)
	gone := *e.accounts["usr_1"]
	gone.State = policy.UserDeactivated
	e.accounts["usr_1"] = &gone
	e.touch(policy.TouchUser, "", "usr_1")
	_, err := e.Member(t.Context(), "prj", "usr_1")
	require.Equal(t, fault.NotFound, fault.CodeOf(err))
	_, err = e.Member(t.Context(), "other", "usr_1")
	require.Equal(t, fault.NotFound, fault.CodeOf(err))
}

// What is in memory is served while the source is away, for as long as it may be stale; what a change touched meanwhile is not.
func TestSourceAway(t *testing.T) {
	e := open(t)
	known := e.member(t)
	e.down = true
	e.now = e.now.Add(59 * time.Minute)
	require.Same(t, known, e.member(t))
	e.touch(policy.TouchUser, "", "usr_1")
	_, err := e.Member(t.Context(), "prj", "usr_1")
	require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err), "deactivated, for all that is known")
	e.down = false
	e.member(t)
	e.now = e.now.Add(2 * time.Minute)
	_, err = e.Member(t.Context(), "prj", "usr_1")
	require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err), "too old")
}

// A role that is not there takes no denial with it.
func TestMissingRoleFailsClosed(t *testing.T) {
	e := open(t)
	delete(e.roles, "prjcaller")
	_, err := e.Member(t.Context(), "prj", "usr_1")
	require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err))
}

func TestSnapshot(t *testing.T) {
	e := open(t)
	before := e.member(t)
	next := open(t)
	next.Preload(e.Served())
	next.down = true
	assert.Equal(t, before.Revision, next.member(t).Revision)
	assert.Positive(t, e.Served().Len())
}

func BenchmarkWarmMember(b *testing.B) {
	e := open(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Member(b.Context(), "prj", "usr_1"); err != nil {
			b.Fatal(err)
		}
	}
}
