package provider

import (
	"errors"
	"math"

	"github.com/promptgate/promptgate/internal/fault"
)

// Fault turns a provider's failure into what the caller is told: a code and what to do, never a host or the cause. A fault in
// err's chain comes back as it is, so the result of Route or Forward can be passed in unseen. Nil stays nil.
func Fault(err error) *fault.Error {
	if err == nil {
		return nil
	}
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	var e *Error
	if !errors.As(err, &e) {
		return fault.Wrap(err, fault.Internal, "Something went wrong here: try again, and tell an admin when it stays.")
	}
	switch e.Kind {
	case KindTimeout:
		return fault.Wrap(err, fault.ProviderTimeout, "The provider %q did not answer in time: try again, or ask for less at once.", e.Provider)
	case KindTruncated:
		return fault.Wrap(err, fault.ProviderTruncated, "The provider %q broke off its answer: try again.", e.Provider)
	case KindCancelled:
		return fault.Wrap(err, fault.ClientClosed, "The request was cancelled.")
	case KindConnect:
		return fault.Wrap(err, fault.ProviderError, "The provider %q could not be reached: try again shortly.", e.Provider)
	case KindOpen:
		return fault.Wrap(err, fault.ProviderError, "The provider %q failed too many calls of late, so its circuit is open and it is left alone: try again in %d s.",
			e.Provider, max(int64(math.Ceil(e.RetryAfter.Seconds())), 1))
	case KindEmpty:
		return fault.Wrap(err, fault.ProviderError, "The provider %q answered with success and without an answer: try again.", e.Provider)
	case KindRefused:
		return fault.Wrap(err, fault.ProviderError, "The gateway did not use the provider %q, or not its answer: try again shortly, and ask an admin when it stays.", e.Provider)
	default:
		return fault.Wrap(err, fault.ProviderError, "The provider %q gave an answer that cannot be used: try again, and ask an admin when it stays.", e.Provider)
	}
}
