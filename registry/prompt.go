// Package registry is the home of prompts: what they are, which versions they have, where their labels point, and the rules
// that hold between them. It knows no SQL and no HTTP; stores stand in the folders below it.
package registry

import (
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

// Kind of a prompt.
type Kind string

// The kinds: a chat prompt holds messages, a text prompt one text (one user message when it is called).
const (
	KindChat Kind = "chat"
	KindText Kind = "text"
)

// Project is the tenant that owns prompts, keys, providers and calls.
type Project struct {
	ID           string // "prj_…"
	Name         string // unique; [a-z0-9][a-z0-9_.-]*
	Description  string
	DefaultLabel string // what a call that names neither version nor label gets; "production" unless set
	CreatedAt    time.Time
	Revision     int64 // journal revision of the last edit; the ETag
}

// Prompt is the managed thing without its text, which lives in versions.
type Prompt struct {
	Archived bool // these two first: every call reads them, see Identified
	Project  string

	ID            string // "pmpt_…", stable over renames
	Name          string
	Kind          Kind
	Description   string
	Category      string
	Tags          []string // sorted, unique
	Owner         string
	LatestVersion int      // 0 before the first version
	Variables     []string // sorted names that any version declares: a call may send these, whichever version answers
	Aliases       []string // further handles
	CreatedAt     time.Time
	UpdatedAt     time.Time
	Revision      int64 // journal revision of the last edit of this row; the ETag
}

// Version is one immutable state of a prompt.
type Version struct {
	Project  string
	PromptID string
	Number   int    // ≥ 1, unique in the prompt; imports may leave gaps
	Digest   string // "sha256:<hex>" of Content in canonical form, see template.Content.Digest
	Content  template.Content
	Note     string // why it was made
	Author   string
	Parent   int // the version it was made from, 0 for none
	Created  time.Time
	Revision int64
}

// Verify refuses (Internal) content that is not what the digest names: it was altered where it is kept.
func (v Version) Verify() error {
	digest, err := v.Content.Digest()
	if err == nil && digest == v.Digest {
		return nil
	}
	return fault.Wrap(err, fault.Internal, "Version %d of %s is not what was saved: its digest is %q, its content's %q. "+
		"`promptgate audit verify` tells what else differs; restore it from a backup.", v.Number, v.PromptID, v.Digest, digest)
}

// LabelLatest is the implicit label of the newest version; it cannot be moved.
const LabelLatest = "latest"

// DefaultLabel is a project's default until it chooses another.
const DefaultLabel = "production"

// TargetKind is what a label points at. Another kind than a version is for releases that know it: this one serves nothing by it.
type TargetKind string

// TargetVersion is the zero value.
const TargetVersion TargetKind = ""

// Label points at a target: a version, until rollouts join.
type Label struct {
	Project  string
	PromptID string
	Name     string
	Target   TargetKind
	Version  int // of TargetVersion
	Moved    time.Time
	Revision int64 // of the last move: what a compare-and-set names
}

// LabelEvent is one move in a label's history.
type LabelEvent struct {
	Revision int64
	At       time.Time
	Label    string
	From, To int // 0: the label was not there, or was removed
	Actor    string
	Why      string
}

// MaxNameBytes bounds a prompt's name.
const MaxNameBytes = 200
