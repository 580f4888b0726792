package pointers

import (
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
)

// Feed tells what changed. journal.Journal is one.
type Feed interface {
	// Subscribe calls f for each change, in the order of revisions and without gaps.
	Subscribe(f func(journal.Change))
	// ConfirmedAt is when this process last knew that it had seen every committed change; the zero time: never.
	ConfirmedAt() time.Time
}

// Freshness judges how old what is remembered may be.
type Freshness struct {
	ConfirmedAt func() time.Time // when it was last known that no change was missed; the zero time: never
	MaxStale    time.Duration    // past this nothing is served
	Clock       func() time.Time
	Name        string // of what is kept, in the plural: "API keys"
}

// Age is how long ago it was confirmed that what is remembered is what is stored; RegistryUnavailable when that is too long ago.
func (f *Freshness) Age() (time.Duration, error) {
	confirmed := f.ConfirmedAt()
	if age := f.Clock().Sub(confirmed); age <= f.MaxStale && !confirmed.IsZero() {
		return age, nil
	}
	return 0, fault.New(fault.RegistryUnavailable, "%s could not be confirmed for too long: try again when the gateway reaches its database again.", f.Name)
}
