package keys

import "github.com/promptgate/promptgate/policy"

// Served lists the keys that are in memory, for the last-known-good file. The hashes are in it: seal it.
func (a *Authenticator) Served() []policy.KeyRecord {
	var out []policy.KeyRecord
	for _, e := range a.known.All() {
		out = append(out, e.record)
	}
	return out
}

// Preload remembers keys that an earlier process served, as if they had just been read. The feed must stand at the revision they were
// taken at: it then delivers every change since. A record that cannot be read is left out.
func (a *Authenticator) Preload(records []policy.KeyRecord) {
	for _, rec := range records {
		if e, err := newEntry(rec); err == nil {
			a.known.Put(rec.Lookup, e)
		}
	}
}
