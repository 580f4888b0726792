package registry_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/testenv/corpora"
	"github.com/promptgate/promptgate/registry"
)

func TestNames(t *testing.T) {
	for _, good := range []string{"a", "0", "support/triage", "a.b_c-d/e", "3", "latest", strings.Repeat("a", 200)} {
		require.NoError(t, registry.CheckName(good), good)
	}
	for _, bad := range []string{
		"", "/", "a/", "/a", "a//b", "A", "a b", "a@b", "a@3", ".a", "-a", "a/.b", "a/../b", "pmpt_x", "a/pmpt_x", "drf_x", "ä", "a\n",
		"a\x00", "\xff", "a%", "a?b", "a#b", "{{a}}", "a\\b", strings.Repeat("a", 201),
	} {
		requireParam(t, fault.InvalidRequest, "name", registry.CheckName(bad))
	}
	for _, good := range []string{"a/b", "pmpt_Abc123", "asst:9", "A.b-c_d"} {
		require.NoError(t, registry.CheckAlias(good), good)
	}
	for _, bad := range []string{"", "drf_x", "a b", "a@b", "A/b", "\x00", "a\n", strings.Repeat("A", 201)} {
		requireParam(t, fault.InvalidRequest, "aliases", registry.CheckAlias(bad))
	}
	for _, good := range []string{"production", "v3", "three", "a", "a.b-c_d", "a" + strings.Repeat("0", 35)} {
		require.NoError(t, registry.CheckLabel(good), good)
	}
	for _, bad := range []string{"", "3", "latest", "Prod", "a b", "-a", "a/b", "a@", "@version", "a\n", "a" + strings.Repeat("0", 36)} {
		requireParam(t, fault.InvalidRequest, "label", registry.CheckLabel(bad))
	}
}

func TestNaughtyStrings(t *testing.T) {
	naughty := []string{"' OR 1=1 --", "\x00", "\xff", "%", "🦊", strings.Repeat("x", 100_000), "{{", "$1", "?"}
	naughty = append(naughty, corpora.Naughty(t)...)
	h := newHouse(t)
	p := h.prompt("p", "")
	h.save(p, "x")
	for _, s := range naughty {
		if registry.CheckName(s) == nil {
			continue // "undefined" is a fine name
		}
		// Whatever it is, it is refused as the caller's mistake or taken; never a fault of ours.
		_, err := h.CreatePrompt(t.Context(), by, registry.PromptInput{Project: h.project, Name: s, Aliases: []string{s}, Tags: []string{s}})
		requireCode(t, fault.InvalidRequest, err)
		_, err = h.MoveLabel(t.Context(), by, registry.LabelMove{Project: h.project, PromptID: p.ID, Label: s + "!", To: 1})
		requireCode(t, fault.InvalidRequest, err)
		_, err = h.Prompt(t.Context(), h.project, s)
		requireCode(t, fault.PromptNotFound, err)
		_, _, err = h.Prompts(t.Context(), h.project, registry.PromptFilter{Query: s, Tag: s, Folder: s, Category: s}, registry.Page{})
		if err != nil {
			requireCode(t, fault.InvalidRequest, err)
		}
		_, err = h.UpdatePrompt(t.Context(), by, registry.PromptUpdate{
			Project: h.project, ID: p.ID, Revision: registry.AnyRevision, Description: &s, Owner: &s, Category: &s,
		})
		if err != nil {
			requireCode(t, fault.InvalidRequest, err)
			continue
		}
		stored, err := h.Prompt(t.Context(), h.project, "p")
		require.NoError(t, err)
		require.Equal(t, [3]string{s, s, s}, [3]string{stored.Description, stored.Owner, stored.Category})
	}
}
