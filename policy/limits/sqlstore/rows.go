package sqlstore

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/policy/limits"
)

type limitRow struct {
	bun.BaseModel `bun:"table:policy_limits"`

	Project   string `bun:",pk"`
	ID        string `bun:",pk"`
	Name      string
	Measure   string
	Amount    int64
	Period    string
	Days      int64
	Zone      string
	Scope     string
	Subject   string
	Soft      bool
	Sandbox   bool
	Unpriced  bool
	Contact   string
	CreatedBy string
	CreatedAt int64
	Revision  int64
}

type resetRow struct {
	bun.BaseModel `bun:"table:policy_limit_resets"`

	Project  string `bun:",pk"`
	LimitID  string `bun:",pk"`
	Subject  string `bun:",pk"`
	Off      string
	ResetBy  string
	ResetAt  int64
	Why      string
	Revision int64
}

// Group implements authentic.Grouped: a project's limits are read together.
func (*limitRow) Group() int { return 1 }

// Group implements authentic.Grouped: a project's resets are read together.
func (*resetRow) Group() int { return 1 }

// Tables are the models of the rows that decide something: every column of them is checked when it is read (journal.Read).
func Tables() []any { return []any{(*limitRow)(nil), (*resetRow)(nil)} }

func limitRowOf(l limits.Limit) limitRow {
	return limitRow{
		Project: l.Project, ID: l.ID, Name: l.Name, Measure: string(l.Measure), Amount: l.Amount, Period: string(l.Period), Days: int64(l.Days),
		Zone: l.Zone, Scope: string(l.Scope), Subject: l.Subject, Soft: l.Soft, Sandbox: l.Sandbox, Unpriced: l.Unpriced, Contact: l.Contact,
		CreatedBy: l.CreatedBy, CreatedAt: l.CreatedAt.UnixMicro(), Revision: l.Revision,
	}
}

func (r *limitRow) limit() (limits.Limit, error) {
	l := limits.Limit{
		ID: r.ID, Project: r.Project, Name: r.Name, Measure: limits.Measure(r.Measure), Amount: r.Amount, Period: limits.Period(r.Period),
		Days: int(r.Days), Zone: r.Zone, Scope: limits.Scope(r.Scope), Subject: r.Subject, Soft: r.Soft, Sandbox: r.Sandbox, Unpriced: r.Unpriced,
		Contact: r.Contact, CreatedBy: r.CreatedBy, CreatedAt: time.UnixMicro(r.CreatedAt).UTC(), Revision: r.Revision,
	}
	if err := l.Validate(); err != nil {
		return l, fmt.Errorf("limit %s: %w", r.ID, err)
	}
	return l, nil
}

func (r *resetRow) reset() (limits.Reset, error) {
	out := limits.Reset{Limit: r.LimitID, Subject: r.Subject, By: r.ResetBy, Why: r.Why, At: time.UnixMicro(r.ResetAt).UTC()}
	if err := json.Unmarshal([]byte(r.Off), &out.Off); err != nil {
		return out, fmt.Errorf("reset of %s: %w", r.LimitID, err)
	}
	return out, nil
}

// public is what the journal keeps of a limit.
type public struct {
	Name     string `json:"name"`
	Measure  string `json:"measure"`
	Amount   int64  `json:"amount"`
	Period   string `json:"period,omitempty"`
	Days     int64  `json:"days,omitempty"`
	Zone     string `json:"time_zone,omitempty"`
	Scope    string `json:"scope"`
	Subject  string `json:"subject,omitempty"`
	Soft     bool   `json:"soft,omitempty"`
	Sandbox  bool   `json:"sandbox,omitempty"`
	Unpriced bool   `json:"unpriced_allowed,omitempty"`
	Contact  string `json:"contact,omitempty"`
}

func (r *limitRow) public() public {
	return public{r.Name, r.Measure, r.Amount, r.Period, r.Days, r.Zone, r.Scope, r.Subject, r.Soft, r.Sandbox, r.Unpriced, r.Contact}
}
