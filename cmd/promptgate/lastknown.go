package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/keys"
	"github.com/promptgate/promptgate/policy/limits"
	"github.com/promptgate/promptgate/policy/people"
	"github.com/promptgate/promptgate/registry"
)

const (
	lastKnownName  = "last-known-good"
	lastKnownEvery = 30 * time.Second // when something changed
	lastKnownAtMax = 5 * time.Minute  // when nothing did: it also says when all of it was last confirmed
)

// lastKnown is what this replica has served and the permissions that allowed it: enough to go on serving it when a start finds the
// database down. All of it is at least as new as Revision.
type lastKnown struct {
	Revision    int64                    `json:"revision"`
	ConfirmedAt time.Time                `json:"confirmed_at"`
	Registry    registry.Snapshot        `json:"registry"`
	Keys        []policy.KeyRecord       `json:"keys"`
	People      people.Snapshot          `json:"people"`
	Routes      []provider.ServedProject `json:"routes"`
	Limits      []limits.Rules           `json:"limits"`
}

// lastKnownHead is the file's first line. The data keys in it are sealed by the master key, the rest of the file by them.
type lastKnownHead struct {
	Format int             `json:"promptgate_last_known_good"`
	Keys   json.RawMessage `json:"keys"`
}

func lastKnownBind() seal.Bind { return seal.Bind{Table: "file", Row: lastKnownName} }

// keeper writes the file.
type keeper struct {
	path     string
	sealer   *seal.Sealer
	feed     *feed
	resolver *registry.Resolver
	authn    *keys.Authenticator
	people   *people.Directory
	routes   *provider.Routes
	limits   *limits.Enforcer
	log      *slog.Logger

	written time.Time
	what    [8]int64 // what the file holds, in numbers: a cheap way to see that something changed
}

// run writes now and then until ctx is done, and a last time then. Failing to is logged and no reason to stop serving.
func (k *keeper) run(ctx context.Context) error {
	tick := time.NewTicker(lastKnownEvery)
	defer tick.Stop()
	failing := false
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case <-tick.C:
		}
		err := k.save(time.Now())
		if err != nil && !failing {
			k.log.Error("the last-known-good file cannot be written: a start without the database would serve nothing", "error", err)
		}
		failing = err != nil
	}
	return nil
}

func (k *keeper) save(now time.Time) error {
	l := lastKnown{Revision: k.feed.Revision(), ConfirmedAt: k.feed.ConfirmedAt()}
	l.Registry = k.resolver.Served()
	l.Registry.Revision = l.Revision // read before the rest: what changed meanwhile is delivered again after a start
	l.Keys, l.People, l.Routes, l.Limits = k.authn.Served(), k.people.Served(), k.routes.Served(), k.limits.Served()
	r := l.Registry
	what := [8]int64{
		l.Revision, int64(len(r.Handles)), int64(len(r.Labels)), int64(len(r.Versions)), int64(len(l.Keys)), int64(len(l.Routes)), int64(l.People.Len()),
		int64(len(l.Limits)),
	}
	if l.ConfirmedAt.IsZero() || what == k.what && now.Sub(k.written) < lastKnownAtMax {
		return nil
	}
	head := lastKnownHead{Format: 1}
	var err error
	if head.Keys, err = k.sealer.Export(); err != nil {
		return err
	}
	first, err := json.Marshal(head)
	if err != nil {
		return err
	}
	plain, err := json.Marshal(l)
	if err != nil {
		return err
	}
	sealed, err := k.sealer.Seal(plain, lastKnownBind())
	if err != nil {
		return err
	}
	if err := writeFileWhole(k.path, append(append(first, '\n'), sealed...)); err != nil {
		return err
	}
	k.what, k.written = what, now
	k.feed.Settled(l.Revision)
	return nil
}

// readLastKnown opens the file with the master key; the Sealer in it serves until the database answers. fs.ErrNotExist when there is none.
func readLastKnown(dir string, open func(exported []byte) (*seal.Sealer, error)) (*lastKnown, *seal.Sealer, error) {
	text, err := os.ReadFile(filepath.Join(dir, lastKnownName))
	if err != nil {
		return nil, nil, err
	}
	first, sealed, _ := bytes.Cut(text, []byte("\n"))
	var head lastKnownHead
	if err := json.Unmarshal(first, &head); err != nil || head.Format != 1 {
		return nil, nil, fmt.Errorf("%s: was not written by this version of promptgate", lastKnownName)
	}
	sealer, err := open(head.Keys)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", lastKnownName, err)
	}
	plain, err := sealer.Open(sealed, lastKnownBind())
	if err != nil {
		return nil, nil, fmt.Errorf("%s: was altered: %w", lastKnownName, err)
	}
	l := &lastKnown{}
	if err := json.Unmarshal(plain, l); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", lastKnownName, err)
	}
	return l, sealer, nil
}

// forgetSince ends what of a file of this revision was changed afterwards, as far as this replica had seen.
func (s *stores) forgetSince(revision int64) {
	if s.seen == nil || s.seen.Revision <= revision {
		return
	}
	c := journal.Change{Revision: s.seen.Revision}
	for _, t := range s.seen.Touches {
		if t.Revision > revision {
			c.Touches = append(c.Touches, t.Touch)
		}
	}
	s.feed.hint(c)
}

// explainMissing says why a start without the database is not possible.
func explainMissing(down, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the database cannot be reached, and there is no %s file to serve from: %w", lastKnownName, down)
	}
	return fmt.Errorf("the database cannot be reached (%w), and what was served last cannot be used: %w", down, err)
}
