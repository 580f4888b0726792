package provider

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/promptgate/promptgate/gateway/provider/egress"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/names"
	"github.com/promptgate/promptgate/metrics"
)

// TouchProvider is the kind of the journal's touches for providers and aliases. The key is the provider's id or the alias's name;
// whoever caches routes forgets those of the whole project.
const TouchProvider = "provider"

// Limits of what can be stored.
const (
	maxModels    = 200 // per provider
	maxTargets   = 16  // per alias
	maxModelLen  = 200 // bytes
	maxSecretLen = 8 << 10
)

// Definition is a stored provider of one project.
type Definition struct {
	ID            string // "prov_…"
	Project       string
	Name          string   // unique in the project; [a-z0-9][a-z0-9_.-]{0,63}
	Kind          string   // one of Kinds
	BaseURL       string   // "" for echo
	Organization  string   // OpenAI-Organization; "" sends none
	OpenAIProject string   // OpenAI-Project; "" sends none
	Models        []string // model names, or patterns with one "*"; none means every model
	Enabled       bool
	Prices        metrics.PriceList // as it was entered; PriceList says what holds

	// Credential is sealed at rest. Get and List leave it empty and set HasCredential; Load fills it. On an update an empty one keeps
	// what is stored.
	Credential    Secret
	HasCredential bool

	Revision  int64 // the journal's revision of its last change; ETag
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Alias is a model name of our own for an ordered list of targets: the first is used, the next ones when it fails.
type Alias struct {
	Project   string
	Name      string // what callers send as model
	Targets   []AliasTarget
	Revision  int64
	UpdatedAt time.Time
}

// AliasTarget names a target of an alias: a provider and a model, or a prompt.
type AliasTarget struct {
	Provider string `json:"provider,omitempty" doc:"A provider's name: the project's own, else a configured one"`
	Model    string `json:"model,omitempty" doc:"What the provider is asked for"`
	// Prompt makes a plain model name mean a prompt, for clients that reject or judge models by their names. It is the only target then.
	Prompt string `json:"prompt,omitempty" example:"support/triage@production" doc:"Instead of both, as the only target: the prompt that calls of this model run, with its label or version as behind prompt/"`
}

// Source is what routing reads.
type Source interface {
	// Load returns the enabled providers of a project, with their credentials, and its aliases. Its only fault is
	// RegistryUnavailable. A provider whose credential cannot be opened is an error, never left out in silence.
	Load(ctx context.Context, project string) ([]Definition, []Alias, error)
}

// Store keeps providers and aliases. Writes go through journal.Change. Every implementation runs providertest.Store. Faults:
// NotFound, Conflict (name taken), PreconditionFailed (Revision is not the stored one), InvalidRequest, RegistryUnavailable.
type Store interface {
	Source

	ListProviders(ctx context.Context, project string) ([]Definition, error)
	GetProvider(ctx context.Context, project, id string) (Definition, error)
	CreateProvider(ctx context.Context, by journal.Origin, d Definition) (Definition, error)
	// UpdateProvider writes everything but id and kind. A changed BaseURL needs its credential entered again.
	UpdateProvider(ctx context.Context, by journal.Origin, d Definition) (Definition, error)
	// DeleteProvider removes it and returns the journal's revision; revision 0 does not compare. Conflict while an alias of the project
	// names it.
	DeleteProvider(ctx context.Context, by journal.Origin, project, id string, revision int64) (int64, error)

	ListAliases(ctx context.Context, project string) ([]Alias, error)
	// PutAlias creates (Revision 0) or replaces an alias. Every provider it names is one of the project's own or a configured
	// one; InvalidRequest else.
	PutAlias(ctx context.Context, by journal.Origin, a Alias) (Alias, error)
	// DeleteAlias removes it and returns the journal's revision; revision 0 does not compare.
	DeleteAlias(ctx context.Context, by journal.Origin, project, name string, revision int64) (int64, error)
}

var (
	nameRule  = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)
	modelRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:/@+-]*$`)
)

// Check judges a definition before it is saved; allowPrivate is the operator's rule, not the project's. The fault names the field.
func (d Definition) Check(allowPrivate bool) error {
	if !nameRule.MatchString(d.Name) {
		return invalid("name", "The name must match %s.", nameRule)
	}
	if err := d.checkKind(allowPrivate); err != nil {
		return err
	}
	for field, v := range map[string]string{
		"credential": d.Credential.Reveal(), "organization": d.Organization, "openai_project": d.OpenAIProject,
	} {
		if len(v) > maxSecretLen || strings.ContainsFunc(v, notPrintable) {
			return invalid(field, "It must be printable ASCII without spaces, at most %d bytes.", maxSecretLen)
		}
	}
	if len(d.Models) > maxModels {
		return invalid("models", "A provider lists at most %d models; use a pattern such as gpt-*.", maxModels)
	}
	for _, m := range d.Models {
		if err := checkModel(m, true); err != nil {
			return err
		}
	}
	if err := d.Prices.Check(); err != nil {
		return invalid("price_list", "In the price list, %s.", err)
	}
	return nil
}

// CheckUpdate judges the step from one stored definition to the next. The stored credential was entered for the stored address: if
// it followed the address to wherever an editor points it, they could read it there.
func (d Definition) CheckUpdate(next Definition) error {
	if d.Kind != next.Kind {
		return invalid("kind", "The kind of a provider cannot change: create another one.")
	}
	if d.HasCredential && next.Credential.IsZero() && !sameBase(d.BaseURL, next.BaseURL) {
		return invalid("credential", "A changed base URL needs the credential entered again.")
	}
	return nil
}

// sameBase compares as the requests will be sent; an address that cannot be read is never the same.
func sameBase(a, b string) bool {
	ua, errA := egress.ParseURL(a, true)
	ub, errB := egress.ParseURL(b, true)
	return errA == nil && errB == nil && ua.String() == ub.String()
}

// Check judges an alias before it is saved.
func (a Alias) Check() error {
	if err := checkModel(a.Name, false); err != nil {
		return err
	}
	if a.Name == "default" || strings.HasPrefix(a.Name, "prompt/") || strings.HasPrefix(a.Name, "openai/prompt/") {
		return invalid("name", "%q has a meaning of its own as a model: choose another name.", a.Name)
	}
	if len(a.Targets) == 0 || len(a.Targets) > maxTargets {
		return invalid("targets", "An alias has 1 to %d targets.", maxTargets)
	}
	if named := a.Targets[0].Prompt; named != "" {
		return a.checkPrompt(named)
	}
	for i, t := range a.Targets {
		if t.Prompt != "" {
			return invalid("targets", "An alias is for a prompt or for models, not for both.")
		}
		if !nameRule.MatchString(t.Provider) {
			return invalid("targets", "Target %d names no provider: its name must match %s.", i+1, nameRule)
		}
		if err := checkModel(t.Model, false); err != nil {
			return err
		}
		if slices.Contains(a.Targets[:i], t) {
			return invalid("targets", "Target %d is there twice.", i+1)
		}
	}
	return nil
}

func (a Alias) checkPrompt(named string) error {
	switch {
	case len(a.Targets) > 1 || a.Targets[0].Provider != "" || a.Targets[0].Model != "":
		return invalid("targets", "An alias is for a prompt or for models, not for both.")
	case len(named) > maxPromptLen || !names.Printable(named) || !names.IsNormal(named) || strings.HasPrefix(named, "@"):
		return invalid("targets", "%.40q names no prompt: write it as name@label, in at most %d bytes.", named, maxPromptLen)
	}
	return nil
}

// maxPromptLen bounds an alias's prompt, in bytes: it goes into a model field, behind a prefix.
const maxPromptLen = 400

func checkModel(m string, pattern bool) error {
	plain := m
	if pattern {
		plain = strings.Replace(m, "*", "x", 1)
	}
	if len(m) > maxModelLen || !modelRule.MatchString(plain) {
		return invalid("models", "%.40q is no model name: letters, digits and _.:/@+- (a provider's may hold one * as well), at most %d bytes.", m, maxModelLen)
	}
	return nil
}

func notPrintable(r rune) bool { return r <= ' ' || r > '~' }

func invalid(param, format string, args ...any) error {
	return fault.New(fault.InvalidRequest, format, args...).WithParam(param)
}
