package main

import (
	"context"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/policy"
)

// takenPeople are accounts, groups, roles and what is bound to them, for takeover.
type takenPeople struct {
	users, groups []string
	services      map[string][]string // by project
	bindings      []policy.Binding
	signIns       takenSignIns
}

func (p *takenPeople) fill(o *takeover) {
	ctx, s, t := o.t.Context(), o.running.keys, o.t
	p.services = map[string][]string{}
	system := &policy.Principal{Kind: policy.KindSystem}
	for _, name := range []string{"ana", "bo"} {
		u, err := s.CreateUser(ctx, stage, policy.User{Email: name + "@example.com", State: policy.UserActive, Operator: name == "ana", External: "x-" + name})
		require.NoError(t, err)
		g, err := s.CreateGroup(ctx, stage, policy.PeopleGroup{Name: "group of " + name, External: "g-" + name})
		require.NoError(t, err)
		_, err = s.Join(ctx, stage, g.ID, policy.ByHand, u.ID)
		require.NoError(t, err)
		p.users, p.groups = append(p.users, u.ID), append(p.groups, g.ID)
	}
	p.signIns.fill(o, p.users)
	for _, project := range o.project {
		_, err := s.PutRole(ctx, stage, system, policy.Role{Project: project, Name: "caller", Actions: []policy.Action{policy.ActionCall, policy.ActionRead}})
		require.NoError(t, err)
		for _, name := range []string{"one", "two"} {
			svc, err := s.CreateService(ctx, stage, policy.ServiceAccount{Project: project, Name: name})
			require.NoError(t, err)
			p.services[project] = append(p.services[project], svc.ID)
		}
		for _, subject := range append(append(append([]string{}, p.users...), p.groups...), p.services[project]...) {
			for _, b := range []policy.Binding{
				{Role: "caller", Prompts: []string{"support/**"}, Labels: []string{"production"}},
				{Role: "editor", Effect: policy.EffectDeny, Prompts: []string{"secret/**"}},
			} {
				b.Project, b.Subject = project, subject
				made, err := s.Bind(ctx, stage, system, b)
				require.NoError(t, err)
				p.bindings = append(p.bindings, made)
			}
		}
	}
}

// change writes every row that can be written again, once more.
func (p *takenPeople) change(o *takeover) {
	ctx, s, t := o.t.Context(), o.running.keys, o.t
	system := &policy.Principal{Kind: policy.KindSystem}
	p.signIns.change(o, p.users)
	for i, id := range p.users {
		a, err := s.Account(ctx, id)
		require.NoError(t, err)
		u := a.User
		u.Name = "changed"
		_, err = s.UpdateUser(ctx, stage, u)
		require.NoError(t, err)
		g, err := s.GroupByID(ctx, p.groups[i])
		require.NoError(t, err)
		g.Description = "changed"
		_, err = s.UpdateGroup(ctx, stage, g)
		require.NoError(t, err)
		_, err = s.Leave(ctx, stage, g.ID, id)
		require.NoError(t, err)
		_, err = s.Join(ctx, stage, g.ID, policy.BySCIM, id)
		require.NoError(t, err)
	}
	for _, project := range o.project {
		r, err := s.Role(ctx, project, "caller")
		require.NoError(t, err)
		r.Actions = []policy.Action{policy.ActionCall}
		_, err = s.PutRole(ctx, stage, system, *r)
		require.NoError(t, err)
		for _, id := range p.services[project] {
			svc, err := s.Service(ctx, project, id)
			require.NoError(t, err)
			svc.Description = "changed"
			_, err = s.UpdateService(ctx, stage, *svc)
			require.NoError(t, err)
		}
	}
	for _, b := range p.bindings {
		b.Reason = "changed"
		_, err := s.UpdateBinding(ctx, stage, system, b)
		require.NoError(t, err)
	}
}

// answers asks what deciding asks.
func (p *takenPeople) answers(ctx context.Context, o *takeover, s *stores, ask func(question string, answer any, err error)) {
	for _, project := range o.project {
		for _, id := range append(append([]string{}, p.users...), p.services[project]...) {
			m, err := policy.Member(ctx, s.keys, project, id)
			ask("member "+project+" "+id, m, err)
		}
	}
	p.signIns.answers(ctx, o, s, p.users, ask)
	for _, id := range p.groups {
		g, err := s.keys.GroupByID(ctx, id)
		ask("group "+id, g, err)
	}
}
