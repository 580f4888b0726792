package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry"
)

// Files live at a provider under a credential that callers share. A request may refer to the caller's own, and to those that its prompt's version names. An id
// that nobody got through us passes only to a provider that the project itself added: there the files are the project's, whoever uploaded them.

const (
	maxStrangers  = 10_000
	strangerTTL   = time.Minute // how long an id that the ledger did not know is not looked up again
	maxReferences = 1000        // files in one request
)

func newStrangers() (*otter.Cache[storedKey, time.Time], error) {
	return otter.New(&otter.Options[storedKey, time.Time]{MaximumSize: maxStrangers})
}

// checkFiles leaves, of the targets, those that may see every file that a request refers to. It does nothing for a request that refers to none.
func (g *Gateway) checkFiles(ctx context.Context, c *call) (err error) {
	ids := c.in.body.FileIDs(c.out.edits)
	if len(ids) == 0 {
		return nil
	}
	c.out.targets, err = g.mayUse(ctx, c, c.ref.resolved, ids, c.out.targets)
	return err
}

// mayUse are the targets, of some, that may see the files of a request; a fault when there is none. r is the version whose own files are among them, or nil.
func (g *Gateway) mayUse(ctx context.Context, c *call, r *registry.Resolved, ids []string, targets []provider.Target) ([]provider.Target, error) {
	if len(ids) > maxReferences {
		return nil, fault.New(fault.InvalidRequest, "The request refers to more than %d files.", maxReferences).WithParam(fileID)
	}
	slices.Sort(ids)
	var authored []byte
	for _, id := range slices.Compact(ids) {
		own := slices.DeleteFunc(slices.Clone(targets), func(t provider.Target) bool { return t.Shared })
		by, known, err := g.fileBy(ctx, c.who.Project, id, len(own) > 0)
		if err != nil {
			return nil, err
		}
		if authored == nil && r != nil {
			if authored, err = json.Marshal(r.Template.Content()); err != nil {
				return nil, fault.Wrap(err, fault.Internal, internalMessage)
			}
		}
		switch {
		case known && by.principal != c.who.ID && (!plainID(id) || !bytes.Contains(authored, []byte(`"`+id+`"`))):
			return nil, foreignFile(id)
		case known:
			targets = slices.DeleteFunc(slices.Clone(targets), func(t provider.Target) bool { return t.Provider.Name() != by.provider })
			if len(targets) == 0 {
				return nil, fault.New(fault.StatefulReferenceRefused, "The file %.64q is kept by the provider %q, which does not serve the model: use a model that it serves.",
					id, by.provider).WithParam(fileID)
			}
		case len(own) == 0:
			return nil, foreignFile(id)
		default:
			targets = own
		}
	}
	return targets, nil
}

const fileID = "file_id"

func foreignFile(id string) error {
	return fault.New(fault.StatefulReferenceRefused,
		"The request refers to %.64q, which this key has not uploaded here: upload it by POST /v1/files. Files that were uploaded elsewhere can be named where the project has the provider added for itself.", id).
		WithParam(fileID)
}

// fileBy finds whose a file is. hasty does not wait for a record that may be on its way from another replica, and does not look twice.
func (g *Gateway) fileBy(ctx context.Context, project, id string, hasty bool) (by storedBy, known bool, err error) {
	if !hasty || g.deps.Calls == nil {
		return g.storedBy(ctx, project, id)
	}
	key := storedKey{project, id}
	if by, known = g.stored.GetIfPresent(key); known {
		return by, true, nil
	}
	if looked, stranger := g.strangers.GetIfPresent(key); stranger && g.deps.Clock().Sub(looked) < strangerTTL {
		return by, false, nil
	}
	call, err := g.deps.Calls.FindCall(ctx, project, "", id)
	switch {
	case fault.Is(err, fault.CallNotFound):
		g.strangers.Set(key, g.deps.Clock())
		return by, false, nil
	case fault.Is(err, fault.Conflict): // it names two calls, and so nobody's file for sure
		return by, true, nil
	case err != nil:
		return by, false, err
	}
	by = storedByOf(&call)
	g.stored.SetIfAbsent(key, by)
	return by, true, nil
}

// identifyForm is identify for a form that makes something kept. What it names says who serves it.
func (g *Gateway) identifyForm(ctx context.Context, c *call, api wire.Passed) error {
	if err := c.scanPassed(api); err != nil {
		return err
	}
	if _, files := api.(wire.Files); files && c.in.body.Text("purpose") == purposeBatch {
		if err := g.beginLines(ctx, c); err != nil {
			return err
		}
	}
	return g.identifyPrompt(ctx, c)
}

// formFields are what of a form says who serves it: it goes no further.
func (c *call) formFields() (names []string) {
	for _, e := range c.out.edits {
		if e.Value == nil {
			names = append(names, e.Name)
		}
	}
	return names
}
