package rbac_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/rbac"
	"github.com/promptgate/promptgate/policy/uses"
)

var noon = time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

func newChecker(t testing.TB) (*rbac.Checker, *clock) {
	t.Helper()
	c := &clock{now: noon}
	checker, err := rbac.New(rbac.Options{Clock: c.Now})
	require.NoError(t, err)
	return checker, c
}

func check(t testing.TB, c *rbac.Checker, p *policy.Principal, want policy.Permission) policy.Decision {
	t.Helper()
	first, err := c.Check(context.Background(), p, want)
	require.NoError(t, err)
	again, err := c.Check(context.Background(), p, want)
	require.NoError(t, err)
	require.Equal(t, first, again, "the decision changed by being remembered")
	return first
}

func prompt(a policy.Action, name, label string) policy.Permission {
	return policy.Permission{Action: a, Kind: policy.ObjectPrompt, Name: name, Label: label}
}

func system(a policy.Action) policy.Permission {
	return policy.Permission{Action: a, Kind: policy.ObjectSystem}
}

func model(name, label string) policy.Permission {
	return policy.Permission{Action: policy.ActionCall, Kind: policy.ObjectModel, Name: name, Label: label}
}

// The table "Who may do what", cell by cell.
func TestRoles(t *testing.T) {
	const viewer, tester, editor, admin = 1, 2, 4, 8
	const all = viewer | tester | editor | admin
	p := func(a policy.Action) policy.Permission { return prompt(a, "support/triage", policy.LabelAny) }
	for _, row := range []struct {
		want policy.Permission
		may  int
	}{
		{p(policy.ActionRead), all},
		{p(policy.ActionComment), all},
		{p(policy.ActionFeedback), all},
		{p(policy.ActionPropose), all},
		{p(policy.ActionRunDraft), tester | editor | admin},
		{p(policy.ActionWrite), editor | admin},
		{p(policy.ActionReview), editor | admin},
		{prompt(policy.ActionMoveLabel, "support/triage", "production"), editor | admin},
		{p(policy.ActionProtect), admin},
		{p(policy.ActionDelete), admin},
		{system(policy.ActionManageKeys), admin},
		{system(policy.ActionManageUsers), admin},
		{system(policy.ActionManageProject), admin},
		{system(policy.ActionAudit), admin},
		{prompt(policy.ActionCall, "support/triage", "production"), 0}, // calling is its own permission
		{prompt(policy.ActionCall, "support/triage", policy.LabelVersion), 0},
		{model("gpt-4o", policy.LabelModel), 0},
		{system(policy.ActionCreateProject), 0},
		{p("fly"), 0},
		{policy.Permission{Action: policy.ActionRead, Kind: "moon", Name: "support/triage"}, 0},
	} {
		for i, role := range []string{policy.RoleViewer, policy.RoleTester, policy.RoleEditor, policy.RoleAdmin} {
			may := row.may&(1<<i) != 0
			checker, _ := newChecker(t)
			principal := &policy.Principal{ID: "usr_1", Project: "p", Roles: []string{role}}
			assert.Equal(t, may, check(t, checker, principal, row.want).Allowed, "%s, %s", role, row.want.Describe())

			// Over a folder: the same on its prompts, nothing elsewhere, nothing that belongs to the project as a whole.
			principal = &policy.Principal{ID: "usr_2", Project: "p", Roles: []string{role + ":support/**"}}
			inFolder := may && row.want.Kind == policy.ObjectPrompt
			assert.Equal(t, inFolder, check(t, checker, principal, row.want).Allowed, "%s in its folder, %s", role, row.want.Describe())
			elsewhere := row.want
			if elsewhere.Kind == policy.ObjectPrompt {
				elsewhere.Name = "sales/triage"
			}
			d := check(t, checker, principal, elsewhere)
			assert.False(t, d.Allowed || d.Holds, "%s elsewhere, %s", role, row.want.Describe())
		}
	}
}

func TestGrants(t *testing.T) {
	call := []policy.Action{policy.ActionCall}
	grant := func(g ...policy.Grant) []policy.Grant { return g }
	on := func(prompts, labels []string) policy.Grant {
		return policy.Grant{Actions: call, Prompts: prompts, Labels: labels}
	}
	deny := func(g policy.Grant) policy.Grant { g.Effect = policy.EffectDeny; return g }
	folder, production := []string{"support/*"}, []string{"production"}
	calls := func(name, label string) policy.Permission { return prompt(policy.ActionCall, name, label) }

	for name, c := range map[string]struct {
		roles       []string
		grants      []policy.Grant
		want        policy.Permission
		allow, hold bool
	}{
		"nothing held":               {nil, nil, calls("support/a", "production"), false, false},
		"direct child":               {nil, grant(on(folder, production)), calls("support/a", "production"), true, true},
		"other label":                {nil, grant(on(folder, production)), calls("support/a", "staging"), false, true},
		"the folder itself":          {nil, grant(on(folder, production)), calls("support", "production"), false, false},
		"a sibling with its prefix":  {nil, grant(on(folder, production)), calls("supportx/a", "production"), false, false},
		"below a child":              {nil, grant(on(folder, production)), calls("support/a/b", "production"), false, false},
		"any depth":                  {nil, grant(on([]string{"support/**"}, production)), calls("support/a/b", "production"), true, true},
		"an empty name":              {nil, grant(on([]string{"**"}, nil)), calls("", "production"), false, false},
		"no labels: any label":       {nil, grant(on(folder, nil)), calls("support/a", "staging"), true, true},
		"but no version":             {nil, grant(on(folder, nil)), calls("support/a", policy.LabelVersion), false, true},
		"star: no version either":    {nil, grant(on(folder, []string{"*"})), calls("support/a", policy.LabelVersion), false, true},
		"nor latest":                 {nil, grant(on(folder, []string{"*"})), calls("support/a", "latest"), false, true},
		"version by name":            {nil, grant(on(folder, []string{policy.LabelVersion})), calls("support/a", policy.LabelVersion), true, true},
		"version implies no label":   {nil, grant(on(folder, []string{policy.LabelVersion})), calls("support/a", "production"), false, true},
		"latest by name":             {nil, grant(on(folder, []string{"latest"})), calls("support/a", "latest"), true, true},
		"label left out, one label":  {nil, grant(on(folder, production)), calls("support/a", policy.LabelAny), false, true},
		"label left out, all labels": {nil, grant(on(folder, nil)), calls("support/a", policy.LabelAny), true, true},
		"call is not read":           {nil, grant(on(folder, nil)), prompt(policy.ActionRead, "support/a", ""), false, true},
		"read is not call":           {[]string{policy.RoleAdmin}, nil, calls("support/a", "production"), false, true},
		"promote":                    {nil, grant(policy.Grant{Actions: []policy.Action{policy.ActionMoveLabel}, Prompts: folder, Labels: production}), prompt(policy.ActionMoveLabel, "support/a", "production"), true, true},
		"promote another label":      {nil, grant(policy.Grant{Actions: []policy.Action{policy.ActionMoveLabel}, Prompts: folder, Labels: production}), prompt(policy.ActionMoveLabel, "support/a", "staging"), false, true},

		"deny beats allow":                {nil, grant(on(folder, nil), deny(on([]string{"support/a"}, nil))), calls("support/a", "production"), false, false},
		"whatever their order":            {nil, grant(deny(on([]string{"support/a"}, nil)), on(folder, nil)), calls("support/a", "production"), false, false},
		"and a role":                      {[]string{policy.RoleAdmin}, grant(policy.Grant{Effect: "deny", Actions: []policy.Action{policy.ActionDelete}, Prompts: []string{"**"}}), prompt(policy.ActionDelete, "a", ""), false, true},
		"on the project, too":             {[]string{policy.RoleAdmin}, grant(policy.Grant{Effect: "deny", Actions: []policy.Action{policy.ActionManageKeys}}), system(policy.ActionManageKeys), false, true},
		"a neighbour stays":               {nil, grant(on(folder, nil), deny(on([]string{"support/a"}, nil))), calls("support/b", "production"), true, true},
		"another label stays":             {nil, grant(on(folder, nil), deny(on(folder, production))), calls("support/a", "staging"), true, true},
		"denied label, others held":       {nil, grant(on(folder, nil), deny(on(folder, production))), calls("support/a", "production"), false, true},
		"label left out, one denied":      {nil, grant(on(folder, nil), deny(on(folder, production))), calls("support/a", policy.LabelAny), false, true},
		"denying all is denying versions": {nil, grant(on(folder, []string{policy.LabelVersion}), deny(on(folder, nil))), calls("support/a", policy.LabelVersion), false, false},
		"star likewise":                   {nil, grant(on(folder, []string{"latest"}), deny(on(folder, []string{"*"}))), calls("support/a", "latest"), false, false},

		"a model":                        {nil, grant(policy.Grant{Actions: call, Models: []string{"gpt-4*"}}), model("gpt-4o", policy.LabelModel), true, true},
		"another model":                  {nil, grant(policy.Grant{Actions: call, Models: []string{"gpt-4*"}}), model("o3", policy.LabelModel), false, false},
		"a vendor's models":              {nil, grant(policy.Grant{Actions: call, Models: []string{"openai/*"}}), model("openai/gpt/4", policy.LabelAny), true, true},
		"prompts open no models":         {nil, grant(on([]string{"**"}, nil)), model("gpt-4o", policy.LabelAny), false, false},
		"models open no prompts":         {nil, grant(policy.Grant{Actions: call, Models: []string{"*"}}), calls("support/a", "production"), false, false},
		"nor the project":                {nil, grant(policy.Grant{Actions: []policy.Action{policy.ActionRead}, Models: []string{"*"}}), system(policy.ActionRead), false, false},
		"a label bound grant overrides":  {nil, grant(policy.Grant{Actions: call, Prompts: folder, Labels: production, Models: []string{"*"}}), model("gpt-4o", policy.LabelAny), true, true},
		"but calls no model by itself":   {nil, grant(policy.Grant{Actions: call, Prompts: folder, Labels: production, Models: []string{"*"}}), model("gpt-4o", policy.LabelModel), false, true},
		"a denied model":                 {nil, grant(policy.Grant{Actions: call, Models: []string{"*"}}, policy.Grant{Effect: "deny", Actions: call, Models: []string{"*-pro"}}), model("o3-pro", policy.LabelModel), false, false},
		"creating projects":              {nil, grant(policy.Grant{Actions: []policy.Action{policy.ActionCreateProject}}), system(policy.ActionCreateProject), true, true},
		"a folder's keys are no project": {nil, grant(policy.Grant{Actions: []policy.Action{policy.ActionManageKeys}, Prompts: folder}), system(policy.ActionManageKeys), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			checker, _ := newChecker(t)
			d := check(t, checker, &policy.Principal{ID: "key_1", Project: "p", Roles: c.roles, Grants: c.grants}, c.want)
			assert.Equal(t, c.allow, d.Allowed, "allowed")
			assert.Equal(t, c.hold, d.Holds, "holds")
			if d.Allowed {
				assert.Empty(t, d.Missing)
			} else {
				assert.Equal(t, c.want.Describe(), d.Missing)
			}
		})
	}
}

// What a group may do its members may, what it is denied they are, and whoever is not in it has nothing of it.
// TestModelsInOneForm: a grant of a model is of its name, whichever way its accents are typed in a request.
func TestModelsInOneForm(t *testing.T) {
	call := []policy.Action{policy.ActionCall}
	k := policy.KeyRecord{ID: "key_1", Project: "prj_1", Name: "x", Grants: []policy.Grant{
		{Actions: call, Models: []string{"*"}}, {Effect: policy.EffectDeny, Actions: call, Models: []string{"cafe\u0301"}},
	}}
	require.NoError(t, k.Validate())
	p, err := k.Principal()
	require.NoError(t, err)
	c, _ := newChecker(t)
	for model, allowed := range map[string]bool{"cafe": true, "caf\u00e9": false, "cafe\u0301": false} {
		want := policy.Permission{Action: policy.ActionCall, Kind: policy.ObjectModel, Name: model, Label: policy.LabelModel}
		require.Equal(t, allowed, check(t, c, p, want).Allowed, "%+q", model)
	}
}

func TestGroups(t *testing.T) {
	checker, now := newChecker(t)
	call := []policy.Action{policy.ActionCall}
	group := policy.Group{ID: "grp_1", Roles: []string{"editor:a/**"}, Grants: []policy.Grant{
		{Actions: call, Prompts: []string{"a/*"}, Expires: noon.Add(time.Hour)},
		{Effect: policy.EffectDeny, Actions: []policy.Action{policy.ActionWrite}, Prompts: []string{"a/secret"}},
	}}
	member := &policy.Principal{ID: "usr_1", Kind: policy.KindUser, Project: "p", Roles: []string{"admin"}, Groups: []policy.Group{group}}
	stranger := &policy.Principal{ID: "usr_2", Kind: policy.KindUser, Project: "p", Groups: []policy.Group{{ID: "grp_2"}}}
	for want, allowed := range map[policy.Permission]bool{
		prompt(policy.ActionCall, "a/x", "production"):                  true,
		prompt(policy.ActionCall, "b", "production"):                    false,
		prompt(policy.ActionRead, "a/x", policy.LabelAny):               true, // inherited: editor, tester, viewer
		prompt(policy.ActionWrite, "b", policy.LabelAny):                true, // its own role
		prompt(policy.ActionWrite, "a/secret", policy.LabelAny):         false,
		prompt(policy.ActionMoveLabel, "a/secret", policy.LabelAny):     true,
		{Action: policy.ActionManageKeys, Kind: policy.ObjectSystem}:    true,
		{Action: policy.ActionCreateProject, Kind: policy.ObjectSystem}: false,
	} {
		assert.Equal(t, allowed, check(t, checker, member, want).Allowed, want.Describe())
		assert.False(t, check(t, checker, stranger, want).Allowed, want.Describe())
	}
	assert.Equal(t, noon.Add(time.Hour), check(t, checker, member, prompt(policy.ActionRead, "a/x", policy.LabelAny)).Expires)
	now.Set(noon.Add(time.Hour))
	assert.False(t, check(t, checker, member, prompt(policy.ActionCall, "a/x", "production")).Allowed, "the group's grant is over")

	// Names of another kind are other names: a group called as a role, or as its member, is neither.
	for _, id := range []string{"editor:a/**", "usr_1", "role:admin"} {
		odd := &policy.Principal{ID: "usr_3", Project: "p", Groups: []policy.Group{{ID: id}}}
		assert.False(t, check(t, checker, odd, prompt(policy.ActionRead, "a/x", policy.LabelAny)).Allowed, id)
	}
}

func TestMissingReadsWell(t *testing.T) {
	checker, _ := newChecker(t)
	nobody := &policy.Principal{ID: "key_1"}
	for want, q := range map[string]policy.Permission{
		"call on support/triage@staging":        prompt(policy.ActionCall, "support/triage", "staging"),
		"call on support/triage@version":        prompt(policy.ActionCall, "support/triage", policy.LabelVersion),
		"write on support/triage":               prompt(policy.ActionWrite, "support/triage", ""),
		"manage_keys on the project":            system(policy.ActionManageKeys),
		"call on model gpt-4o":                  model("gpt-4o", ""),
		"call on model gpt-4o without a prompt": model("gpt-4o", policy.LabelModel),
	} {
		assert.Equal(t, want, check(t, checker, nobody, q).Missing)
	}
	d, err := checker.Check(context.Background(), nil, prompt(policy.ActionRead, "a", ""))
	require.NoError(t, err)
	assert.False(t, d.Allowed)
}

func TestExpiry(t *testing.T) {
	checker, now := newChecker(t)
	call := []policy.Action{policy.ActionCall}
	want := prompt(policy.ActionCall, "a", "production")
	p := &policy.Principal{ID: "key_1", Grants: []policy.Grant{
		{Actions: call, Prompts: []string{"*"}, Expires: noon.Add(2 * time.Hour)},
		{Effect: policy.EffectDeny, Actions: call, Prompts: []string{"a"}, Expires: noon.Add(time.Hour)},
	}}
	d := check(t, checker, p, want)
	assert.False(t, d.Allowed)
	assert.Equal(t, noon.Add(time.Hour), d.Expires, "no later than the first grant that ends")

	now.Set(noon.Add(time.Hour)) // the denial ends, and with it the remembered refusal
	d = check(t, checker, p, want)
	assert.True(t, d.Allowed)
	assert.Equal(t, noon.Add(2*time.Hour), d.Expires)

	now.Set(noon.Add(2*time.Hour - time.Nanosecond))
	assert.True(t, check(t, checker, p, want).Allowed)
	now.Set(noon.Add(2 * time.Hour))
	assert.False(t, check(t, checker, p, want).Allowed)

	mortal := &policy.Principal{ID: "key_2", Roles: []string{policy.RoleViewer}, Expires: noon.Add(3 * time.Hour)}
	read := prompt(policy.ActionRead, "a", "")
	assert.Equal(t, mortal.Expires, check(t, checker, mortal, read).Expires)
	now.Set(noon.Add(3 * time.Hour))
	assert.False(t, check(t, checker, mortal, read).Allowed)
}

// What was decided for one principal, project or revision says nothing about another.
func TestDecisionsAreNotShared(t *testing.T) {
	checker, _ := newChecker(t)
	read := prompt(policy.ActionRead, "a", "")
	may := policy.Principal{ID: "key_1", Kind: "key", Project: "p", Revision: 1, Roles: []string{policy.RoleViewer}}
	require.True(t, check(t, checker, &may, read).Allowed)
	for _, change := range []func(*policy.Principal){
		func(p *policy.Principal) { p.ID = "key_2" }, func(p *policy.Principal) { p.Project = "q" },
		func(p *policy.Principal) { p.Revision = 2 }, func(p *policy.Principal) { p.Kind = "user" },
	} {
		other := may
		other.Roles = nil
		change(&other)
		assert.False(t, check(t, checker, &other, read).Allowed, "%+v", other)
	}
}

// What cannot be understood allows nothing, not even what another grant allows: it may have been a denial.
func TestUnreadableRulesFailClosed(t *testing.T) {
	checker, _ := newChecker(t)
	for _, p := range []policy.Principal{
		{Roles: []string{policy.RoleAdmin, "emperor"}},
		{Roles: []string{policy.RoleAdmin, "viewer:a*"}},
		{Roles: []string{policy.RoleAdmin}, Grants: []policy.Grant{{Effect: "Deny", Actions: []policy.Action{policy.ActionRead}, Prompts: []string{"a"}}}},
		{Roles: []string{policy.RoleAdmin}, Grants: []policy.Grant{{Effect: "deny", Actions: []policy.Action{policy.ActionRead}, Prompts: []string{"sec*"}}}},
		{Roles: []string{policy.RoleAdmin}, Grants: []policy.Grant{{Effect: "deny", Actions: []policy.Action{"rea"}, Prompts: []string{"a"}}}},
	} {
		d, err := checker.Check(context.Background(), &p, prompt(policy.ActionRead, "a", ""))
		assert.Equal(t, fault.Internal, fault.CodeOf(err), "%+v", p)
		assert.False(t, d.Allowed || d.Holds)
	}
}

var (
	names   = []string{"a", "b", "a/b", "a/c", "a/b/c", "ab/c"}
	labels  = []string{"", "production", "staging", "latest", policy.LabelVersion, policy.LabelModel}
	actions = []policy.Action{policy.ActionRead, policy.ActionCall, policy.ActionMoveLabel, policy.ActionManageKeys}
)

func drawGrant(t *rapid.T) policy.Grant {
	return policy.Grant{
		Effect:  rapid.SampledFrom([]string{"", "allow", "deny"}).Draw(t, "effect"),
		Actions: rapid.SliceOfNDistinct(rapid.SampledFrom(actions), 1, 2, rapid.ID[policy.Action]).Draw(t, "actions"),
		Prompts: rapid.SliceOfN(rapid.SampledFrom([]string{"a", "a/*", "a/**", "a/b", "*", "**"}), 1, 2).Draw(t, "prompts"),
		Labels:  orNone(rapid.SliceOfN(rapid.SampledFrom([]string{"*", "production", "latest", policy.LabelVersion}), 0, 2).Draw(t, "labels")),
		Models:  orNone(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "a*", "*"}), 0, 1).Draw(t, "models")),
		Expires: rapid.SampledFrom([]time.Time{{}, noon, noon.Add(1)}).Draw(t, "expires"),
	}
}

func drawGroup(t *rapid.T) policy.Group {
	return policy.Group{
		ID:     rapid.SampledFrom([]string{"grp_1", "grp_2", "key_1", "editor"}).Draw(t, "group"),
		Roles:  rapid.SliceOfN(rapid.SampledFrom([]string{"tester", "editor:a/**", "admin:a/*"}), 0, 2).Draw(t, "group's roles"),
		Grants: rapid.SliceOfN(rapid.Custom(drawGrant), 0, 2).Draw(t, "group's grants"),
	}
}

func drawQuestion(t *rapid.T) policy.Permission {
	q := policy.Permission{
		Action: rapid.SampledFrom(actions).Draw(t, "action"), Label: rapid.SampledFrom(labels).Draw(t, "label"),
		Kind: rapid.SampledFrom([]string{policy.ObjectPrompt, policy.ObjectModel, policy.ObjectSystem}).Draw(t, "kind"),
	}
	if q.Kind != policy.ObjectSystem {
		q.Name = rapid.SampledFrom(names).Draw(t, "name")
	}
	return q
}

// Casbin, compiled and cached, says what reading the rules one after the other says.
func TestAgreesWithNaiveReading(t *testing.T) {
	checker, _ := newChecker(t)
	revision := int64(0)
	rapid.Check(t, func(t *rapid.T) {
		revision++
		p := &policy.Principal{ID: "key_1", Revision: revision,
			Roles:  rapid.SliceOfN(rapid.SampledFrom([]string{"viewer", "editor:a/**", "admin", "admin:a/*"}), 0, 2).Draw(t, "roles"),
			Grants: rapid.SliceOfN(rapid.Custom(drawGrant), 0, 3).Draw(t, "grants"),
			Groups: rapid.SliceOfN(rapid.Custom(drawGroup), 0, 2).Draw(t, "groups")}
		rules, err := p.Rules()
		require.NoError(t, err)
		for range 5 {
			q := drawQuestion(t)
			allowed := false
			for _, r := range rules {
				if r.Active(noon) && r.Matches(q) {
					allowed = !r.Deny
					if r.Deny {
						break
					}
				}
			}
			for range 2 {
				d, err := checker.Check(context.Background(), p, q)
				require.NoError(t, err)
				require.Equal(t, allowed, d.Allowed, "%s", q.Describe())
				require.True(t, d.Holds || !d.Allowed)
			}
		}
	})
}

// A denial of what was asked refuses it, whatever else is held, and wherever it stands.
func TestDenialAlwaysRefuses(t *testing.T) {
	checker, _ := newChecker(t)
	revision := int64(0)
	rapid.Check(t, func(t *rapid.T) {
		revision++
		q := drawQuestion(t)
		p := &policy.Principal{ID: "key_1", Revision: revision,
			Roles:  rapid.SliceOfN(rapid.SampledFrom([]string{"viewer", "editor", "admin"}), 0, 2).Draw(t, "roles"),
			Grants: rapid.SliceOfN(rapid.Custom(drawGrant), 0, 5).Draw(t, "grants")}
		_, err := checker.Check(context.Background(), p, q) // now it is remembered for this revision
		require.NoError(t, err)

		deny := policy.Grant{Effect: policy.EffectDeny, Actions: []policy.Action{q.Action}}
		switch q.Kind {
		case policy.ObjectPrompt:
			folder := ""
			if i := strings.LastIndexByte(q.Name, '/'); i >= 0 {
				folder = q.Name[:i+1]
			}
			deny.Prompts = []string{rapid.SampledFrom([]string{q.Name, folder + "*", folder + "**", "**"}).Draw(t, "pattern")}
		case policy.ObjectModel:
			deny.Models = []string{rapid.SampledFrom([]string{q.Name, q.Name[:1] + "*", "*"}).Draw(t, "pattern")}
		default:
			deny.Prompts = []string{"**"}
		}
		if own := q.Label; own != "" {
			deny.Labels = rapid.SampledFrom([][]string{nil, {"*"}, {own}, {"other", own}}).Draw(t, "labels")
		}
		revision++
		p.Revision = revision
		p.Grants = slices.Insert(slices.Clone(p.Grants), rapid.IntRange(0, len(p.Grants)).Draw(t, "place"), deny)
		d, err := checker.Check(context.Background(), p, q)
		require.NoError(t, err)
		require.False(t, d.Allowed, "%s, denied by %+v", q.Describe(), deny)
	})
}

func TestConcurrentChecks(t *testing.T) {
	checker, _ := newChecker(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				p := principal(i % 20)
				d, err := checker.Check(context.Background(), p, prompt(policy.ActionCall, fmt.Sprintf("team%d/p%d", i%20, g), "production"))
				assert.NoError(t, err)
				assert.True(t, d.Allowed)
			}
		})
	}
	wg.Wait()
}

func principal(i int) *policy.Principal {
	return &policy.Principal{ID: fmt.Sprintf("key_%016d", i), Kind: policy.KindKey, Project: "prj_1", Revision: int64(i), Grants: []policy.Grant{
		{Actions: []policy.Action{policy.ActionCall, policy.ActionFeedback}, Prompts: []string{fmt.Sprintf("team%d/**", i), "shared/*"}, Labels: []string{"production", "staging"}},
		{Effect: policy.EffectDeny, Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"shared/secret"}},
	}}
}

func BenchmarkCheck(b *testing.B) {
	log, err := uses.New(uses.Options{Keeper: &told{}})
	require.NoError(b, err)
	for _, n := range []int{10, 1_000, 100_000} {
		checker, err := rbac.New(rbac.Options{Uses: log})
		require.NoError(b, err)
		ps := make([]*policy.Principal, n)
		want := make([]policy.Permission, n)
		for i := range ps {
			ps[i], want[i] = principal(i%1_000), prompt(policy.ActionCall, fmt.Sprintf("team%d/triage", i%1_000), "production")
			ps[i].ID = fmt.Sprintf("key_%016d", i)
			d, err := checker.Check(b.Context(), ps[i], want[i])
			require.NoError(b, err)
			require.True(b, d.Allowed)
		}
		b.Run(fmt.Sprintf("warm/keys=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if d, err := checker.Check(context.Background(), ps[i], want[i]); err != nil || !d.Allowed {
					b.Fatal(d, err)
				}
				if i++; i == n {
					i = 0
				}
			}
		})
	}
	b.Run("cold/compile", func(b *testing.B) {
		checker, err := rbac.New(rbac.Options{})
		require.NoError(b, err)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := checker.Check(context.Background(), principal(i), prompt(policy.ActionCall, "shared/x", "production")); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cold/decide", func(b *testing.B) {
		checker, err := rbac.New(rbac.Options{})
		require.NoError(b, err)
		p := principal(1)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ { // a name that was never asked for
			if _, err := checker.Check(context.Background(), p, prompt(policy.ActionCall, fmt.Sprintf("shared/x%d", i), "production")); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// orNone is a list as nobody sends it: without an entry it is left out.
func orNone(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}
