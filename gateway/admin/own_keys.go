package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// OwnKeyCreate makes a personal key. It may do what it is given and its owner may as well, and ends with its owner's membership.
type OwnKeyCreate struct {
	Name      string         `json:"name" minLength:"1" maxLength:"100"`
	Inherits  bool           `json:"inherits,omitempty" doc:"It may do all that you may, also what you are given later; roles and grants are then left out"`
	Roles     []string       `json:"roles,omitempty" maxItems:"20"`
	Grants    []policy.Grant `json:"grants,omitempty" maxItems:"100"`
	Networks  []string       `json:"networks,omitempty" maxItems:"100"`
	ExpiresAt *time.Time     `json:"expires_at,omitempty"`
}

type createOwnKeyInput struct {
	Credentials
	Body OwnKeyCreate
}

// ownKeys are the keys of whoever asks, in the project that it asks in. No right is needed: they may do nothing that their owner may not.
type ownKeys struct{ keys }

func (n ownKeys) routes(a *API) {
	handle(a, op{id: "list-own-keys", method: http.MethodGet, path: "/me/keys", person: true, tag: "keys", summary: "List your personal keys in this project"}, n.list)
	handle(a, op{id: "create-own-key", method: http.MethodPost, path: "/me/keys", person: true, tag: "keys", status: http.StatusCreated,
		summary: "Create a personal key; it is shown this once"}, n.create)
	handle(a, op{id: "rotate-own-key", method: http.MethodPost, path: "/me/keys/{key}/rotate", person: true, tag: "keys", status: http.StatusCreated,
		summary: "Make the successor of one of your personal keys, which is shown this once, and end the key after an overlap"}, n.rotate)
	handle(a, op{id: "revoke-own-key", method: http.MethodDelete, path: "/me/keys/{key}", person: true, tag: "keys", summary: "Revoke one of your personal keys for good"}, n.revoke)
}

// person is the account that asks, by its session or one of its keys.
func (c *caller) person() (string, error) {
	switch {
	case c.Kind == policy.KindUser:
		return c.ID, nil
	case c.Owner != nil && c.Owner.Kind == policy.KindUser:
		return c.Owner.ID, nil
	}
	return "", fault.New(fault.PermissionDenied, "This key belongs to no person, so it has no personal keys: sign in, or manage the project's keys at %s/keys.", Base)
}

func (n ownKeys) list(ctx context.Context, c *caller, in *listKeysInput) (*keyList, error) {
	me, err := c.person()
	if err != nil {
		return nil, err
	}
	found, next, err := n.store.ListKeys(ctx, c.Project, policy.Page{After: in.After, Limit: in.Limit, Owner: me})
	if err != nil {
		return nil, err
	}
	out := &keyList{}
	out.Body.Next = next
	out.Body.Keys, err = n.told(ctx, c.Project, found...)
	return out, err
}

func (n ownKeys) create(ctx context.Context, c *caller, in *createOwnKeyInput) (*keyCreatedAnswer, error) {
	me, err := c.person()
	if err != nil {
		return nil, err
	}
	b := in.Body
	return n.creates(ctx, c, KeyCreate{
		Name: b.Name, Owner: me, Inherits: b.Inherits, Roles: b.Roles, Grants: b.Grants, Networks: b.Networks, ExpiresAt: b.ExpiresAt,
	})
}

// owns refuses a key that is no personal key of the caller: of others' there is nothing to be seen.
func (n ownKeys) owns(ctx context.Context, c *caller, id string) error {
	me, err := c.person()
	if err != nil {
		return err
	}
	k, err := n.store.KeyByID(ctx, c.Project, id)
	if err == nil && k.Owner != me {
		err = fault.New(fault.NotFound, "There is no such API key.")
	}
	return err
}

func (n ownKeys) revoke(ctx context.Context, c *caller, in *KeyInput) (*keyAnswer, error) {
	if err := n.owns(ctx, c, in.ID); err != nil {
		return nil, err
	}
	owner := c.Principal
	if owner.Owner != nil { // its owner asks, by one of its keys
		owner = owner.Owner
	}
	k, err := n.store.RevokeKey(ctx, c.Origin, owner, policy.Revocation{Project: c.Project, ID: in.ID, Force: true})
	if err != nil {
		return nil, err
	}
	return n.answer(ctx, k)
}
