//go:build !unix

package openai

// peeks: whether an idle connection is quiet cannot be told here, so that all requests go by the Transport.
const peeks = false

func (l *line) quiet() bool { return false }
