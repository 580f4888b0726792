// Package wire knows the bytes of the data plane: how a request's body is read once and edited by offsets, how a prompt is named,
// how streams are relayed and counted, and how errors look. It does no I/O and holds no state between requests.
package wire
