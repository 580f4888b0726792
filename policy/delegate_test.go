package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/internal/fault"
)

var noon = time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)

func allow(actions []Action, prompts, labels []string) Grant {
	return Grant{Actions: actions, Prompts: prompts, Labels: labels}
}

func TestDelegate(t *testing.T) {
	call, read := []Action{ActionCall}, []Action{ActionRead}
	admin := Principal{Kind: KindUser, Project: "prj_1", Roles: []string{RoleAdmin}}
	editor := Principal{Kind: KindUser, Project: "prj_1", Roles: []string{"editor:marketing/**"},
		Grants: []Grant{allow(call, []string{"marketing/**"}, []string{"production", "staging"})}}
	careful := admin
	careful.Grants = []Grant{{Effect: EffectDeny, Actions: call, Prompts: []string{"secret/**"}}}
	brief := admin
	brief.Expires = noon.Add(time.Hour)
	bound := admin
	bound.Networks = []string{"10.0.0.0/8"}
	lapsing := Principal{Kind: KindKey, Project: "prj_1", Grants: []Grant{{Actions: call, Prompts: []string{"**"}, Expires: noon.Add(time.Hour)}}}
	lapsed := Principal{Kind: KindKey, Project: "prj_1", Grants: []Grant{{Actions: call, Prompts: []string{"**"}, Expires: noon}}}
	later := noon.Add(30 * time.Minute)

	for _, c := range []struct {
		name    string
		granter Principal
		key     KeyRecord
		refused string // part of the message; "" when it is allowed
	}{
		{"admin gives roles", admin, KeyRecord{Roles: []string{RoleAdmin}}, ""},
		{"admin gives calls by version", admin, KeyRecord{Grants: []Grant{allow(call, []string{"**"}, []string{"*", LabelVersion, "latest"}), {Actions: call, Models: []string{"*"}}}}, ""},
		{"admin gives no projects", admin, KeyRecord{Grants: []Grant{{Actions: []Action{ActionCreateProject}}}}, "create_project on the project"},
		{"the system gives them", Principal{Kind: KindSystem}, KeyRecord{Grants: []Grant{{Actions: []Action{ActionCreateProject}}}}, ""},
		{"an admin of a folder is no admin", Principal{Project: "prj_1", Roles: []string{"admin:a/**"}}, KeyRecord{Roles: []string{RoleAdmin}}, "hold"},
		{"nor may call there", Principal{Project: "prj_1", Roles: []string{"admin:a/**"}}, KeyRecord{Grants: []Grant{allow(call, []string{"a/x"}, nil)}}, "call on a/x"},
		{"editor gives less", editor, KeyRecord{Roles: []string{"viewer:marketing/eu/**"}, Grants: []Grant{allow(call, []string{"marketing/*"}, []string{"staging"})}}, ""},
		{"editor gives the project", editor, KeyRecord{Roles: []string{RoleViewer}}, "read on **"},
		{"editor gives admin", editor, KeyRecord{Roles: []string{"admin:marketing/**"}}, "protect on marketing/**"},
		{"editor gives another folder", editor, KeyRecord{Grants: []Grant{allow(read, []string{"support/a"}, nil)}}, "read on support/a"},
		{"editor gives all labels", editor, KeyRecord{Grants: []Grant{allow(call, []string{"marketing/a"}, nil)}}, "call on marketing/a"},
		{"editor gives versions", editor, KeyRecord{Grants: []Grant{allow(call, []string{"marketing/a"}, []string{LabelVersion})}}, "call on marketing/a@version"},
		{"editor gives models", editor, KeyRecord{Grants: []Grant{{Actions: call, Models: []string{"gpt-4o"}}}}, "call on model gpt-4o"},
		{"denials may be given freely", editor, KeyRecord{Grants: []Grant{{Effect: EffectDeny, Actions: call, Prompts: []string{"**"}}}}, ""},
		{"own denial left out", careful, KeyRecord{Grants: []Grant{allow(call, []string{"**"}, nil)}}, "denied call on secret/**"},
		{"own denial kept", careful, KeyRecord{Grants: []Grant{allow(call, []string{"**"}, nil), {Effect: EffectDeny, Actions: call, Prompts: []string{"secret/**"}}}}, ""},
		{"own denial narrowed", careful, KeyRecord{Grants: []Grant{allow(call, []string{"**"}, nil), {Effect: EffectDeny, Actions: call, Prompts: []string{"secret/*"}}}}, "denied"},
		{"own denial by one label only", careful, KeyRecord{Grants: []Grant{allow(call, []string{"**"}, nil), {Effect: EffectDeny, Actions: call, Prompts: []string{"secret/**"}, Labels: []string{"production"}}}}, "denied"},
		{"own denial ending sooner", careful, KeyRecord{Grants: []Grant{allow(call, []string{"**"}, nil), {Effect: EffectDeny, Actions: call, Prompts: []string{"secret/**"}, Expires: later}}}, "denied"},
		{"own denial lasting as long as the key", careful, KeyRecord{Expires: later, Grants: []Grant{allow(call, []string{"**"}, nil), {Effect: EffectDeny, Actions: call, Prompts: []string{"secret/**"}, Expires: later}}}, ""},
		{"round a denial by another label", Principal{Project: "prj_1", Roles: []string{RoleAdmin}, Grants: []Grant{{Effect: EffectDeny, Actions: read, Prompts: []string{"a"}, Labels: []string{"production"}}}},
			KeyRecord{Grants: []Grant{allow(read, []string{"a"}, []string{"staging"})}}, "denied read on a"},
		{"own denial elsewhere", careful, KeyRecord{Grants: []Grant{allow(call, []string{"public/**"}, nil)}}, ""},
		{"outliving", brief, KeyRecord{Roles: []string{RoleViewer}}, "outlive"},
		{"outliving by a minute", brief, KeyRecord{Roles: []string{RoleViewer}, Expires: noon.Add(61 * time.Minute)}, "outlive"},
		{"ending with it", brief, KeyRecord{Roles: []string{RoleViewer}, Expires: noon.Add(time.Hour)}, ""},
		{"out of the network", bound, KeyRecord{Roles: []string{RoleViewer}}, "bound to 10.0.0.0/8"},
		{"into a wider one", bound, KeyRecord{Networks: []string{"10.0.0.0/7"}}, "bound"},
		{"into another one", bound, KeyRecord{Networks: []string{"10.1.0.0/16", "11.0.0.1"}}, "bound"},
		{"into a part of it", bound, KeyRecord{Networks: []string{"10.1.0.0/16", "10.2.3.4"}}, ""},
		{"what lapses, for ever", lapsing, KeyRecord{Grants: []Grant{allow(call, []string{"a"}, nil)}}, "call on a"},
		{"what lapses, as long", lapsing, KeyRecord{Grants: []Grant{{Actions: call, Prompts: []string{"a"}, Expires: later}}}, ""},
		{"what lapses, to a key that ends", lapsing, KeyRecord{Expires: later, Grants: []Grant{allow(call, []string{"a"}, nil)}}, ""},
		{"what has lapsed", lapsed, KeyRecord{Expires: noon, Grants: []Grant{{Actions: call, Prompts: []string{"a"}, Expires: later}}}, "call on a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.key.Project = "prj_1"
			err := Delegate(&c.granter, c.key, noon)
			if c.refused == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, fault.PermissionDenied, fault.CodeOf(err), "%v", err)
			assert.ErrorContains(t, err, c.refused)
		})
	}
	foreign := KeyRecord{Project: "prj_2"}
	assert.Equal(t, fault.NotFound, fault.CodeOf(Delegate(&admin, foreign, noon)))
	assert.Equal(t, fault.PermissionDenied, fault.CodeOf(Delegate(nil, foreign, noon)))
	unreadable := Principal{Project: "prj_2", Roles: []string{"emperor"}}
	assert.Equal(t, fault.Internal, fault.CodeOf(Delegate(&unreadable, foreign, noon)))
}

func TestGovern(t *testing.T) {
	manager := Principal{ID: "key_1", Kind: KindKey, Project: "prj_1", Expires: noon.Add(time.Hour), Networks: []string{"10.0.0.0/8"},
		Roles: []string{"editor:a/**"}, Grants: []Grant{
			{Actions: []Action{ActionManageKeys}, Expires: noon.Add(time.Minute)},
			{Effect: EffectDeny, Actions: []Action{ActionRead}, Prompts: []string{"a/secret"}},
		}}
	denied := KeyRecord{Roles: []string{"viewer:a/b/**"}}
	for _, c := range []struct {
		name    string
		key     KeyRecord
		refused string
	}{
		{"a weaker key that lives longer, anywhere", denied, ""},
		{"one that manages keys for ever", KeyRecord{Grants: []Grant{{Actions: []Action{ActionManageKeys}}}}, ""},
		{"an admin's", KeyRecord{Roles: []string{RoleAdmin}}, "yours may not (read on **)"},
		{"an admin's that has no more grants", KeyRecord{Grants: []Grant{{Actions: []Action{ActionAudit}, Expires: noon}}}, ""},
		{"another folder's", KeyRecord{Roles: []string{"viewer:b/**"}}, "read on b/**"},
		{"one that may read what is denied", KeyRecord{Roles: []string{"viewer:a/**"}}, "read on a/secret"},
		{"its own", KeyRecord{ID: "key_1", Roles: []string{RoleAdmin}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.key.Project = "prj_1"
			err := Govern(&manager, c.key, noon)
			if c.refused == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, fault.PermissionDenied, fault.CodeOf(err), "%v", err)
			assert.ErrorContains(t, err, c.refused)
		})
	}
	denied.Project, denied.ID = "prj_2", manager.ID
	assert.Equal(t, fault.NotFound, fault.CodeOf(Govern(&manager, denied, noon)))
	assert.Equal(t, fault.PermissionDenied, fault.CodeOf(Govern(nil, denied, noon)))
	require.NoError(t, Govern(&Principal{Kind: KindSystem}, denied, noon))
	user := Principal{ID: "key_1", Kind: KindUser, Project: "prj_1"}
	assert.Equal(t, fault.PermissionDenied, fault.CodeOf(Govern(&user, KeyRecord{ID: "key_1", Project: "prj_1", Roles: []string{RoleAdmin}}, noon)), "no key of that name")
}

var (
	somePatterns = []string{"a", "a/b", "a/*", "a/**", "*", "**"}
	someLabels   = []string{"production", "*", LabelVersion, "latest"}
	someModels   = []string{"m", "m*", "*"}
	someActions  = []Action{ActionRead, ActionCall, ActionManageKeys, ActionCreateProject}
	someTimes    = []time.Time{{}, noon.Add(time.Hour), noon.Add(2 * time.Hour), noon}
)

func drawGrants(t *rapid.T, label string) []Grant {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Grant {
		g := Grant{
			Effect:  rapid.SampledFrom([]string{"", EffectAllow, EffectDeny}).Draw(t, "effect"),
			Actions: rapid.SliceOfNDistinct(rapid.SampledFrom(someActions), 1, 3, rapid.ID[Action]).Draw(t, "actions"),
			Prompts: orNone(rapid.SliceOfN(rapid.SampledFrom(somePatterns), 0, 2).Draw(t, "prompts")),
			Labels:  orNone(rapid.SliceOfN(rapid.SampledFrom(someLabels), 0, 2).Draw(t, "labels")),
			Models:  orNone(rapid.SliceOfN(rapid.SampledFrom(someModels), 0, 1).Draw(t, "models")),
			Expires: rapid.SampledFrom(someTimes).Draw(t, "expires"),
		}
		if g.Validate() != nil {
			g.Prompts = []string{"a/*"}
		}
		return g
	}), 0, 4).Draw(t, label)
}

// may decides without Casbin, cache or compilation, from the text of the rules.
func may(rules []Rule, want Permission, at time.Time) bool {
	ok := false
	for _, r := range rules {
		if r.Active(at) && r.Matches(want) {
			if r.Deny {
				return false
			}
			ok = true
		}
	}
	return ok
}

// Whatever Delegate lets through, the key may at no time do what its granter might not do then.
func TestDelegateNeverEscalates(t *testing.T) {
	roles := rapid.SliceOfN(rapid.SampledFrom([]string{RoleViewer, RoleAdmin, "editor:a/**", "admin:a/**", "viewer:a/*"}), 0, 2)
	granted := 0
	all := questions()
	judge := func(t *rapid.T) {
		granter := Principal{Project: "p", Roles: roles.Draw(t, "granter's roles"), Grants: drawGrants(t, "granter's"),
			Expires: rapid.SampledFrom(someTimes[:3]).Draw(t, "granter's end")}
		key := KeyRecord{Project: "p", Roles: roles.Draw(t, "key's roles"), Grants: drawGrants(t, "key's"),
			Expires: rapid.SampledFrom(someTimes[:3]).Draw(t, "key's end")}
		if Delegate(&granter, key, noon) != nil {
			return
		}
		granted++
		held, err := granter.Rules()
		require.NoError(t, err)
		if until, ok := governs(&granter, noon); ok {
			held = append(held, projectRules(until)...)
		}
		got, err := expand(key.Roles, key.Grants, nil)
		require.NoError(t, err)
		for _, at := range []time.Time{noon, noon.Add(time.Hour - 1), noon.Add(time.Hour), noon.Add(2 * time.Hour), noon.Add(1000 * time.Hour)} {
			keyLives := key.Expires.IsZero() || at.Before(key.Expires)
			granterLives := granter.Expires.IsZero() || at.Before(granter.Expires)
			for _, want := range all {
				if keyMay, granterMay := keyLives && may(got, want, at), granterLives && may(held, want, at); keyMay && !granterMay {
					t.Fatalf("%s at %s", want.Describe(), at)
				}
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		for range 20 { // most draws are refused at once, so each check makes several
			judge(t)
		}
	})
	require.Positive(t, granted, "the property was never put to the test")
}

func questions() []Permission {
	var all []Permission
	for _, action := range append([]Action{ActionWrite, ActionProtect, ActionComment}, someActions...) {
		all = append(all, Permission{Action: action, Kind: ObjectSystem})
		for _, label := range []string{LabelAny, "production", "staging", LabelVersion, "latest", LabelModel} {
			for _, name := range []string{"a", "b", "a/b", "a/c", "a/b/c", "x/y"} {
				all = append(all, Permission{Action: action, Kind: ObjectPrompt, Name: name, Label: label})
			}
			for _, name := range []string{"m", "mm", "n"} {
				all = append(all, Permission{Action: action, Kind: ObjectModel, Name: name, Label: label})
			}
		}
	}
	return all
}

func TestKeyRecordValidate(t *testing.T) {
	k := KeyRecord{Name: " billing ", Roles: []string{"editor:**", "viewer:a/*", "editor"}, Networks: []string{"10.9.9.9/8", "10.0.0.0/8"}}
	require.NoError(t, k.Validate())
	assert.Equal(t, "billing", k.Name)
	assert.Equal(t, []string{"editor", "viewer:a/*"}, k.Roles)
	assert.Equal(t, []string{"10.0.0.0/8"}, k.Networks)

	const nfc, nfd = "caf\u00e9", "cafe\u0301" // one name, typed in two ways
	typed := []Grant{{Actions: []Action{ActionCall}, Models: []string{"a", nfd + "-*"}}}
	k = KeyRecord{Name: nfd, Grants: typed}
	require.NoError(t, k.Validate())
	assert.Equal(t, nfc, k.Name)
	assert.Equal(t, []string{"a", nfc + "-*"}, k.Grants[0].Models)
	assert.Equal(t, nfd+"-*", typed[0].Models[1], "what was given is not written into")
	long := KeyRecord{Name: strings.Repeat("\u0958", 34)} // 102 bytes, and 204 in its one form
	assert.Error(t, long.Validate())
	long.Name = long.Name[:60] // 60 bytes, and 120 in its one form: what is kept must be as short as what is said
	assert.Error(t, long.Validate())

	many := make([]Grant, 101)
	for i := range many {
		many[i] = allow([]Action{ActionRead}, []string{"a"}, nil)
	}
	for param, bad := range map[string]KeyRecord{
		"name":     {Name: "  "},
		"roles":    {Name: "x", Roles: []string{"emperor"}},
		"networks": {Name: "x", Networks: []string{"10.0.0.0/99"}},
		"grants":   {Name: "x", Grants: many},
	} {
		var f *fault.Error
		require.ErrorAs(t, bad.Validate(), &f)
		assert.Equal(t, fault.InvalidRequest, f.Code)
		assert.Equal(t, param, f.Param)
	}
	for _, g := range []Grant{
		{Effect: "DENY", Actions: []Action{ActionCall}, Prompts: []string{"a"}},
		{Prompts: []string{"a"}},
		{Actions: []Action{"cal"}, Prompts: []string{"a"}},
		{Actions: []Action{ActionCall}},
		{Actions: []Action{ActionCall}, Prompts: []string{"a*"}},
		{Actions: []Action{ActionCall}, Prompts: []string{"a"}, Labels: []string{"**"}},
	} {
		bad := KeyRecord{Name: "x", Grants: []Grant{g}}
		assert.Error(t, bad.Validate(), "%+v", g)
	}
	assert.NotContains(t, string(KeyRecord{Hash: []byte("hashhash")}.Public()), "aGFzaGhhc2g")
}

// orNone is a list as nobody sends it: without an entry it is left out.
func orNone(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}
