package admin

import (
	"encoding/base64"
	"net/url"
	"strconv"

	"github.com/promptgate/promptgate/internal/fault"
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

// Created is embedded in the answers of what makes something.
type Created struct {
	Location string `header:"Location" doc:"Where it stands now"`
}

func created(path ...string) Created {
	at := Base
	for _, p := range path {
		at += "/" + url.PathEscape(p)
	}
	return Created{Location: at}
}

// visible gathers a page of what sees lets through. The cursor stands behind an entry that is shown, and is there only when more can be
// shown: neither what a cursor holds nor that there is one may tell of what is hidden.
func visible[T any](limit int, read func(after string, limit int) ([]T, string, error), sees func(T) (bool, error),
	cursor func(T) string) (page []T, next string, err error) {
	const chunk = 200
	page = []T{}
	size := min(limit+1, chunk)
	for after := ""; ; size = chunk {
		found, more, err := read(after, size)
		if err != nil {
			return nil, "", err
		}
		for _, v := range found {
			ok, err := sees(v)
			switch {
			case err != nil:
				return nil, "", err
			case ok && len(page) == limit:
				return page, cursor(page[limit-1]), nil
			case ok:
				page = append(page, v)
			}
		}
		if more == "" {
			return page, "", nil
		}
		after = more
	}
}

// place is the cursor for an entry, and placed reads it back.
func place(entry string) string { return base64.RawURLEncoding.EncodeToString([]byte(entry)) }

func placed(cursor string) (string, error) {
	entry, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || !storable(string(entry)) {
		return "", wrongCursor()
	}
	return string(entry), nil
}

func wrongCursor() error {
	return fault.New(fault.InvalidRequest, "This cursor is not one that this list gave out: start again without it.").WithParam("after")
}

// Precondition is embedded in the inputs of edits.
type Precondition struct {
	IfMatch string `header:"If-Match" doc:"The ETag that was read; * for whatever it is now. Without it the edit is refused" example:"\"17\""`
}

func (Precondition) conditional() {}

// conditional reports whether an input has a precondition.
func conditional[I any]() bool {
	_, ok := any((*I)(nil)).(interface{ conditional() })
	return ok
}

// revision is the revision that the caller read. An edit that does not say is refused: it would undo somebody else's.
func (p Precondition) revision() (int64, error) {
	if p.IfMatch == "*" {
		return registry.AnyRevision, nil
	}
	n, err := revisionOf(p.IfMatch)
	if err != nil {
		return 0, fault.New(fault.PreconditionFailed,
			"Send the ETag that you read in If-Match, so that nobody's edit is lost, or If-Match: * to write whatever is there.").WithParam("If-Match")
	}
	return n, nil
}

// editTries bounds how often an edit of whatever is there is made again. Some other edit succeeds each time one is lost.
const editTries = 20

// edit runs an edit that reads a thing and writes it with the revision that it read, or with rev when that is more than 0. Whoever edits
// whatever is there, by If-Match: *, does not hear of others who came between: the edit is made again on what they left.
func edit[T any](p Precondition, write func(rev int64) (T, error)) (T, error) {
	rev, err := p.revision()
	if err != nil {
		var none T
		return none, err
	}
	for try := 1; ; try++ {
		v, err := write(rev)
		switch {
		case rev > 0 || !fault.Is(err, fault.PreconditionFailed):
			return v, err
		case try == editTries:
			return v, fault.Wrap(err, fault.Conflict, "Others keep changing this: try again.")
		}
	}
}

// Removal is embedded in the inputs of what removes things.
type Removal struct {
	IfMatch string `header:"If-Match" doc:"The ETag that was read: nothing is removed when it was changed since. Without it, whatever is there is removed" example:"\"17\""`
}

func (Removal) conditional() {}

// revision is the one that must be there, 0 for any.
func (r Removal) revision() (int64, error) {
	if r.IfMatch == "" || r.IfMatch == "*" {
		return 0, nil
	}
	n, err := revisionOf(r.IfMatch)
	if err != nil {
		return 0, fault.New(fault.PreconditionFailed, "If-Match is not an ETag of this API: send the one that you read, or none.").WithParam("If-Match")
	}
	return n, nil
}

// Replacement is embedded in the inputs of what makes or replaces a thing.
type Replacement struct {
	IfMatch string `header:"If-Match" doc:"The ETag that was read; without it the thing must be new" example:"\"17\""`
}

func (Replacement) conditional() {}

// revision is the one that must be there, 0 for none.
func (r Replacement) revision() (int64, error) {
	if r.IfMatch == "" {
		return 0, nil
	}
	return Precondition(r).revision()
}

// revisionOf reads an ETag, also without its quotes.
func revisionOf(tag string) (int64, error) {
	if len(tag) > 1 && tag[0] == '"' && tag[len(tag)-1] == '"' {
		tag = tag[1 : len(tag)-1]
	}
	n, err := strconv.ParseUint(tag, 10, 63)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return int64(n), err
}

func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// list never gives null where a caller expects an array.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
