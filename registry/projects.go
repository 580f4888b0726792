package registry

import (
	"cmp"
	"context"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
)

// MaxWhyBytes bounds the reason that an Origin gives.
const MaxWhyBytes = 2 << 10

// editTries bounds how often an edit without a precondition is made again when somebody else was faster.
const editTries = 20

func checkOrigin(by journal.Origin) error { return checkText("why", by.Why, MaxWhyBytes) }

// Project finds a project by its id or its name.
func (s *Service) Project(ctx context.Context, idOrName string) (Project, error) {
	if strings.HasPrefix(idOrName, ProjectIDPrefix) {
		return s.store.ProjectByID(ctx, idOrName)
	}
	return s.store.ProjectByName(ctx, idOrName)
}

// Projects lists projects by name, and the cursor of the next page ("" when there is none).
func (s *Service) Projects(ctx context.Context, page Page) ([]Project, string, error) {
	return s.store.ListProjects(ctx, page)
}

// CreateProject makes a project; its name must be free.
func (s *Service) CreateProject(ctx context.Context, by journal.Origin, in ProjectInput) (Project, error) {
	p := Project{Name: in.Name, Description: in.Description, DefaultLabel: cmp.Or(in.DefaultLabel, DefaultLabel)}
	if err := normalizeProject(&p, by); err != nil {
		return Project{}, err
	}
	id, err := s.newID(ProjectIDPrefix)
	if err != nil {
		return Project{}, err
	}
	p.ID = id
	return s.store.CreateProject(ctx, by, p)
}

// UpdateProject changes a project.
func (s *Service) UpdateProject(ctx context.Context, by journal.Origin, u ProjectUpdate) (Project, error) {
	return withRevision(u.Revision, func() (Project, error) {
		p, err := s.store.ProjectByID(ctx, u.ID)
		if err != nil {
			return Project{}, err
		}
		if err := sameRevision(u.Revision, p.Revision); err != nil {
			return Project{}, err
		}
		before := p
		set(&p.Name, u.Name)
		set(&p.Description, u.Description)
		set(&p.DefaultLabel, u.DefaultLabel)
		if err := normalizeProject(&p, by); err != nil {
			return Project{}, err
		}
		if p == before {
			return p, nil
		}
		return s.store.UpdateProject(ctx, by, p)
	})
}

// normalizeProject checks a project's row and brings its text into its one form.
func normalizeProject(p *Project, by journal.Origin) error {
	if err := CheckProjectName(p.Name); err != nil {
		return err
	}
	if err := normalText("description", &p.Description, MaxDescriptionBytes); err != nil {
		return err
	}
	// A default of "latest" would send every unnamed call to unreviewed text: a label has to be chosen.
	if err := CheckLabel(p.DefaultLabel); err != nil {
		return invalid("default_label", "The default label must be a label that can be moved, such as %q.", DefaultLabel)
	}
	return checkOrigin(by)
}

// set copies *from to to unless from is nil.
func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// withRevision runs an edit: once when its author named a revision, and again on what others left when any will do. Some other edit
// succeeds each time one is lost.
func withRevision[T any](revision int64, edit func() (T, error)) (out T, err error) {
	if revision <= 0 && revision != AnyRevision {
		return out, invalid("if-match", "Say which revision you edited (If-Match), as the last read or write answered it.")
	}
	for try := 1; ; try++ {
		out, err = edit()
		switch {
		case revision != AnyRevision || !fault.Is(err, fault.PreconditionFailed):
			return out, err
		case try == editTries: // the author named no revision, so is not told that it was wrong
			return out, fault.Wrap(err, fault.Conflict, "Others keep changing this: try again.")
		}
	}
}

func sameRevision(expected, stored int64) error {
	if expected == AnyRevision || expected == stored {
		return nil
	}
	return fault.New(fault.PreconditionFailed, "It was changed since you read it: it is at revision %d, you edited revision %d."+
		" Read it again and repeat your edit.", stored, expected)
}
