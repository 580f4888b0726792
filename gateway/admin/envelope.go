package admin

import (
	"context"
	"strconv"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// Changed is embedded in the answers of changes: the journal's revision, which a caller may demand from every replica by
// x-promptgate-min-revision.
type Changed struct {
	Revision string `header:"X-Promptgate-Revision" doc:"The journal's revision of this change"`
}

func changed(revision int64) Changed { return Changed{Revision: strconv.FormatInt(revision, 10)} }

// Paging is embedded in the inputs of lists.
type Paging struct {
	After string `query:"after" maxLength:"500" doc:"The next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

func (p Paging) page() registry.Page { return registry.Page{After: p.After, Limit: p.Limit} }

// Precondition is embedded in the inputs of edits.
type Precondition struct {
	IfMatch string `header:"If-Match" doc:"The ETag that was read; * for whatever it is now. Without it the edit is refused" example:"\"17\""`
}

// revision is the revision that the caller read. An edit that does not say is refused: it would undo somebody else's.
func (p Precondition) revision() (int64, error) {
	if p.IfMatch == "*" {
		return registry.AnyRevision, nil
	}
	n, err := strconv.ParseInt(strings.Trim(p.IfMatch, `"`), 10, 64)
	if err != nil || n <= 0 {
		return 0, fault.New(fault.PreconditionFailed,
			"Send the ETag that you read in If-Match, so that nobody's edit is lost, or If-Match: * to write whatever is there.").WithParam("If-Match")
	}
	return n, nil
}

func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// list never gives null where a caller expects an array.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// need asks for one more permission than the operation's own.
func (c *caller) need(ctx context.Context, want policy.Permission) error {
	ok, err := c.may(ctx, want)
	if err != nil || ok {
		return err
	}
	name := string(want.Action)
	if want.Name != "" {
		name += " on " + want.Name
	}
	return fault.New(fault.PermissionDenied, "This key lacks the permission %q; ask an admin of the project for it.", name)
}
