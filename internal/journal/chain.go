package journal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/seal"
)

// headRow is journal_head.
type headRow struct {
	bun.BaseModel `bun:"table:journal_head,alias:h"`

	ID       int64 `bun:",pk"`
	Revision int64
	Hash     []byte
}

// eventRow is one row of journal_events.
type eventRow struct {
	bun.BaseModel `bun:"table:journal_events,alias:e"`

	Revision     int64 `bun:",pk"`
	At           int64 // microseconds since 1970, UTC
	Project      string
	ActorKind    string
	ActorID      string
	ActorName    string
	Action       string
	Object       string
	Why          string
	FromAddr     string
	Touches      string // JSON
	BeforeCommit []byte // empty when there is no before
	AfterCommit  []byte
	Written      []byte // what became of rows: authentic.Encode
	PrevHash     []byte // empty for revision 1
	Hash         []byte
}

// payloadRow is one row of journal_payloads. Each side is empty when there is none or it was shredded, else a salt and the
// JSON, sealed together.
type payloadRow struct {
	bun.BaseModel `bun:"table:journal_payloads,alias:p"`

	Revision     int64 `bun:",pk"`
	Shredded     bool
	BeforeSealed []byte
	AfterSealed  []byte
}

// chain computes the links. They are keyed, so that somebody who can write to the database but has not the keys cannot build
// a consistent chain over altered rows.
type chain struct{ key []byte }

// hash is the link of a row: every column but the hash itself, each behind its length.
func (c chain) hash(r *eventRow) []byte {
	mac := hmac.New(sha256.New, c.key)
	field := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		mac.Write(n[:])
		mac.Write(b)
	}
	field([]byte("promptgate journal 2"))
	field(binary.BigEndian.AppendUint64(nil, uint64(r.Revision)))
	field(binary.BigEndian.AppendUint64(nil, uint64(r.At)))
	for _, s := range []string{
		r.Project, r.ActorKind, r.ActorID, r.ActorName, r.Action, r.Object, r.Why, r.FromAddr, r.Touches,
	} {
		field([]byte(s))
	}
	field(r.BeforeCommit)
	field(r.AfterCommit)
	field(r.Written)
	field(r.PrevHash)
	return mac.Sum(nil)
}

// newEventRow encodes ev; the revision, the links and the time are the head's to give.
func newEventRow(ev *Event) (*eventRow, error) {
	touches := ev.Touches
	if touches == nil {
		touches = []Touch{}
	}
	encoded, err := json.Marshal(touches)
	if err != nil {
		return nil, fmt.Errorf("journal: touches: %w", err)
	}
	return &eventRow{
		Project: clean(ev.Project), ActorKind: clean(ev.Origin.Actor.Kind), ActorID: clean(ev.Origin.Actor.ID),
		ActorName: clean(ev.Origin.Actor.Name), Action: clean(ev.Action), Object: clean(ev.Object),
		Why: clean(ev.Origin.Why), FromAddr: clean(ev.Origin.From), Touches: string(encoded),
		BeforeCommit: []byte{}, AfterCommit: []byte{}, Written: []byte{},
	}, nil
}

// clean makes s a string that both databases keep exactly as it is, or the hash would not match what comes back.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func (r *eventRow) change() (Change, error) {
	c := Change{
		Revision: r.Revision, At: time.UnixMicro(r.At).UTC(), Project: r.Project, Action: r.Action, Object: r.Object,
	}
	if err := json.Unmarshal([]byte(r.Touches), &c.Touches); err != nil {
		return Change{}, fmt.Errorf("journal: revision %d: touches: %w", r.Revision, err)
	}
	return c, nil
}

const saltSize = 32

// The two sides of a payload, as the commitments and bindings name them.
const (
	sideBefore = "before_sealed"
	sideAfter  = "after_sealed"
)

// place is where one side of a payload belongs.
func place(r *eventRow, side string) seal.Bind {
	return seal.Bind{Table: "journal_payloads", Row: strconv.FormatInt(r.Revision, 10), Column: side, Project: r.Project}
}

// commitment ties a chained row to a payload without telling it: the salt is secret and goes when the payload is shredded.
func commitment(salt, payload []byte, side string) []byte {
	mac := hmac.New(sha256.New, salt)
	mac.Write([]byte("promptgate journal " + side + "\x00"))
	mac.Write(payload)
	return mac.Sum(nil)
}

// salted encodes v behind a new salt and returns the commitment to it; both are empty when v is nil.
func salted(v any, side string) (plain, commit []byte, err error) {
	if v == nil {
		return []byte{}, []byte{}, nil
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		return nil, nil, fmt.Errorf("journal: %s: %w", side, err)
	}
	plain = make([]byte, saltSize, saltSize+len(encoded))
	if _, err := rand.Read(plain); err != nil {
		return nil, nil, fmt.Errorf("journal: salt: %w", err)
	}
	plain = append(plain, encoded...)
	return plain, commitment(plain[:saltSize], encoded, side), nil
}

// unsalt opens one side and checks it against its commitment.
func (j *Journal) unsalt(r *eventRow, sealed, commit []byte, side string) (json.RawMessage, error) {
	plain, err := j.sealer.Open(sealed, place(r, side))
	if err != nil {
		return nil, err
	}
	if len(plain) < saltSize || !hmac.Equal(commit, commitment(plain[:saltSize], plain[saltSize:], side)) {
		return nil, fmt.Errorf("journal: revision %d: %s does not match its commitment", r.Revision, side)
	}
	return plain[saltSize:], nil
}
