package main

import (
	"bytes"
	"context"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/policy"
)

// takenOutside are identity providers, directories, and who came in by them, for takeover.
type takenOutside struct {
	issuers []string
	users   []string // by provisioning
	groups  []string
	lookups []string
}

var aDirectory = policy.Directory{Name: "okta", Domains: []string{"provisioned.example"}}

func (p *takenOutside) fill(o *takeover) {
	ctx, s, t := o.t.Context(), o.running.keys, o.t
	for _, name := range []string{"one", "two"} {
		i, err := s.CreateIssuer(ctx, stage, policy.Issuer{
			Name: name, URL: "https://" + name + ".example", ClientID: "c-" + name, Secret: []byte("sealed " + name), Creates: true,
			Domains: []policy.Domain{{Domain: name + ".example", Enforced: name == "one"}},
		})
		require.NoError(t, err)
		_, err = s.Arrive(ctx, stage, policy.Assertion{Issuer: i.ID, Subject: "subject of " + name, Email: "ana@" + name + ".example", Verified: true})
		require.NoError(t, err)
		_, err = s.CreateSCIMToken(ctx, stage, policy.SCIMToken{Directory: "okta", Lookup: "lookup" + name, Hash: bytes.Repeat([]byte(name[:1]), 32), Domains: aDirectory.Domains})
		require.NoError(t, err)
		u, err := s.ProvisionUser(ctx, stage, aDirectory, policy.ProvisionedUser{
			User: policy.User{Email: name + "@provisioned.example"}, Provision: policy.Provision{UserName: name, External: "x-" + name, Active: true},
		})
		require.NoError(t, err)
		g, err := s.ProvisionGroup(ctx, stage, aDirectory, policy.ProvisionedGroup{PeopleGroup: policy.PeopleGroup{Name: "provisioned " + name}}, []string{u.ID})
		require.NoError(t, err)
		p.issuers, p.users, p.groups, p.lookups = append(p.issuers, i.ID), append(p.users, u.ID), append(p.groups, g.ID), append(p.lookups, "lookup"+name)
	}
}

// change writes every row that can be written again, once more. Identities are written once.
func (p *takenOutside) change(o *takeover) {
	ctx, s, t := o.t.Context(), o.running.keys, o.t
	for n, id := range p.issuers {
		i, err := s.IssuerByID(ctx, id)
		require.NoError(t, err)
		i.Secret, i.Domains[0].Enforced = []byte("another"), !i.Domains[0].Enforced
		_, err = s.UpdateIssuer(ctx, stage, i)
		require.NoError(t, err)
		_, err = s.RevokeSCIMToken(ctx, stage, policy.SCIMPrefix+p.lookups[n])
		require.NoError(t, err)
		u, err := s.ProvisionedUser(ctx, aDirectory, p.users[n])
		require.NoError(t, err)
		u.Provision.External, u.Provision.Active = "changed-"+id, false
		_, err = s.Reprovision(ctx, stage, aDirectory, u, u.Version())
		require.NoError(t, err)
		g, err := s.ProvisionedGroup(ctx, aDirectory, p.groups[n])
		require.NoError(t, err)
		g.Name += " changed"
		_, err = s.Regroup(ctx, stage, aDirectory, g, g.Version(), policy.Moves{})
		require.NoError(t, err)
	}
}

// answers asks what deciding asks.
func (p *takenOutside) answers(ctx context.Context, s *stores, ask func(question string, answer any, err error)) {
	for n, id := range p.issuers {
		i, err := s.keys.IssuerByID(ctx, id)
		ask("issuer "+id, i, err)
		name := []string{"one", "two"}[n]
		d, err := s.keys.DomainOf(ctx, name+".example")
		ask("domain "+name, d, err)
		who, err := s.keys.IdentityOf(ctx, id, "subject of "+name)
		ask("identity "+name, who, err)
		t, err := s.keys.SCIMTokenByLookup(ctx, p.lookups[n])
		ask("scim token "+name, t, err)
		u, err := s.keys.ProvisionedUser(ctx, aDirectory, p.users[n])
		ask("provisioned "+name, u, err)
		g, err := s.keys.ProvisionedGroup(ctx, aDirectory, p.groups[n])
		g.Members = nil // a list; what decides is who somebody is a member with
		ask("provisioned group "+name, g, err)
		a, err := s.keys.Account(ctx, p.users[n])
		ask("account of "+name, a, err)
	}
}
