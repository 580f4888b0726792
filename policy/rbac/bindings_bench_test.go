package rbac_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/rbac"
)

// person holds n bindings, as one of its groups or of its own; only the last speaks of what is asked.
func person(n int, revision int64) *policy.Principal {
	p := &policy.Principal{ID: "usr_1", Kind: policy.KindUser, Project: "prj_1", Revision: revision}
	for i := range n {
		p.Bindings = append(p.Bindings, policy.Binding{
			ID: fmt.Sprintf("bnd_%d", i), Project: "prj_1", Subject: "usr_1", Role: "editor", Effect: policy.EffectAllow, Prompts: []string{fmt.Sprintf("team%d/**", i)},
		})
	}
	return p
}

// BenchmarkBindings decides for somebody who holds 1, 100 and 1,000 bindings: what was decided before (to be under 200 ns), a prompt that was never asked for,
// and the first decision of all, for which what is held is compiled.
func BenchmarkBindings(b *testing.B) {
	for _, n := range []int{1, 100, 1_000} {
		checker, err := rbac.New(rbac.Options{})
		require.NoError(b, err)
		ask := func(b *testing.B, p *policy.Principal, name string) {
			d, err := checker.Check(b.Context(), p, prompt(policy.ActionRead, name, ""))
			if err != nil || !d.Allowed {
				b.Fatal(d, err)
			}
		}
		p := person(n, 1)
		last := fmt.Sprintf("team%d/", n-1)
		triage := last + "triage"
		asked, fresh := 0, *p // beyond one run of a benchmark: nothing is asked twice
		ask(b, p, triage)
		b.Run(fmt.Sprintf("cached/bindings=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ask(b, p, triage)
			}
		})
		b.Run(fmt.Sprintf("new_prompt/bindings=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				asked++
				ask(b, p, fmt.Sprintf("%sp%d", last, asked))
			}
		})
		b.Run(fmt.Sprintf("first/bindings=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				fresh.Revision++ // as if something of it had changed
				ask(b, &fresh, triage)
			}
		})
	}
}
