package provider

import (
	"slices"
	"strconv"
	"strings"

	"github.com/promptgate/promptgate/gateway/provider/egress"
	"github.com/promptgate/promptgate/metrics"
)

// Kinds of providers.
const (
	ProviderOpenAI    = "openai"    // any upstream that speaks OpenAI's API
	ProviderAnthropic = "anthropic" // any upstream that speaks Anthropic's Messages API
	ProviderEcho      = "echo"      // in the binary, offline
)

// kind is what holds for every provider of a kind. Its constructor stands in cmd, which alone knows the adapters.
type kind struct {
	name  string
	check func(d Definition, allowPrivate bool) error // of what the other kinds do not have
	// catalogue holds where the address is no vendor's that we know.
	catalogue string
}

// kinds is the one table of them: what is no row of it can be neither configured nor saved nor built.
var kinds = [...]kind{ //nolint:gochecknoglobals // a constant
	{ProviderOpenAI, checkUpstream, "openai"},
	{ProviderAnthropic, checkAnthropic, "anthropic"},
	{ProviderEcho, checkOffline, metrics.CatalogueNone},
}

// Kinds are the names of all kinds.
func Kinds() []string {
	out := make([]string, 0, len(kinds))
	for _, k := range kinds {
		out = append(out, k.name)
	}
	return out
}

func (d Definition) checkKind(allowPrivate bool) error {
	i := slices.IndexFunc(kinds[:], func(k kind) bool { return k.name == d.Kind })
	if i < 0 {
		var names []string
		for _, name := range Kinds() {
			names = append(names, strconv.Quote(name))
		}
		return invalid("kind", "The kind must be one of %s.", strings.Join(names, ", "))
	}
	return kinds[i].check(d, allowPrivate)
}

func checkUpstream(d Definition, allowPrivate bool) error {
	if _, err := egress.ParseURL(d.BaseURL, allowPrivate); err != nil {
		return invalid("base_url", "The base URL %s.", err)
	}
	return nil
}

func checkAnthropic(d Definition, allowPrivate bool) error {
	if d.Organization != "" || d.OpenAIProject != "" {
		return invalid("organization", "organization and openai_project are OpenAI's: leave them empty for a provider of the kind anthropic.")
	}
	return checkUpstream(d, allowPrivate)
}

func checkOffline(d Definition, _ bool) error {
	if d.BaseURL != "" || !d.Credential.IsZero() {
		return invalid("base_url", "An echo provider calls nobody: leave base_url and credential empty.")
	}
	return nil
}
