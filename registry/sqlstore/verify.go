package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
)

// Audit is what Verify found.
type Audit struct {
	Versions int64    // rows compared
	Labels   int64    // rows compared
	Shredded int64    // events that tell no more what they did: the prompts concerned are not compared
	Problems []string // the first maxProblems of them, each naming a prompt and what differs
	Found    int64    // how many there are
}

// OK reports whether the rows are what the journal says.
func (a *Audit) OK() bool { return a.Found == 0 }

const (
	maxProblems = 100
	auditPage   = 200
)

// The keys of what is compared.
type (
	promptKey  struct{ project, id string }
	versionKey struct {
		promptKey
		number int
	}
	labelKey struct {
		promptKey
		label string
	}
	moveKey struct {
		labelKey
		revision int64
	}
)

// move is where a label went.
type move struct{ from, to int }

// auditor holds what the journal says of the rows. It takes away what it meets: the rest is missing.
type auditor struct {
	s        *Store
	out      Audit
	names    map[promptKey]string
	versions map[versionKey]string // digests
	labels   map[labelKey]int      // 0: removed
	moves    map[moveKey]move
	skip     map[promptKey]bool // shredded, or changed while we read
	found    []finding
}

type finding struct {
	of   promptKey
	text string
}

// Verify compares versions, labels and their history with the events that made them, and each version's content with its digest. The
// journal must have been verified before. It may run beside a gateway: what changes meanwhile is left out. An error says that it could
// not be finished.
func (s *Store) Verify(ctx context.Context) (Audit, error) {
	a := &auditor{s: s, names: map[promptKey]string{}, versions: map[versionKey]string{}, labels: map[labelKey]int{},
		moves: map[moveKey]move{}, skip: map[promptKey]bool{}}
	last, err := s.journal.Each(ctx, 0, a.event)
	if err != nil {
		return Audit{}, err
	}
	for _, read := range []func(context.Context) error{a.readNames, a.readVersions, a.readLabels, a.readMoves} {
		if err := read(ctx); err != nil {
			return Audit{}, fmt.Errorf("registry: verify: %w", readFault(err, promptGone()))
		}
	}
	a.missing()
	// Rows and their events are committed together, so whatever was seen of a change has an event by now.
	if _, err := s.journal.Each(ctx, last, func(e journal.Entry) error {
		a.skip[promptOf(e)] = true
		return nil
	}); err != nil {
		return Audit{}, err
	}
	return a.report(), nil
}

func promptOf(e journal.Entry) promptKey {
	return promptKey{e.Project, e.Object[min(len(e.Object), len("prompt:")):]}
}

// event notes what an event says of rows.
func (a *auditor) event(e journal.Entry) error {
	key := promptOf(e)
	switch e.Action {
	case "prompt.create", "version.create", "label.move", "label.remove":
	default:
		return nil
	}
	if e.Shredded {
		a.skip[key] = true
		a.out.Shredded++
		return nil
	}
	var err error
	switch e.Action {
	case "prompt.create":
		var after struct{ Version *versionSummary }
		if err = json.Unmarshal(e.After, &after); err == nil && after.Version != nil {
			a.versions[versionKey{key, after.Version.Number}] = after.Version.Digest
		}
	case "version.create":
		var after versionSummary
		err = json.Unmarshal(e.After, &after)
		a.versions[versionKey{key, after.Number}] = after.Digest
	default:
		var before, after labelState
		if err = json.Unmarshal(e.Before, &before); err == nil {
			err = json.Unmarshal(e.After, &after)
		}
		at := labelKey{key, after.Label}
		a.labels[at] = after.Version
		a.moves[moveKey{at, e.Revision}] = move{before.Version, after.Version}
	}
	if err != nil {
		return fmt.Errorf("registry: event %d cannot be understood: %w", e.Revision, err)
	}
	return nil
}

func (a *auditor) readNames(ctx context.Context) error {
	var rows []promptRow
	err := a.s.db.NewSelect().Model(&rows).Column("project", "id", "name").Scan(ctx)
	for _, r := range rows {
		a.names[promptKey{r.Project, r.ID}] = r.Name
	}
	return err
}

func (a *auditor) readVersions(ctx context.Context) error {
	for last := (versionRow{}); ; {
		var rows []versionRow
		err := a.s.db.NewSelect().Model(&rows).Where("(project, prompt_id, number) > (?, ?, ?)", last.Project, last.PromptID, last.Number).
			Order("project", "prompt_id", "number").Limit(auditPage).Scan(ctx)
		if err != nil || len(rows) == 0 {
			return err
		}
		for i := range rows {
			a.version(&rows[i])
		}
		last = rows[len(rows)-1]
	}
}

func (a *auditor) version(r *versionRow) {
	a.out.Versions++
	key := versionKey{promptKey{r.Project, r.PromptID}, r.Number}
	digest, known := a.versions[key]
	delete(a.versions, key)
	switch {
	case !known:
		a.differs(key.promptKey, "version %d: no event of the journal made it", r.Number)
	case digest != r.Digest:
		a.differs(key.promptKey, "version %d: its digest is %q, the journal says %q", r.Number, r.Digest, digest)
	default:
		if _, err := r.open(a.s.sealer); fault.Is(err, fault.ProjectShredded) {
			a.skip[key.promptKey] = true
		} else if err != nil {
			a.differs(key.promptKey, "version %d: its content does not open, or is not what its digest says", r.Number)
		}
	}
}

func (a *auditor) readLabels(ctx context.Context) error {
	var rows []labelRow
	err := a.s.db.NewSelect().Model(&rows).Scan(ctx)
	for _, r := range rows {
		a.out.Labels++
		key := labelKey{promptKey{r.Project, r.PromptID}, r.Name}
		version := a.labels[key]
		delete(a.labels, key)
		switch {
		case r.Target != "": // registry.TargetVersion
			a.differs(key.promptKey, "label %q: points at a %s, which no label of this release can", r.Name, r.Target)
		case version == 0:
			a.differs(key.promptKey, "label %q: points at version %d, the journal says that it is not set", r.Name, r.Version)
		case version != r.Version:
			a.differs(key.promptKey, "label %q: points at version %d, the journal says %d", r.Name, r.Version, version)
		}
	}
	return err
}

func (a *auditor) readMoves(ctx context.Context) error {
	for last := (labelEventRow{}); ; {
		var rows []labelEventRow
		err := a.s.db.NewSelect().Model(&rows).
			Where("(project, prompt_id, revision, label) > (?, ?, ?, ?)", last.Project, last.PromptID, last.Revision, last.Label).
			Order("project", "prompt_id", "revision", "label").Limit(auditPage).Scan(ctx)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, r := range rows {
			key := moveKey{labelKey{promptKey{r.Project, r.PromptID}, r.Label}, r.Revision}
			if said, known := a.moves[key]; !known || said != (move{r.From, r.To}) {
				a.differs(key.promptKey, "label %q: its history says that revision %d moved it from %d to %d, the journal does not",
					r.Label, r.Revision, r.From, r.To)
			}
			delete(a.moves, key)
		}
		last = rows[len(rows)-1]
	}
}

// missing tells of what the journal says and no row does.
func (a *auditor) missing() {
	for key, digest := range a.versions {
		a.differs(key.promptKey, "version %d: is gone; the journal says that its digest is %q", key.number, digest)
	}
	for key, version := range a.labels {
		if version > 0 {
			a.differs(key.promptKey, "label %q: is gone; the journal says that it points at version %d", key.label, version)
		}
	}
	for key := range a.moves {
		a.differs(key.promptKey, "label %q: its history lacks revision %d", key.label, key.revision)
	}
}

func (a *auditor) differs(of promptKey, format string, args ...any) {
	a.found = append(a.found, finding{of, fmt.Sprintf(format, args...)})
}

// report leaves out what cannot be judged and names the rest.
func (a *auditor) report() Audit {
	lines := map[string]bool{}
	for _, f := range a.found {
		if a.skip[f.of] {
			continue
		}
		name := a.names[f.of]
		if name == "" {
			name = f.of.id
		}
		lines[fmt.Sprintf("%s (project %s), %s", name, f.of.project, f.text)] = true
	}
	a.out.Found = int64(len(lines))
	sorted := slices.Sorted(maps.Keys(lines))
	a.out.Problems = sorted[:min(len(sorted), maxProblems)]
	return a.out
}
