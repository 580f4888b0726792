package sqlstore

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/registry"
)

type projectRow struct {
	bun.BaseModel `bun:"table:registry_projects,alias:pr"`

	ID           string `bun:"id,pk"`
	Name         string `bun:"name"`
	Description  string `bun:"description"`
	DefaultLabel string `bun:"default_label"`
	CreatedAt    int64  `bun:"created_at"`
	Revision     int64  `bun:"revision"`
}

func (r projectRow) project() registry.Project {
	return registry.Project{
		ID: r.ID, Name: r.Name, Description: r.Description, DefaultLabel: r.DefaultLabel,
		CreatedAt: micros(r.CreatedAt), Revision: r.Revision,
	}
}

type promptRow struct {
	bun.BaseModel `bun:"table:registry_prompts,alias:p"`

	Project       string      `bun:"project,pk"`
	ID            string      `bun:"id,pk"`
	Name          string      `bun:"name"`
	Kind          string      `bun:"kind"`
	Description   string      `bun:"description"`
	Category      string      `bun:"category"`
	Tags          stringsJSON `bun:"tags"`
	Owner         string      `bun:"owner"`
	Archived      bool        `bun:"archived"`
	LatestVersion int         `bun:"latest_version"`
	Variables     stringsJSON `bun:"variables"`
	Aliases       stringsJSON `bun:"aliases"`
	Search        string      `bun:"search"`
	CreatedAt     int64       `bun:"created_at"`
	UpdatedAt     int64       `bun:"updated_at"`
	Revision      int64       `bun:"revision"`
}

// fill takes what an edit may set from p.
func (r *promptRow) fill(p registry.Prompt) {
	r.Name, r.Description, r.Category, r.Owner, r.Archived = p.Name, p.Description, p.Category, p.Owner, p.Archived
	r.Tags, r.Aliases = sorted(p.Tags), sorted(p.Aliases)
	r.Search = strings.ToLower(p.Name + "\n" + p.Description)
}

// declare adds the names that a version declares.
func (r *promptRow) declare(v *registry.Version) {
	names := slices.Clone([]string(r.Variables))
	for name := range v.Content.Variables {
		names = append(names, name)
	}
	r.Variables = sorted(names)
}

func (r promptRow) prompt() registry.Prompt {
	return registry.Prompt{
		ID: r.ID, Project: r.Project, Name: r.Name, Kind: registry.Kind(r.Kind), Description: r.Description, Category: r.Category,
		Tags: r.Tags, Owner: r.Owner, Archived: r.Archived, LatestVersion: r.LatestVersion, Variables: r.Variables,
		Aliases: r.Aliases, CreatedAt: micros(r.CreatedAt), UpdatedAt: micros(r.UpdatedAt), Revision: r.Revision,
	}
}

// What a handle is.
const (
	handleID      = "id"
	handleName    = "name"
	handleAlias   = "alias"
	handleRetired = "retired"
)

type handleRow struct {
	bun.BaseModel `bun:"table:registry_handles,alias:h"`

	Project  string `bun:"project,pk"`
	Handle   string `bun:"handle,pk"`
	PromptID string `bun:"prompt_id"`
	Kind     string `bun:"kind"`
}

type tagRow struct {
	bun.BaseModel `bun:"table:registry_tags,alias:t"`

	Project  string `bun:"project,pk"`
	Tag      string `bun:"tag,pk"`
	PromptID string `bun:"prompt_id,pk"`
}

const versionsTable = "registry_versions"

type versionRow struct {
	bun.BaseModel `bun:"table:registry_versions,alias:v"`

	Project   string `bun:"project,pk"`
	PromptID  string `bun:"prompt_id,pk"`
	Number    int    `bun:"number,pk"`
	Digest    string `bun:"digest"`
	Author    string `bun:"author"`
	Parent    int    `bun:"parent"`
	Content   []byte `bun:"content"` // sealed
	Note      []byte `bun:"note"`    // sealed
	CreatedAt int64  `bun:"created_at"`
	Revision  int64  `bun:"revision"`
}

// place is where a sealed column of this row belongs.
func (r *versionRow) place(column string) seal.Bind {
	return seal.Bind{Table: versionsTable, Row: r.PromptID + "\x00" + strconv.Itoa(r.Number), Column: column, Project: r.Project}
}

func (r *versionRow) seal(s *seal.Sealer, v *registry.Version) error {
	plain, err := json.Marshal(v.Content)
	if err != nil {
		return fault.Wrap(err, fault.InvalidTemplate, "A JSON field of this version is malformed.")
	}
	if r.Content, err = s.Seal(plain, r.place("content")); errors.Is(err, seal.ErrShredded) {
		return registry.ErrShredded()
	} else if err != nil {
		return err
	}
	r.Note, err = s.Seal([]byte(v.Note), r.place("note"))
	return err
}

func (r *versionRow) open(s *seal.Sealer) (registry.Version, error) {
	v := registry.Version{
		Project: r.Project, PromptID: r.PromptID, Number: r.Number, Digest: r.Digest, Author: r.Author, Parent: r.Parent,
		Created: micros(r.CreatedAt), Revision: r.Revision,
	}
	content, err := s.Open(r.Content, r.place("content"))
	if err != nil {
		return v, unreadable(err, r)
	}
	note, err := s.Open(r.Note, r.place("note"))
	if err != nil {
		return v, unreadable(err, r)
	}
	if err := json.Unmarshal(content, &v.Content); err != nil {
		return v, unreadable(err, r)
	}
	v.Note = string(note)
	return v, v.Verify()
}

// unreadable is a row that was altered or sealed by foreign keys: no absence, and trying again does not help.
func unreadable(err error, r *versionRow) error {
	if errors.Is(err, seal.ErrShredded) {
		return registry.ErrShredded()
	}
	return fault.Wrap(err, fault.Internal, "Version %d of this prompt cannot be read: restore it from a backup.", r.Number)
}

type labelRow struct {
	bun.BaseModel `bun:"table:registry_labels,alias:l"`

	Project  string `bun:"project,pk"`
	PromptID string `bun:"prompt_id,pk"`
	Name     string `bun:"name,pk"`
	Target   string `bun:"target_kind"` // registry.TargetKind
	Version  int    `bun:"version"`
	MovedAt  int64  `bun:"moved_at"`
	Revision int64  `bun:"revision"`
}

// Group implements authentic.Grouped: a prompt's labels are read together.
func (*labelRow) Group() int { return 2 }

func (r labelRow) label() registry.Label {
	return registry.Label{
		Project: r.Project, PromptID: r.PromptID, Name: r.Name, Target: registry.TargetKind(r.Target), Version: r.Version, Moved: micros(r.MovedAt), Revision: r.Revision,
	}
}

type labelEventRow struct {
	bun.BaseModel `bun:"table:registry_label_events,alias:e"`

	Project   string `bun:"project,pk"`
	PromptID  string `bun:"prompt_id,pk"`
	Revision  int64  `bun:"revision,pk"`
	Label     string `bun:"label,pk"`
	From      int    `bun:"from_version"`
	To        int    `bun:"to_version"`
	At        int64  `bun:"at"`
	ActorKind string `bun:"actor_kind"`
	ActorID   string `bun:"actor_id"`
	ActorName string `bun:"actor_name"`
	Why       string `bun:"why"`
}

func (r labelEventRow) event() registry.LabelEvent {
	actor := r.ActorName
	if actor == "" {
		actor = r.ActorID
	}
	return registry.LabelEvent{
		Revision: r.Revision, At: micros(r.At), Label: r.Label, From: r.From, To: r.To, Actor: actor, Why: r.Why,
	}
}

// stringsJSON is a list of strings in a text column; never nil after a read.
type stringsJSON []string

// sorted returns a sorted copy, once each, never nil.
func sorted(in []string) stringsJSON {
	out := make(stringsJSON, 0, len(in))
	out = append(out, in...)
	slices.Sort(out)
	return slices.Compact(out)
}

// Scan implements sql.Scanner.
func (s *stringsJSON) Scan(src any) error {
	var text []byte
	switch v := src.(type) {
	case string:
		text = []byte(v)
	case []byte:
		text = v
	default:
		return fmt.Errorf("sqlstore: a list of strings came as %T", src)
	}
	*s = stringsJSON{}
	return json.Unmarshal(text, (*[]string)(s))
}

// Value implements driver.Valuer.
func (s stringsJSON) Value() (driver.Value, error) {
	if s == nil {
		return "[]", nil
	}
	b, err := json.Marshal([]string(s))
	return string(b), err
}
