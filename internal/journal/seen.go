package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/promptgate/promptgate/internal/seal"
)

// Seen is the file beside the database in which a replica keeps the newest revision that it saw, so that it refuses the database as it was before. It
// also keeps what changed since Settled: what a snapshot from before must not serve. It is sealed.
type Seen struct {
	Anchor
	Since   int64  // Touches holds all since this revision
	Touches []Told // of the changes after Since
}

// Told is a touch and the change that it is of.
type Told struct {
	Touch
	Revision int64 `json:"r"`
}

const (
	seenName = "revision-seen"
	// maxSeenTouches bounds what is kept for a snapshot that is never written; past it, older snapshots are worthless.
	maxSeenTouches = 10_000
)

func seenBind() seal.Bind { return seal.Bind{Table: "file", Row: seenName} }

// ReadSeen reads what was seen here; nil when nothing was. An error means that the file was altered, or is another installation's.
func ReadSeen(dir string, s *seal.Sealer) (*Seen, error) {
	sealed, err := os.ReadFile(filepath.Join(dir, seenName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	plain, err := s.OpenFile(sealed, seenBind())
	if err != nil {
		return nil, fmt.Errorf("%s was altered, or the database is another one than was served here: if it was restored or replaced on purpose, run "+
			"`promptgate restore --accept`: %w", filepath.Join(dir, seenName), err)
	}
	seen := &Seen{}
	if err := json.Unmarshal(plain, seen); err != nil {
		return nil, fmt.Errorf("%s: %w", seenName, err)
	}
	return seen, nil
}

// WriteSeen puts what was seen in the file's place.
func WriteSeen(dir string, s *seal.Sealer, seen Seen) error {
	plain, err := json.Marshal(seen)
	if err != nil {
		return err
	}
	sealed, err := s.SealFile(plain, seenBind())
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+seenName+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(sealed)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, seenName))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// Keep writes what was seen since it was written last, when there is a place for it. Run does it after each poll; whoever does not run it, at the end.
func (j *Journal) Keep() error {
	if j.dir == "" {
		return nil
	}
	j.keeping.Lock()
	defer j.keeping.Unlock()
	at := j.rows.folded.Load()
	if at.revision <= j.kept.Revision {
		return nil
	}
	// Another process on the same folder may have seen more.
	if there, err := ReadSeen(j.dir, j.sealer); err == nil && there != nil && there.Revision >= at.revision {
		return nil
	}
	next := Seen{Anchor: Anchor{at.revision, hexOf(at.hash)}, Since: j.kept.Since}
	j.touchedMu.Lock()
	fresh := j.touched
	j.touched = nil
	j.touchedMu.Unlock()
	for _, t := range slices.Concat(j.kept.Touches, fresh) {
		if t.Revision > next.Since {
			next.Touches = append(next.Touches, t)
		}
	}
	if len(next.Touches) > maxSeenTouches {
		next.Since, next.Touches = at.revision, nil
	}
	if err := WriteSeen(j.dir, j.sealer, next); err != nil {
		j.touchedMu.Lock()
		j.touched = slices.Concat(fresh, j.touched)
		j.touchedMu.Unlock()
		return err
	}
	j.kept = next
	return nil
}

// Settled says that a snapshot of this revision is on the disk: what changed up to it need not be kept any more.
func (j *Journal) Settled(revision int64) {
	j.keeping.Lock()
	defer j.keeping.Unlock()
	if revision > j.kept.Since {
		j.kept.Since = revision
		j.kept.Touches = slices.DeleteFunc(slices.Clone(j.kept.Touches), func(t Told) bool { return t.Revision <= revision })
	}
}

// startKeeping begins at a revision whose changes nobody was told of here.
func (j *Journal) startKeeping(revision int64) {
	j.keeping.Lock()
	defer j.keeping.Unlock()
	if revision > j.kept.Revision {
		j.kept.Since, j.kept.Touches = revision, nil
	}
}

// noteTouches keeps what a change made stale for Keep.
func (j *Journal) noteTouches(c Change) {
	if j.dir == "" {
		return
	}
	j.touchedMu.Lock()
	defer j.touchedMu.Unlock()
	for _, t := range c.Touches {
		if len(j.touched) <= maxSeenTouches {
			j.touched = append(j.touched, Told{t, c.Revision})
		}
	}
}

// keepSeen is Keep for the loop: a failure is logged when it begins.
func (j *Journal) keepSeen() {
	err := j.Keep()
	if (err != nil) != j.keepFails {
		if j.keepFails = err != nil; err != nil {
			j.log.Error("the revision that was seen cannot be kept: a database from before would not be noticed at the next start", "error", err)
		}
	}
}
