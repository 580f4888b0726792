//go:build !unix

package upstream

import (
	"errors"
	"sync"
)

// peeks: whether an idle connection is quiet cannot be told here, so that all requests go by the Transport.
const peeks = false

type sending struct{}

func (l *line) send(*[]byte, *sync.Pool, bool) (int, error) { return 0, errors.ErrUnsupported }
