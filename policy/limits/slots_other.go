//go:build !linux

package limits

// mapFile: leases outlive no process here, and stay charged whole when one is killed.
func mapFile(string, int64) ([]byte, error) { return nil, nil }
