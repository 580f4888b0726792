package providertest

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/metrics"
)

// StoreUnderTest is a store and what the suite needs to look behind it.
type StoreUnderTest struct {
	provider.Store
	Touched func() []journal.Touch // all touches of committed changes so far
}

// Store runs the suite of provider.Store. newStore makes an empty one that allows no private addresses.
func Store(t *testing.T, newStore func(t *testing.T) StoreUnderTest) {
	for name, test := range map[string]func(*testing.T, StoreUnderTest){
		"provider's life":    storeLife,
		"projects apart":     storeProjects,
		"credentials":        storeCredentials,
		"aliases":            storeAliases,
		"refusals":           storeRefusals,
		"one of many writes": storeRaces,
	} {
		t.Run(name, func(t *testing.T) { test(t, newStore(t)) })
	}
}

var by = journal.Origin{Actor: journal.Actor{Kind: "user", ID: "usr_1", Name: "Ann"}, Why: "a test"} //nolint:gochecknoglobals // a constant

func sample(project, name string) provider.Definition {
	return provider.Definition{
		Project: project, Name: name, Kind: provider.ProviderOpenAI, BaseURL: "https://api.example.com/v1", Organization: "org-1",
		OpenAIProject: "proj-1", Models: []string{"gpt-*"}, Enabled: true, Credential: provider.NewSecret("sk-canary"),
		Prices: metrics.PriceList{Catalogue: "azure", Own: []metrics.Price{{Model: "gpt-*", From: time.Unix(1_800_000_000, 0).UTC(), Input: new(float64)}}},
	}
}

func wantCode(t *testing.T, code fault.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, fault.CodeOf(err), "%v", err)
}

func storeLife(t *testing.T, s StoreUnderTest) {
	c := t.Context()
	made, err := s.CreateProvider(c, by, sample("p", "one"))
	require.NoError(t, err)
	require.Regexp(t, `^prov_[a-z0-9]{10,}$`, made.ID)
	require.Positive(t, made.Revision)
	require.False(t, made.CreatedAt.IsZero())
	require.True(t, made.HasCredential)
	require.Equal(t, sample("p", "one").Prices, made.Prices)
	require.True(t, made.Credential.IsZero(), "nothing but Load tells it")

	got, err := s.GetProvider(c, "p", made.ID)
	require.NoError(t, err)
	require.Equal(t, made, got)
	require.Equal(t, []string{"gpt-*"}, got.Models)
	require.Equal(t, "org-1", got.Organization)

	got.Name, got.Enabled, got.Models = "two", false, nil
	changed, err := s.UpdateProvider(c, by, got)
	require.NoError(t, err)
	require.Greater(t, changed.Revision, made.Revision)
	require.Equal(t, "two", changed.Name)
	require.True(t, changed.HasCredential)
	defs, _, err := s.Load(c, "p")
	require.NoError(t, err)
	require.Empty(t, defs, "disabled")

	_, err = s.UpdateProvider(c, by, got)
	wantCode(t, fault.PreconditionFailed, err)
	wantCode(t, fault.PreconditionFailed, errOf(s.DeleteProvider(c, by, "p", made.ID, made.Revision)))
	revision, err := s.DeleteProvider(c, by, "p", made.ID, changed.Revision)
	require.NoError(t, err)
	require.Greater(t, revision, changed.Revision)
	wantCode(t, fault.NotFound, errOf(s.DeleteProvider(c, by, "p", made.ID, 0)))
	_, err = s.GetProvider(c, "p", made.ID)
	wantCode(t, fault.NotFound, err)

	touched := s.Touched()
	require.Len(t, touched, 3)
	for _, touch := range touched {
		require.Equal(t, journal.Touch{Kind: provider.TouchProvider, Project: "p", Key: made.ID}, touch)
	}
}

func storeProjects(t *testing.T, s StoreUnderTest) {
	c := t.Context()
	p, err := s.CreateProvider(c, by, sample("p", "same"))
	require.NoError(t, err)
	_, err = s.CreateProvider(c, by, sample("q", "same"))
	require.NoError(t, err)
	_, err = s.CreateProvider(c, by, sample("p", "same"))
	wantCode(t, fault.Conflict, err)

	for _, id := range []string{p.ID, "prov_none", "", "\x00", "\xff"} {
		_, err = s.GetProvider(c, "q", id)
		wantCode(t, fault.NotFound, err)
		wantCode(t, fault.NotFound, errOf(s.DeleteProvider(c, by, "q", id, 0)))
	}
	foreign := sample("q", "stolen")
	foreign.ID, foreign.Revision = p.ID, p.Revision
	_, err = s.UpdateProvider(c, by, foreign)
	wantCode(t, fault.NotFound, err)
	for _, project := range []string{"p", "q"} {
		list, err := s.ListProviders(c, project)
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, project, list[0].Project)
	}
	list, err := s.ListProviders(c, "nobody")
	require.NoError(t, err)
	require.Empty(t, list)
}

func storeCredentials(t *testing.T, s StoreUnderTest) {
	c := t.Context()
	credential := func() string {
		defs, _, err := s.Load(c, "p")
		require.NoError(t, err)
		require.Len(t, defs, 1)
		return defs[0].Credential.Reveal()
	}
	d, err := s.CreateProvider(c, by, sample("p", "one"))
	require.NoError(t, err)
	require.Equal(t, "sk-canary", credential())

	d.BaseURL = "https://evil.example/v1"
	_, err = s.UpdateProvider(c, by, d)
	wantCode(t, fault.InvalidRequest, err)
	require.Equal(t, "sk-canary", credential())

	d.BaseURL, d.Organization = "https://api.example.com/v1/", "org-2"
	d, err = s.UpdateProvider(c, by, d)
	require.NoError(t, err, "the same address")
	require.Equal(t, "sk-canary", credential(), "kept")

	d.BaseURL, d.Credential = "https://other.example/v1", provider.NewSecret("sk-other")
	d, err = s.UpdateProvider(c, by, d)
	require.NoError(t, err)
	require.Equal(t, "sk-other", credential())
	require.True(t, d.Credential.IsZero())

	open := sample("q", "open")
	open.Credential = provider.Secret{}
	open, err = s.CreateProvider(c, by, open)
	require.NoError(t, err)
	require.False(t, open.HasCredential)
	open.BaseURL = "https://moved.example"
	_, err = s.UpdateProvider(c, by, open)
	require.NoError(t, err, "there is nothing to protect")
}

func storeAliases(t *testing.T, s StoreUnderTest) {
	c := t.Context()
	d, err := s.CreateProvider(c, by, sample("p", "one"))
	require.NoError(t, err)
	a := provider.Alias{Project: "p", Name: "fast", Targets: []provider.AliasTarget{{Provider: "one", Model: "m2"}, {Provider: "configured", Model: "m1"}}}
	a, err = s.PutAlias(c, by, a)
	require.NoError(t, err)
	require.Positive(t, a.Revision)
	lost := provider.Alias{Project: "p", Name: "lost", Targets: []provider.AliasTarget{{Provider: "one", Model: "m2"}, {Provider: "unknown", Model: "m1"}}}
	_, err = s.PutAlias(c, by, lost)
	wantCode(t, fault.InvalidRequest, err)
	require.ErrorContains(t, err, "configured, one", "what is there is told")
	lost.Project = "q"
	lost.Targets = lost.Targets[:1]
	_, err = s.PutAlias(c, by, lost)
	wantCode(t, fault.InvalidRequest, err)
	again := a
	again.Revision = 0
	_, err = s.PutAlias(c, by, again)
	wantCode(t, fault.Conflict, err)

	_, aliases, err := s.Load(c, "p")
	require.NoError(t, err)
	require.Equal(t, []provider.Alias{a}, aliases)

	wantCode(t, fault.Conflict, errOf(s.DeleteProvider(c, by, "p", d.ID, 0)))
	renamed := d
	renamed.Name = "uno"
	_, err = s.UpdateProvider(c, by, renamed)
	wantCode(t, fault.Conflict, err)

	b := a
	b.Targets = b.Targets[1:]
	b, err = s.PutAlias(c, by, b)
	require.NoError(t, err)
	_, err = s.PutAlias(c, by, a)
	wantCode(t, fault.PreconditionFailed, err)
	require.NoError(t, errOf(s.DeleteProvider(c, by, "p", d.ID, 0)))

	for _, name := range []string{"fast", "\x00", ""} {
		wantCode(t, fault.NotFound, errOf(s.DeleteAlias(c, by, "q", name, 0)))
	}
	foreign := b
	foreign.Project = "q"
	_, err = s.PutAlias(c, by, foreign)
	wantCode(t, fault.NotFound, err)
	wantCode(t, fault.PreconditionFailed, errOf(s.DeleteAlias(c, by, "p", "fast", a.Revision)))
	require.NoError(t, errOf(s.DeleteAlias(c, by, "p", "fast", b.Revision)))
	list, err := s.ListAliases(c, "p")
	require.NoError(t, err)
	require.Empty(t, list)
	require.Contains(t, s.Touched(), journal.Touch{Kind: provider.TouchProvider, Project: "p", Key: "fast"})
}

func storeRefusals(t *testing.T, s StoreUnderTest) {
	c := t.Context()
	bad := sample("p", "one")
	bad.BaseURL = "https://169.254.169.254/latest"
	_, err := s.CreateProvider(c, by, bad)
	wantCode(t, fault.InvalidRequest, err)
	d, err := s.CreateProvider(c, by, sample("p", "one"))
	require.NoError(t, err)
	bad.ID, bad.Revision = d.ID, d.Revision
	_, err = s.UpdateProvider(c, by, bad)
	wantCode(t, fault.InvalidRequest, err)
	_, err = s.PutAlias(c, by, provider.Alias{Project: "p", Name: "a"})
	wantCode(t, fault.InvalidRequest, err)
	for _, name := range []string{"a\n", "a\r\nSet-Cookie: x", "a\x1b[2J", "a\x7f", "a\u0085", "caf\u00e9", "a b", "", strings.Repeat("a", 65)} { // names become headers
		bad := sample("p", name)
		_, err := s.CreateProvider(c, by, bad)
		wantCode(t, fault.InvalidRequest, err)
		bad.ID, bad.Revision = d.ID, d.Revision
		_, err = s.UpdateProvider(c, by, bad)
		wantCode(t, fault.InvalidRequest, err)
	}
	for _, model := range []string{"a\n", "a\r\nSet-Cookie: x", "a\x1b[2J", "a\x7f", "a\u0085", "caf\u00e9", "a b", "", strings.Repeat("a", 201)} {
		to := func(provide, model string) []provider.AliasTarget {
			return []provider.AliasTarget{{Provider: provide, Model: model}}
		}
		for _, a := range []provider.Alias{{Name: model, Targets: to("one", "m")}, {Name: "a", Targets: to("one", model)}, {Name: "a", Targets: to(model+"A", "m")}} {
			a.Project = "p"
			_, err := s.PutAlias(c, by, a)
			wantCode(t, fault.InvalidRequest, err)
		}
		for change, set := range map[string]func(*provider.Definition){
			"models":         func(d *provider.Definition) { d.Models = []string{model} },
			"organization":   func(d *provider.Definition) { d.Organization = model + "\n" },
			"openai_project": func(d *provider.Definition) { d.OpenAIProject = model + "\x7f" },
			"credential":     func(d *provider.Definition) { d.Credential = provider.NewSecret(model + "\u0085") },
		} {
			bad := sample("p", "two")
			set(&bad)
			_, err := s.CreateProvider(c, by, bad)
			require.Equal(t, fault.InvalidRequest, fault.CodeOf(err), "%s %q", change, model)
		}
	}
	require.Len(t, s.Touched(), 1, "what is refused changes nothing")
}

func storeRaces(t *testing.T, s StoreUnderTest) {
	c := t.Context()
	d, err := s.CreateProvider(c, by, sample("p", "one"))
	require.NoError(t, err)
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			mine := d
			mine.Organization = fmt.Sprintf("org-%d", i)
			switch _, err := s.UpdateProvider(c, by, mine); {
			case err == nil:
				won.Add(1)
			case fault.Is(err, fault.PreconditionFailed):
				lost.Add(1)
			default:
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, won.Load())
	require.EqualValues(t, 7, lost.Load())
}

// errOf leaves out the revision of a removal.
func errOf(_ int64, err error) error { return err }
