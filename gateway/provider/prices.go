package provider

import (
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/promptgate/promptgate/metrics"
)

// vendors are the hosts of those whose public prices are built in. In a host, a * matches as in path.Match.
var vendors = map[string]string{ //nolint:gochecknoglobals // a constant
	"api.openai.com": "openai", "*.openai.azure.com": "azure", "*.services.ai.azure.com": "azure", "*.cognitiveservices.azure.com": "azure",
	"api.anthropic.com": "anthropic", "generativelanguage.googleapis.com": "google", "*aiplatform.googleapis.com": "google",
	"api.mistral.ai": "mistral", "api.deepseek.com": "deepseek", "api.groq.com": "groq", "api.cohere.com": "cohere", "api.cohere.ai": "cohere",
	"bedrock-runtime.*.amazonaws.com": "aws", "api.x.ai": "x-ai", "api.together.xyz": "together", "api.together.ai": "together",
	"api.fireworks.ai": "fireworks", "api.cerebras.ai": "cerebras", "api.moonshot.ai": "moonshotai",
}

// PriceList completes the list that was entered for a provider: where no catalogue was chosen, it is that of the vendor whose address it
// has, else the one of its kind. What a provider is called says nothing about what it costs.
func PriceList(kind, baseURL string, l metrics.PriceList) metrics.PriceList {
	if l.Catalogue == "" {
		l.Catalogue = catalogueOf(kind, baseURL)
	}
	return l
}

// PriceList is what the provider's tokens cost: see the function.
func (d Definition) PriceList() metrics.PriceList { return PriceList(d.Kind, d.BaseURL, d.Prices) }

func catalogueOf(kindName, baseURL string) string {
	if u, err := url.Parse(baseURL); err == nil {
		host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
		for h, catalogue := range vendors {
			if ok, _ := path.Match(h, host); ok { // the patterns are well formed
				return catalogue
			}
		}
	}
	if i := slices.IndexFunc(kinds[:], func(k kind) bool { return k.name == kindName }); i >= 0 {
		return kinds[i].catalogue
	}
	return metrics.CatalogueNone
}
