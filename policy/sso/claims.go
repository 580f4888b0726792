package sso

import (
	"encoding/json"
	"slices"

	"github.com/promptgate/promptgate/internal/fault"
)

const (
	maxGroups   = 2000
	maxGroupLen = 200
)

type times struct {
	NotBefore float64 `json:"nbf"`
}

// claims are those of an ID token that we read.
type claims struct {
	times

	AuthorizedParty string              `json:"azp"`
	Email           string              `json:"email"`
	EmailVerified   truth               `json:"email_verified"`
	DomainVerified  truth               `json:"xms_edov"` // Entra's: the owner of the address's domain has verified it
	Name            string              `json:"name"`
	SessionID       string              `json:"sid"`
	ClaimNames      map[string]string   `json:"_claim_names"`
	all             map[string]jsonText // every claim
}

type jsonText = json.RawMessage

// UnmarshalJSON implements json.Unmarshaler.
func (c *claims) UnmarshalJSON(b []byte) error {
	type plain claims
	if err := json.Unmarshal(b, (*plain)(c)); err != nil {
		return err
	}
	return json.Unmarshal(b, &c.all)
}

// truth is a truth value that some providers send as a word or a number.
type truth bool

// UnmarshalJSON implements json.Unmarshaler.
func (t *truth) UnmarshalJSON(b []byte) error {
	*t = truth(slices.Contains([]string{"true", `"true"`, "1", `"1"`}, string(b)))
	return nil
}

// groups are the values of the group claim: a list, or one value. A provider that leaves them out because there are too many must not be taken for one
// that says there are none.
func (c *claims) groups(claim string) ([]string, error) {
	if claim == "" {
		return nil, nil
	}
	if _, elsewhere := c.ClaimNames[claim]; elsewhere {
		return nil, fault.New(fault.PermissionDenied, "You are in so many groups that the identity provider leaves them out: whoever looks after it has to send only those that are assigned to this application.")
	}
	raw, ok := c.all[claim]
	if !ok {
		return nil, nil
	}
	var many []string
	var one string
	switch {
	case json.Unmarshal(raw, &many) == nil:
	case json.Unmarshal(raw, &one) == nil:
		many = []string{one}
	default:
		return nil, refused("the claim %s is no list of texts", claim)
	}
	many = slices.DeleteFunc(many, func(s string) bool { return s == "" || len(s) > maxGroupLen })
	if len(many) > maxGroups {
		return nil, refused("the claim %s has %d values", claim, len(many))
	}
	return many, nil
}

// clipped shortens what a provider said, for a log.
func clipped(s string) string {
	const most = 200
	return s[:min(len(s), most)]
}
