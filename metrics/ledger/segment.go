package ledger

import (
	"errors"
	"io"
	"os"
)

// segmentFile is what the spool needs of an open segment; tests put failing ones in its place.
type segmentFile interface {
	io.Writer
	Truncate(size int64) error // takes away what was written behind size
	Sync() error
	Close() error
}

// createFunc makes the file of a segment that will take up to size bytes.
type createFunc func(path string, size int64) (segmentFile, error)

// createSegment is the createFunc of every day: a file that is written through memory where the system can do that, since a call of the
// system for each record is most of what recording costs.
func createSegment(path string, size int64) (segmentFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	switch m, err := mapSegment(f, size); {
	case err != nil:
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	case m != nil:
		return m, nil
	}
	return f, nil
}
