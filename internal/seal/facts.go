package seal

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/keyset"
)

// KeyFacts is what is known of one data key beside the key itself. Times are in microseconds since 1970, UTC; 0 is never.
type KeyFacts struct {
	ID         uint32 `json:"id"`
	MadeAt     int64  `json:"made"`
	SealsSince int64  `json:"since,omitempty"` // 0: it opens and does not seal yet
	SealsUntil int64  `json:"until,omitempty"` // 0: it seals still, or does not yet
}

// factList is a facts column.
type factList []KeyFacts

func firstFacts(h *keyset.Handle, now time.Time) factList {
	at := now.UnixMicro()
	return factList{{ID: h.KeysetInfo().GetPrimaryKeyId(), MadeAt: at, SealsSince: at}}
}

// readFacts reads a column. What is missing was made before there were facts: at made.
func readFacts(text string, h *keyset.Handle, made int64) factList {
	var list factList
	_ = json.Unmarshal([]byte(text), &list) // nothing secret rests on it: what cannot be read is as old as the keyset
	info := h.KeysetInfo()
	for _, k := range info.GetKeyInfo() {
		if slices.ContainsFunc(list, func(f KeyFacts) bool { return f.ID == k.GetKeyId() }) {
			continue
		}
		f := KeyFacts{ID: k.GetKeyId(), MadeAt: made, SealsSince: made}
		if f.ID != info.GetPrimaryKeyId() {
			f.SealsUntil = made
		}
		list = append(list, f)
	}
	return slices.DeleteFunc(list, func(f KeyFacts) bool {
		return !slices.ContainsFunc(info.GetKeyInfo(), func(k *keyInfo) bool { return k.GetKeyId() == f.ID })
	})
}

func (l factList) text() string {
	text, err := json.Marshal(l)
	if err != nil {
		return "" // numbers always have a form
	}
	return string(text)
}

// pending is the newest key that does not seal yet.
func (l factList) pending() (KeyFacts, bool) {
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].SealsSince == 0 {
			return l[i], true
		}
	}
	return KeyFacts{}, false
}

// promoted notes that id seals from now on, and the one before no more.
func (l factList) promoted(id uint32, now time.Time) {
	for i := range l {
		switch {
		case l[i].ID == id:
			l[i].SealsSince, l[i].SealsUntil = now.UnixMicro(), 0
		case l[i].SealsSince > 0 && l[i].SealsUntil == 0:
			l[i].SealsUntil = now.UnixMicro()
		}
	}
}

// SealsSince is when the oldest key that seals began to, of the installation's and all projects' keys in memory.
func (s *Sealer) SealsSince() time.Time {
	k := s.keys.Load()
	oldest := sealsSince(k.ring, k.stored.Facts, k.stored.CreatedAt)
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, p := range s.projects {
		if p.ring == nil {
			continue
		}
		if at := sealsSince(p.ring, p.stored.Facts, p.stored.CreatedAt); at < oldest {
			oldest = at
		}
	}
	return time.UnixMicro(oldest)
}

func sealsSince(r *ring, facts string, made int64) int64 {
	for _, f := range readFacts(facts, r.handle, made) {
		if f.ID == r.primary() {
			return f.SealsSince
		}
	}
	return made
}
