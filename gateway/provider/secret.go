package provider

import "log/slog"

const redacted = "[redacted]"

// Secret is a credential in memory. Every way to print it prints "[redacted]"; only Reveal tells.
type Secret struct{ value string }

// NewSecret wraps a credential.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal is the credential itself: for the header it is sent in and the column it is sealed into, and nothing else.
func (s Secret) Reveal() string { return s.value }

// IsZero reports whether there is no credential.
func (s Secret) IsZero() bool { return s.value == "" }

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return redacted }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, for JSON and whatever else prints structs.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
