package names_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/internal/names"
)

func TestNormal(t *testing.T) {
	assert.Equal(t, "caf\u00e9", names.Normal("cafe\u0301"))
	assert.Equal(t, "\uac00", names.Normal("\u1100\u1161"))
	assert.False(t, names.IsNormal("cafe\u0301"))
	assert.Equal(t, "caf\u00e9", string(names.NormalBytes([]byte("cafe\u0301"))))
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.String().Draw(rt, "s")
		assert.Equal(rt, names.Normal(s), names.Normal(norm.NFD.String(s)))
	})
}

func TestNearest(t *testing.T) {
	known := []string{"temperature", "top_p", "max_tokens", "stop", "seed", "n"}
	for s, want := range map[string]string{
		"temprature": "temperature", "Temperature": "temperature", "tempreature": "temperature", "maxTokens": "max_tokens", "max-tokens": "max_tokens", //nolint:misspell // on purpose
		"max_token": "max_tokens", "topP": "top_p", "top_k": "", "min_p": "", "step": "", "m": "", "repetition_penalty": "",
	} {
		assert.Equal(t, want, names.Nearest(s, known), s)
	}
}

func TestPrintable(t *testing.T) {
	assert.True(t, names.Printable("modèle x"))
	for _, s := range []string{"a\x00", "a\n", "\x1b", "\u202e", "\u2028", "\xff"} {
		assert.False(t, names.Printable(s), "%q", s)
	}
}
