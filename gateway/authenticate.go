package gateway

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// authenticate finds out who calls, gives the call its id, and waits for the registry's revision that the caller demands.
func (g *Gateway) authenticate(ctx context.Context, c *call) error {
	who, err := c.who, error(nil)
	known := who != nil // by Do's caller
	if !known {
		who, err = g.principal(ctx, c.req.Header)
	}
	if demanded := c.req.Header["X-Promptgate-Min-Revision"]; err == nil && len(demanded) > 0 {
		// Who calls may have changed by what is waited for.
		if err = g.catchUp(ctx, demanded[0]); err == nil && !known {
			who, err = g.principal(ctx, c.req.Header)
		}
	}
	if err != nil {
		who = nil
	} else {
		c.who, c.rec.Project, c.rec.Principal = who, who.Project, who.ID
	}
	id, idErr := g.deps.CallIDs.Mint(c.rec.Project, c.rec.Principal)
	if idErr != nil {
		c.who = nil
		return fault.Wrap(idErr, fault.Internal, internalMessage)
	}
	c.rec.ID = id
	return err
}

// principal is who a request comes from.
func (g *Gateway) principal(ctx context.Context, header http.Header) (*policy.Principal, error) {
	key, err := policy.Credential(header)
	if err != nil {
		return nil, err
	}
	if key == "" {
		return nil, fault.New(fault.InvalidAPIKey, "There is no API key in the request. Send it as \"Authorization: Bearer pg_…\".")
	}
	who, err := g.deps.Authenticator.Authenticate(ctx, key)
	if err != nil {
		return nil, err
	}
	if who == nil || who.Project == "" {
		return nil, fault.Wrap(errors.New("gateway: authenticator returned no principal"), fault.Internal, internalMessage)
	}
	return who, nil
}

// catchUp waits until this replica has seen the demanded revision.
func (g *Gateway) catchUp(ctx context.Context, demanded string) error {
	want, err := strconv.ParseInt(demanded, 10, 64)
	if err != nil || want < 0 {
		return fault.New(fault.InvalidRequest, "The header x-promptgate-min-revision must be a revision: a number that a change was answered with.").
			WithParam("x-promptgate-min-revision")
	}
	if g.deps.Feed.Revision() < want {
		wait, cancel := context.WithTimeout(ctx, g.opts.RevisionTimeout)
		defer cancel()
		if err := g.deps.Feed.Wait(wait, want); err != nil {
			return fault.Wrap(err, fault.RegistryUnavailable,
				"This replica has not seen revision %d yet. Try again shortly, or without x-promptgate-min-revision.", want)
		}
	}
	return nil
}
