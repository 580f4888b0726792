package sqlstore

import (
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/policy"
)

type sessionRow struct {
	bun.BaseModel `bun:"table:policy_sessions,alias:s"`

	ID        string `bun:"id,pk"`
	UserID    string `bun:"user_id"`
	Epoch     int64  `bun:"epoch"`
	Method    string `bun:"method"`
	Factor    string `bun:"factor"`
	Address   string `bun:"address"`
	UserAgent string `bun:"user_agent"`
	CreatedAt int64  `bun:"created_at"`
	RotatedAt int64  `bun:"rotated_at"`
	Idle      int64  `bun:"idle"`
	EndsAt    int64  `bun:"ends_at"`
	Revision  int64  `bun:"revision"`
}

func rowOfSession(s policy.Session) sessionRow {
	return sessionRow{
		ID: s.ID, UserID: s.UserID, Epoch: s.Epoch, Method: string(s.Method), Factor: string(s.Factor), Address: s.Address, UserAgent: s.UserAgent,
		CreatedAt: micros(s.CreatedAt), RotatedAt: micros(s.RotatedAt), Idle: s.Idle.Microseconds(), EndsAt: micros(s.EndsAt), Revision: s.Revision,
	}
}

func (r *sessionRow) session() policy.Session {
	return policy.Session{
		ID: r.ID, UserID: r.UserID, Epoch: r.Epoch, Method: policy.Method(r.Method), Factor: policy.Method(r.Factor), Address: r.Address, UserAgent: r.UserAgent,
		CreatedAt: at(r.CreatedAt), RotatedAt: at(r.RotatedAt), Idle: time.Duration(r.Idle) * time.Microsecond, EndsAt: at(r.EndsAt), Revision: r.Revision,
	}
}

func (r *sessionRow) stamped(revision int64) { r.Revision = revision }

// seenRow decides nothing but when an unused session ends: it is sealed, and what is put back from before ends it sooner.
type seenRow struct {
	bun.BaseModel `bun:"table:policy_session_seen,alias:seen"`

	SessionID string `bun:"session_id,pk"`
	Sealed    []byte `bun:"sealed"`
}

type linkRow struct {
	bun.BaseModel `bun:"table:policy_links,alias:l"`

	ID        string `bun:"id,pk"`
	Purpose   string `bun:"purpose"`
	UserID    string `bun:"user_id"`
	EndsAt    int64  `bun:"ends_at"`
	CreatedBy string `bun:"created_by"`
	CreatedAt int64  `bun:"created_at"`
	Revision  int64  `bun:"revision"`
}

func rowOfLink(l policy.Link) linkRow {
	return linkRow{
		ID: l.ID, Purpose: string(l.Purpose), UserID: l.UserID, EndsAt: micros(l.EndsAt), CreatedBy: l.CreatedBy, CreatedAt: micros(l.CreatedAt), Revision: l.Revision,
	}
}

func (r *linkRow) link() policy.Link {
	return policy.Link{
		ID: r.ID, Purpose: policy.Purpose(r.Purpose), UserID: r.UserID, EndsAt: at(r.EndsAt), CreatedBy: r.CreatedBy, CreatedAt: at(r.CreatedAt), Revision: r.Revision,
	}
}

func (r *linkRow) stamped(revision int64) { r.Revision = revision }

type passwordRow struct {
	bun.BaseModel `bun:"table:policy_passwords,alias:p"`

	UserID   string `bun:"user_id,pk"`
	Hash     []byte `bun:"hash"`
	SetAt    int64  `bun:"set_at"`
	Revision int64  `bun:"revision"`
}

func (r *passwordRow) stamped(revision int64) { r.Revision = revision }

type passkeyRow struct {
	bun.BaseModel `bun:"table:policy_passkeys,alias:p"`

	UserID     string `bun:"user_id,pk"`
	ID         string `bun:"id,pk"`
	Name       string `bun:"name"`
	Credential string `bun:"credential"`
	CreatedAt  int64  `bun:"created_at"`
	UsedAt     int64  `bun:"used_at"`
	IssuedAt   int64  `bun:"issued_at"`
	Revision   int64  `bun:"revision"`
}

// Group implements authentic.Grouped: an account's passkeys are read together.
func (*passkeyRow) Group() int { return 1 }

func rowOfPasskey(p policy.Passkey) passkeyRow {
	return passkeyRow{
		UserID: p.UserID, ID: p.ID, Name: p.Name, Credential: string(p.Credential), CreatedAt: micros(p.CreatedAt), UsedAt: micros(p.UsedAt), IssuedAt: micros(p.IssuedAt),
		Revision: p.Revision,
	}
}

func (r *passkeyRow) passkey() policy.Passkey {
	return policy.Passkey{
		UserID: r.UserID, ID: r.ID, Name: r.Name, Credential: []byte(r.Credential), CreatedAt: at(r.CreatedAt), UsedAt: at(r.UsedAt), IssuedAt: at(r.IssuedAt),
		Revision: r.Revision,
	}
}

func (r *passkeyRow) stamped(revision int64) { r.Revision = revision }

type requireRow struct {
	bun.BaseModel `bun:"table:policy_project_signin,alias:q"`

	Project  string `bun:"project,pk"`
	Require  string `bun:"require"`
	Revision int64  `bun:"revision"`
}

func (r *requireRow) stamped(revision int64) { r.Revision = revision }
