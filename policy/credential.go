package policy

import (
	"net/http"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
)

// keyHeaders are the headers that SDKs carry a key in when it is not OpenAI's Authorization: Anthropic's, Azure's, Google's and Portkey's.
func keyHeaders() [4]string {
	return [...]string{"X-Api-Key", "Api-Key", "X-Goog-Api-Key", "X-Portkey-Api-Key"}
}

// Credential is the key that a request carries, in whichever of the headers that SDKs use; "" when there is none. Several headers may carry
// the same key. Two different ones, and an Authorization of another scheme than Bearer, are InvalidAPIKey: nobody could say whose request it is.
func Credential(h http.Header) (string, error) {
	key := ""
	for _, v := range h["Authorization"] {
		scheme, token, _ := strings.Cut(strings.TrimSpace(v), " ")
		if token = strings.TrimSpace(token); token == "" && (scheme == "" || strings.EqualFold(scheme, "Bearer")) {
			continue // an SDK that was given no key
		}
		if !strings.EqualFold(scheme, "Bearer") {
			return "", fault.New(fault.InvalidAPIKey, "The Authorization header is not of the scheme Bearer. Send \"Authorization: Bearer pg_…\", or no Authorization beside another header with the key.")
		}
		if key != "" && key != token {
			return "", twoKeys()
		}
		key = token
	}
	for _, name := range keyHeaders() {
		for _, v := range h[name] {
			v = strings.TrimSpace(v)
			if v == "" {
				continue
			}
			if key != "" && key != v {
				return "", twoKeys()
			}
			key = v
		}
	}
	return key, nil
}

func twoKeys() error {
	return fault.New(fault.InvalidAPIKey, "The request carries two different API keys. Send one of Authorization, x-api-key, api-key, x-goog-api-key and x-portkey-api-key.")
}
