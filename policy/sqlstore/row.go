package sqlstore

import (
	"encoding/json"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

type keyRow struct {
	bun.BaseModel `bun:"table:policy_keys,alias:k"`

	ID        string `bun:"id,pk"`
	Project   string `bun:"project"`
	Name      string `bun:"name"`
	Lookup    string `bun:"lookup"`
	Hash      []byte `bun:"hash"`
	LastFour  string `bun:"last_four"`
	Roles     string `bun:"roles"`
	Grants    string `bun:"grants"`
	Networks  string `bun:"networks"`
	ExpiresAt int64  `bun:"expires_at"`
	CreatedBy string `bun:"created_by"`
	CreatedAt int64  `bun:"created_at"`
	RevokedAt int64  `bun:"revoked_at"`
	Revision  int64  `bun:"revision"`
	Owner     string `bun:"owner"`
	Inherits  bool   `bun:"inherits"`

	Replaces   string `bun:"replaces"`
	ReplacedBy string `bun:"replaced_by"`
}

func rowOf(k policy.KeyRecord) (keyRow, error) {
	row := keyRow{
		ID: k.ID, Project: k.Project, Name: k.Name, Lookup: k.Lookup, Hash: k.Hash, LastFour: k.LastFour,
		ExpiresAt: micros(k.Expires), CreatedBy: k.CreatedBy, CreatedAt: micros(k.CreatedAt), RevokedAt: micros(k.RevokedAt),
		Revision: k.Revision, Owner: k.Owner, Inherits: k.Inherits, Replaces: k.Replaces, ReplacedBy: k.ReplacedBy,
	}
	for _, f := range []struct {
		to   *string
		from any
	}{{&row.Roles, k.Roles}, {&row.Grants, k.Grants}, {&row.Networks, k.Networks}} {
		b, err := json.Marshal(f.from)
		if err != nil {
			return keyRow{}, fault.Wrap(err, fault.InvalidRequest, "a time of the key is out of range")
		}
		*f.to = string(b)
	}
	return row, nil
}

func (r keyRow) record() (policy.KeyRecord, error) {
	k := policy.KeyRecord{
		ID: r.ID, Project: r.Project, Name: r.Name, Lookup: r.Lookup, Hash: r.Hash, LastFour: r.LastFour,
		Expires: at(r.ExpiresAt), CreatedBy: r.CreatedBy, CreatedAt: at(r.CreatedAt), RevokedAt: at(r.RevokedAt), Revision: r.Revision,
		Owner: r.Owner, Inherits: r.Inherits, Replaces: r.Replaces, ReplacedBy: r.ReplacedBy,
	}
	for _, f := range []struct {
		from string
		to   any
	}{{r.Roles, &k.Roles}, {r.Grants, &k.Grants}, {r.Networks, &k.Networks}} {
		if err := json.Unmarshal([]byte(f.from), f.to); err != nil {
			return policy.KeyRecord{}, fault.Wrap(err, fault.Internal, "the stored key %s cannot be read", r.ID)
		}
	}
	return k, nil
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func at(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
