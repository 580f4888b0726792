// Package rest stands in for client-go's: rendering talks to no cluster.
package rest

// Config is never made.
type Config struct{}
