package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/limits"
	policystore "github.com/promptgate/promptgate/policy/sqlstore"
	"github.com/promptgate/promptgate/registry"
)

// route is a row of the authorization table: what an address asks for. Every route of the program has one; the requests are real.
//
// {prompt}, {label}, {call}, {key}, {provider}, {alias} and {limit} stand for objects; a row with one is tried with the project's own, a
// foreign and a made-up one. Bodies are such that an allowed request changes nothing: they lose a comparison, or break a rule that is
// looked at after the permission.
type route struct {
	method string
	path   string // as the router has it
	needs  string // "open", "key" (any valid one), or a permission of the matrix below
	ok     int    // status of an allowed request on the project's own object
	send   string // the address with its objects; "" is path
	body   string
}

// Refusals that only an allowed request reaches.
const (
	stale   = http.StatusPreconditionFailed
	lost    = http.StatusConflict
	invalid = http.StatusBadRequest
	nobody  = 0 // no principal of the matrix may
)

// aForm is what endpoints get that take files; its boundary is "b".
const aForm = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\necho\r\n--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nhi\r\n" +
	"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--b--\r\n"

// aFile is what uploads get.
const aFile = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nuser_data\r\n" +
	"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n"

// noBatch is a request for a batch of a file that cannot be.
const noBatch = `{"input_file_id":"none.","endpoint":"/v1/responses","completion_window":"24h"}`

var routes = []route{
	// The data plane.
	{"POST", "/v1/chat/completions", "call prompt@production", 200, "", `{"prompt":{"id":"{prompt}","label":"production"}}`},
	{"POST", "/v1/chat/completions", "call prompt@staging", nobody, "", `{"prompt":{"id":"{prompt}","label":"staging"}}`},
	{"POST", "/v1/chat/completions", "call prompt@@version", nobody, "", `{"prompt":{"id":"{prompt}","version":1}}`},
	{"POST", "/v1/chat/completions", "call model", 200, "", `{"model":"echo","messages":[{"role":"user","content":"hi"}]}`},
	{"POST", "/v1/prompts/*path", "call prompt@production", 200, "/v1/prompts/{prompt}/completions", `{"label":"production"}`},
	{"POST", "/v1/prompts/*path", "read prompt", 200, "/v1/prompts/{prompt}/render", `{}`},
	{"GET", "/v1/models", "key", 200, "", ""},
	{"GET", "/v1/models/*id", "key", http.StatusNotFound, "/v1/models/prompt/none", ""}, // of a name that there is not
	{"POST", "/openai/deployments/*path", "call model", 200, "/openai/deployments/echo/chat/completions", `{"messages":[{"role":"user","content":"hi"}]}`},
	{"POST", "/openai/v1/chat/completions", "call model", 200, "", `{"model":"echo","messages":[{"role":"user","content":"hi"}]}`},
	{"POST", "/v1/responses", "call prompt@production", 200, "", `{"prompt":{"id":"{prompt}"},"input":"hi"}`},
	{"POST", "/openai/v1/responses", "call model", 200, "", `{"model":"echo","input":"hi"}`},
	{"POST", "/v1/messages", "call prompt@production", 200, "", `{"prompt":{"id":"{prompt}"},"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`},
	{"POST", "/v1/messages", "call model", 200, "", `{"model":"echo","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`},
	{"POST", "/v1/messages/count_tokens", "call prompt@production", 200, "", `{"prompt":{"id":"{prompt}"},"messages":[{"role":"user","content":"hi"}]}`},
	{"POST", "/v1/messages/count_tokens", "call model", 200, "", `{"model":"echo","messages":[{"role":"user","content":"hi"}]}`},
	{"POST", "/v1/conversations", "call prompt@production", 200, "", `{"prompt":{"id":"{prompt}"}}`},
	{"POST", "/v1/conversations", "call model", 200, "", `{"model":"echo"}`},
	{"POST", "/openai/v1/conversations", "call model", 200, "", `{"model":"echo","metadata":{"k":"v"}}`},
	{"POST", "/v1/responses/input_tokens", "call prompt@production", 200, "", `{"prompt":{"id":"{prompt}"},"input":"hi"}`},
	{"POST", "/v1/responses/compact", "call model", 200, "", `{"model":"echo","input":"hi"}`},
	{"POST", "/openai/v1/responses/input_tokens", "call prompt@production", 200, "", `{"prompt":{"id":"{prompt}"},"input":"hi"}`},
	{"POST", "/openai/v1/responses/compact", "call model", 200, "", `{"model":"echo","input":"hi"}`},
	// What a provider keeps is its maker's: gateway's TestKeptIsTheCallers. To all others it is as these are, which cannot be.
	{"GET", "/v1/responses/:id", "key", http.StatusNotFound, "/v1/responses/none.", ""},
	{"GET", "/openai/v1/responses/:id", "key", http.StatusNotFound, "/openai/v1/responses/none.", ""},
	{"DELETE", "/v1/responses/:id", "key", http.StatusNotFound, "/v1/responses/none.", ""},
	{"DELETE", "/openai/v1/responses/:id", "key", http.StatusNotFound, "/openai/v1/responses/none.", ""},
	{"POST", "/v1/responses/:id/cancel", "key", http.StatusNotFound, "/v1/responses/none./cancel", ""},
	{"POST", "/openai/v1/responses/:id/cancel", "key", http.StatusNotFound, "/openai/v1/responses/none./cancel", ""},
	{"GET", "/v1/responses/:id/input_items", "key", http.StatusNotFound, "/v1/responses/none./input_items", ""},
	{"GET", "/openai/v1/responses/:id/input_items", "key", http.StatusNotFound, "/openai/v1/responses/none./input_items", ""},
	{"GET", "/v1/conversations/:id", "key", http.StatusNotFound, "/v1/conversations/none.", ""},
	{"GET", "/openai/v1/conversations/:id", "key", http.StatusNotFound, "/openai/v1/conversations/none.", ""},
	{"POST", "/v1/conversations/:id", "key", http.StatusNotFound, "/v1/conversations/none.", `{}`},
	{"POST", "/openai/v1/conversations/:id", "key", http.StatusNotFound, "/openai/v1/conversations/none.", `{}`},
	{"DELETE", "/v1/conversations/:id", "key", http.StatusNotFound, "/v1/conversations/none.", ""},
	{"DELETE", "/openai/v1/conversations/:id", "key", http.StatusNotFound, "/openai/v1/conversations/none.", ""},
	{"GET", "/v1/conversations/:id/items", "key", http.StatusNotFound, "/v1/conversations/none./items", ""},
	{"GET", "/openai/v1/conversations/:id/items", "key", http.StatusNotFound, "/openai/v1/conversations/none./items", ""},
	{"POST", "/v1/conversations/:id/items", "key", http.StatusNotFound, "/v1/conversations/none./items", `{}`},
	{"POST", "/openai/v1/conversations/:id/items", "key", http.StatusNotFound, "/openai/v1/conversations/none./items", `{}`},
	{"GET", "/v1/conversations/:id/items/:item", "key", http.StatusNotFound, "/v1/conversations/none./items/none", ""},
	{"GET", "/openai/v1/conversations/:id/items/:item", "key", http.StatusNotFound, "/openai/v1/conversations/none./items/none", ""},
	{"DELETE", "/v1/conversations/:id/items/:item", "key", http.StatusNotFound, "/v1/conversations/none./items/none", ""},
	{"DELETE", "/openai/v1/conversations/:id/items/:item", "key", http.StatusNotFound, "/openai/v1/conversations/none./items/none", ""},
	{"POST", "/v1/files", "call prompt@production", 200, "", aFile + "prompt/{prompt}\r\n--b--\r\n"},
	{"POST", "/v1/files", "call model", 200, "", aFile + "echo\r\n--b--\r\n"},
	{"POST", "/openai/v1/files", "call model", 200, "", aFile + "echo\r\n--b--\r\n"},
	{"GET", "/v1/files", "key", http.StatusNotImplemented, "", ""},
	{"GET", "/v1/files/:id", "key", http.StatusNotFound, "/v1/files/none.", ""},
	{"DELETE", "/v1/files/:id", "key", http.StatusNotFound, "/v1/files/none.", ""},
	{"GET", "/v1/files/:id/content", "key", http.StatusNotFound, "/v1/files/none./content", ""},
	{"POST", "/v1/batches", "key", invalid, "", noBatch},
	{"GET", "/v1/batches", "key", http.StatusNotImplemented, "", ""},
	{"GET", "/v1/batches/:id", "key", http.StatusNotFound, "/v1/batches/none.", ""},
	{"POST", "/v1/batches/:id/cancel", "key", http.StatusNotFound, "/v1/batches/none./cancel", ""},
	{"GET", "/openai/v1/files", "key", http.StatusNotImplemented, "", ""},
	{"GET", "/openai/v1/files/:id", "key", http.StatusNotFound, "/openai/v1/files/none.", ""},
	{"DELETE", "/openai/v1/files/:id", "key", http.StatusNotFound, "/openai/v1/files/none.", ""},
	{"GET", "/openai/v1/files/:id/content", "key", http.StatusNotFound, "/openai/v1/files/none./content", ""},
	{"POST", "/openai/v1/batches", "key", invalid, "", noBatch},
	{"GET", "/openai/v1/batches", "key", http.StatusNotImplemented, "", ""},
	{"GET", "/openai/v1/batches/:id", "key", http.StatusNotFound, "/openai/v1/batches/none.", ""},
	{"POST", "/openai/v1/batches/:id/cancel", "key", http.StatusNotFound, "/openai/v1/batches/none./cancel", ""},
	{"POST", "/v1/embeddings", "call model", 200, "", `{"model":"echo","input":"hi"}`},
	{"POST", "/v1/completions", "call model", 200, "", `{"model":"echo","prompt":"hi"}`},
	{"POST", "/v1/moderations", "call model", 200, "", `{"model":"echo","input":"hi"}`},
	{"POST", "/v1/images/generations", "call model", 200, "", `{"model":"echo","prompt":"hi"}`},
	{"POST", "/v1/images/edits", "call model", 200, "", aForm},
	{"POST", "/v1/images/variations", "call model", 200, "", aForm},
	{"POST", "/v1/audio/speech", "call model", 200, "", `{"model":"echo","input":"hi","response_format":"wav"}`},
	{"POST", "/v1/audio/transcriptions", "call model", 200, "", aForm},
	{"POST", "/v1/audio/translations", "call model", 200, "", aForm},
	{"POST", "/openai/v1/embeddings", "call model", 200, "", `{"model":"echo","input":"hi"}`},
	{"POST", "/openai/v1/completions", "call model", 200, "", `{"model":"echo","prompt":"hi"}`},
	{"POST", "/openai/v1/moderations", "call model", 200, "", `{"model":"echo","input":"hi"}`},
	{"POST", "/openai/v1/images/generations", "call model", 200, "", `{"model":"echo","prompt":"hi"}`},
	{"POST", "/openai/v1/images/edits", "call model", 200, "", aForm},
	{"POST", "/openai/v1/images/variations", "call model", 200, "", aForm},
	{"POST", "/openai/v1/audio/speech", "call model", 200, "", `{"model":"echo","input":"hi","response_format":"wav"}`},
	{"POST", "/openai/v1/audio/transcriptions", "call model", 200, "", aForm},
	{"POST", "/openai/v1/audio/translations", "call model", 200, "", aForm},
	{"POST", "/openai/deployments/*path", "call model", 200, "/openai/deployments/echo/embeddings", `{"input":"hi"}`},
	{"POST", "/openai/deployments/*path", "call model", 200, "/openai/deployments/echo/audio/transcriptions", aForm},
	{"GET", "/openai/v1/models", "key", 200, "", ""},
	{"GET", "/openai/v1/models/*id", "key", http.StatusNotFound, "/openai/v1/models/prompt/none", ""},
	{"POST", "/v1/feedback", "feedback call", 202, "", `{"call_id":"{call}","name":"helpful","value":true,"id":"once"}`},

	// Operations and the document.
	{"GET", "/livez", "open", 200, "", ""},
	{"GET", "/readyz", "open", 200, "", ""},
	{"HEAD", "/livez", "open", 200, "", ""},
	{"HEAD", "/readyz", "open", 200, "", ""},
	{"GET", "/metrics", "open", 200, "", ""},
	{"GET", "/openapi.json", "open", 200, "", ""},
	{"GET", "/openapi.yaml", "open", 200, "", ""},
	{"GET", "/openapi-3.0.json", "open", 200, "", ""},
	{"GET", "/openapi-3.0.yaml", "open", 200, "", ""},

	// Who, and which project.
	{"GET", "/api/v1/me", "key", 200, "", ""},
	{"GET", "/api/v1/project", "key", 200, "", ""},
	{"PATCH", "/api/v1/project", "manage_project system", stale, "", `{"description":"x"}`},
	{"GET", "/api/v1/projects", "key", 200, "", ""},
	{"POST", "/api/v1/projects", "create_project system", invalid, "", `{"name":"NO"}`},

	// Prompts, versions, labels. Lists show what a key may read.
	{"GET", "/api/v1/prompts", "key", 200, "", ""},
	{"POST", "/api/v1/prompts", "write new prompt", invalid, "", `{"name":"support/NO"}`},
	{"GET", "/api/v1/prompts/:prompt", "read prompt", 200, "", ""},
	{"PATCH", "/api/v1/prompts/:prompt", "write prompt", stale, "", `{"description":"x"}`},
	{"GET", "/api/v1/prompts/:prompt/versions", "read prompt", 200, "", ""},
	{"POST", "/api/v1/prompts/:prompt/versions", "write prompt", 200, "", `{"content":{"messages":[{"role":"user","content":"x"}]},"dry_run":true}`},
	{"GET", "/api/v1/prompts/:prompt/versions/:version", "read prompt", 200, "", ""},
	{"GET", "/api/v1/prompts/:prompt/diff", "read prompt", 200, "/api/v1/prompts/{prompt}/diff?from=1&to=1", ""},
	{"GET", "/api/v1/prompts/:prompt/labels", "read prompt", 200, "", ""},
	{"GET", "/api/v1/prompts/:prompt/labels/:label/history", "read prompt", 200, "", ""},
	{"PUT", "/api/v1/prompts/:prompt/labels/:label", "move_label prompt", lost, "", `{"version":1,"from":99}`},
	{"DELETE", "/api/v1/prompts/:prompt/labels/:label", "move_label prompt", lost, "/api/v1/prompts/{prompt}/labels/{label}?from=99", ""},
	{"POST", "/api/v1/prompts/:prompt/labels/:label/rollback", "move_label prompt", lost, "", `{"from":99}`},

	// Figures.
	{"GET", "/api/v1/prompts/:prompt/stats", "read prompt", 200, "", ""},
	{"GET", "/api/v1/prompts/:prompt/feedback", "read prompt", 200, "", ""},
	{"GET", "/api/v1/calls", "key", 200, "", ""},
	{"GET", "/api/v1/calls/:call", "read call", 200, "", ""},

	// What belongs to the project as a whole. {key} is revoked: revoking it again changes nothing.
	{"GET", "/api/v1/keys", "manage_keys system", 200, "", ""},
	{"POST", "/api/v1/keys", "manage_keys system", invalid, "", `{"name":""}`},
	{"GET", "/api/v1/keys/:key", "manage_keys system", 200, "", ""},
	{"PATCH", "/api/v1/keys/:key", "manage_keys system", lost, "", `{"name":"x"}`},
	{"DELETE", "/api/v1/keys/:key", "manage_keys system", 200, "", ""},
	{"GET", "/api/v1/me/keys", "person", 200, "", ""},
	{"POST", "/api/v1/me/keys", "person", invalid, "", `{"name":""}`},
	{"POST", "/api/v1/keys/:key/rotate", "manage_keys system", lost, "", `{}`},
	{"POST", "/api/v1/me/keys/:key/rotate", "person", http.StatusNotFound, "", `{}`}, // it is the project's
	{"DELETE", "/api/v1/me/keys/:key", "person", http.StatusNotFound, "", ""},        // it is the project's
	{"GET", "/api/v1/access/report", "see access", 200, "", ""},
	{"GET", "/api/v1/access/report.csv", "see access", 200, "", ""},
	{"GET", "/api/v1/access-reviews", "see access", 200, "", ""},
	{"POST", "/api/v1/access-reviews", "manage_users system", invalid, "", `{"name":" ","reviewers":["usr_none"],"deadline_at":"2027-01-01T00:00:00Z"}`},
	{"GET", "/api/v1/me/access-reviews", "person", 200, "", ""},
	{"GET", "/api/v1/access-reviews/:review", "see review", 200, "", ""},
	{"GET", "/api/v1/access-reviews/:review/lines", "see review", 200, "", ""},
	{"PATCH", "/api/v1/access-reviews/:review/lines/:line", "person", stale, "/api/v1/access-reviews/{review}/lines/1", `{"decision":"keep"}`},
	{"POST", "/api/v1/access-reviews/:review/close", "manage_users system", lost, "", ""},
	{"GET", "/api/v1/access-reviews/:review/evidence", "see review", 200, "", ""},
	{"GET", "/api/v1/access-reviews/:review/evidence.csv", "see review", 200, "", ""},
	{"POST", "/api/v1/access/explain", "key", 200, "", `{"action":"read"}`},

	// People. Accounts and groups are the installation's, who holds what is a project's. {service} has ended.
	{"GET", "/api/v1/users", "manage_accounts system", 200, "", ""},
	{"POST", "/api/v1/users", "manage_accounts system", invalid, "", `{"email":"none"}`},
	{"GET", "/api/v1/users/:user", "manage_accounts system", 200, "", ""},
	{"PATCH", "/api/v1/users/:user", "manage_accounts system", stale, "", `{"name":"x"}`},
	{"GET", "/api/v1/members", "manage_users system", 200, "", ""},
	{"GET", "/api/v1/groups", "list groups", 200, "", ""},
	{"POST", "/api/v1/groups", "manage_accounts system", invalid, "", `{"name":" "}`},
	{"GET", "/api/v1/groups/:group", "list groups", 200, "", ""},
	{"PATCH", "/api/v1/groups/:group", "manage_accounts system", stale, "", `{"description":"x"}`},
	{"DELETE", "/api/v1/groups/:group", "manage_accounts system", stale, "", ""},
	{"GET", "/api/v1/groups/:group/members", "list groups", 200, "", ""},
	{"PUT", "/api/v1/groups/:group/members/:user", "manage_accounts system", http.StatusNotFound, "/api/v1/groups/{group}/members/usr_none", ""},
	{"DELETE", "/api/v1/groups/:group/members/:user", "manage_accounts system", http.StatusNoContent, "/api/v1/groups/{group}/members/usr_none", ""},
	{"GET", "/api/v1/bindings", "manage_users system", 200, "", ""},
	{"POST", "/api/v1/bindings", "manage_users system", invalid, "", `{"subject":"key_1","role":"viewer"}`},
	{"GET", "/api/v1/bindings/:binding", "manage_users system", 200, "", ""},
	{"PATCH", "/api/v1/bindings/:binding", "manage_users system", stale, "", `{"reason":"x"}`},
	{"DELETE", "/api/v1/bindings/:binding", "manage_users system", http.StatusNotFound, "/api/v1/bindings/bnd_none", ""},
	{"GET", "/api/v1/roles", "manage_users system", 200, "", ""},
	{"PUT", "/api/v1/roles/:role", "manage_users system", invalid, "", `{"actions":["fly"]}`},
	{"DELETE", "/api/v1/roles/:role", "manage_users system", stale, "", ""},
	{"GET", "/api/v1/service-accounts", "manage_users system", 200, "", ""},
	{"POST", "/api/v1/service-accounts", "manage_users system", invalid, "", `{"name":" "}`},
	{"GET", "/api/v1/service-accounts/:service", "manage_users system", 200, "", ""},
	{"PATCH", "/api/v1/service-accounts/:service", "manage_users system", lost, "", `{"name":"x"}`},
	{"DELETE", "/api/v1/service-accounts/:service", "manage_users system", 200, "", ""},
	{"GET", "/api/v1/providers", "manage_project system", 200, "", ""},
	{"POST", "/api/v1/providers", "manage_project system", invalid, "", `{"name":"","kind":"echo"}`},
	{"GET", "/api/v1/providers/:provider", "manage_project system", 200, "", ""},
	{"PATCH", "/api/v1/providers/:provider", "manage_project system", stale, "", `{"enabled":true}`},
	{"DELETE", "/api/v1/providers/:provider", "manage_project system", lost, "", ""}, // an alias names it
	{"GET", "/api/v1/model-aliases", "manage_project system", 200, "", ""},
	{"PUT", "/api/v1/model-aliases/:alias", "manage_project system", invalid, "", `{"targets":[]}`},
	{"DELETE", "/api/v1/model-aliases/:alias", "manage_project system", stale, "", ""},
	{"GET", "/api/v1/limits", "manage_project system", 200, "", ""},
	{"POST", "/api/v1/limits", "manage_project system", invalid, "", `{"name":"x","measure":"usd","amount":1,"period":"minute","scope":"project"}`},
	{"GET", "/api/v1/limits/:limit", "manage_project system", 200, "", ""},
	{"PATCH", "/api/v1/limits/:limit", "manage_project system", stale, "", `{"amount":2}`},
	{"DELETE", "/api/v1/limits/:limit", "manage_project system", stale, "", ""},
	{"GET", "/api/v1/limits/:limit/usage", "manage_project system", 200, "", ""},
	{"POST", "/api/v1/limits/:limit/reset", "manage_project system", invalid, "", `{"subject":"key_none","why":"x"}`},
	{"GET", "/api/v1/me/limits", "key", 200, "", ""},
	{"GET", "/api/v1/events", "audit system", 200, "", ""},
	{"GET", "/api/v1/installation/events", "manage_accounts system", 200, "", ""},
	{"POST", "/api/v1/project/shred", "delete system", invalid, "", `{"name":"NO"}`},

	// What belongs to the installation.
	{"GET", "/api/v1/seal", "create_project system", 200, "", ""},
	{"POST", "/api/v1/seal/jobs", "create_project system", invalid, "", `{"kind":"none"}`},
	{"GET", "/api/v1/seal/jobs/:job", "create_project system", http.StatusNotFound, "/api/v1/seal/jobs/none", ""},
	{"GET", "/api/v1/scim-tokens", "manage_accounts system", 200, "", ""},
	{"POST", "/api/v1/scim-tokens", "manage_accounts system", invalid, "", `{"directory":"NO","domains":["example.com"]}`},
	{"DELETE", "/api/v1/scim-tokens/:scim_token", "manage_accounts system", http.StatusNotFound, "/api/v1/scim-tokens/scm_none", ""},

	{"GET", "/api/v1/identity-providers", "manage_accounts system", 200, "", ""},
	{"POST", "/api/v1/identity-providers", "manage_accounts system", invalid, "", `{"name":"x","issuer":"file:///etc/passwd","client_id":"x"}`},
	{"GET", "/api/v1/identity-providers/:identity_provider", "manage_accounts system", http.StatusNotFound, "/api/v1/identity-providers/idp_none", ""},
	{"PATCH", "/api/v1/identity-providers/:identity_provider", "manage_accounts system", http.StatusNotFound, "/api/v1/identity-providers/idp_none", `{"name":"x"}`},
	{"DELETE", "/api/v1/identity-providers/:identity_provider", "manage_accounts system", http.StatusNotFound, "/api/v1/identity-providers/idp_none", ""},
	{"POST", "/api/v1/identity-providers/:identity_provider/test", "manage_accounts system", http.StatusNotFound, "/api/v1/identity-providers/idp_none/test", ""},

	// What directories call, with a token of theirs and nothing else: the tests of SCIM say what it may touch.
	{"GET", "/scim/v2/ServiceProviderConfig", "scim", 200, "", ""},
	{"GET", "/scim/v2/Schemas", "scim", 200, "", ""},
	{"GET", "/scim/v2/Schemas/:id", "scim", http.StatusNotFound, "/scim/v2/Schemas/none", ""},
	{"GET", "/scim/v2/ResourceTypes", "scim", 200, "", ""},
	{"GET", "/scim/v2/ResourceTypes/:id", "scim", 200, "/scim/v2/ResourceTypes/User", ""},
	{"GET", "/scim/v2/Users", "scim", 200, "", ""},
	{"POST", "/scim/v2/Users", "scim", invalid, "", `{"schemas":[]}`},
	{"GET", "/scim/v2/Users/:id", "scim", http.StatusNotFound, "/scim/v2/Users/none", ""},
	{"PUT", "/scim/v2/Users/:id", "scim", invalid, "/scim/v2/Users/none", `{"schemas":[]}`},
	{"PATCH", "/scim/v2/Users/:id", "scim", invalid, "/scim/v2/Users/none", `{"schemas":[]}`},
	{"DELETE", "/scim/v2/Users/:id", "scim", http.StatusNotFound, "/scim/v2/Users/none", ""},
	{"GET", "/scim/v2/Groups", "scim", 200, "", ""},
	{"POST", "/scim/v2/Groups", "scim", invalid, "", `{"schemas":[]}`},
	{"GET", "/scim/v2/Groups/:id", "scim", http.StatusNotFound, "/scim/v2/Groups/none", ""},
	{"PUT", "/scim/v2/Groups/:id", "scim", invalid, "/scim/v2/Groups/none", `{"schemas":[]}`},
	{"PATCH", "/scim/v2/Groups/:id", "scim", invalid, "/scim/v2/Groups/none", `{"schemas":[]}`},
	{"DELETE", "/scim/v2/Groups/:id", "scim", http.StatusNotFound, "/scim/v2/Groups/none", ""},

	// Browsers. What needs a session is refused to every key; see signin_test.go for what sessions may do.
	{"GET", "/api/v1/me/sessions", "session", nobody, "", ""},
	{"DELETE", "/api/v1/me/sessions", "session", nobody, "", ""},
	{"DELETE", "/api/v1/me/sessions/:session", "session", nobody, "/api/v1/me/sessions/ses_none", ""},
	{"GET", "/api/v1/users/:user/sessions", "manage_accounts system", 200, "", ""},
	{"DELETE", "/api/v1/users/:user/sessions", "manage_accounts system", http.StatusNotFound, "/api/v1/users/usr_none/sessions", ""},
	{"DELETE", "/api/v1/users/:user/sessions/:session", "manage_accounts system", http.StatusNotFound, "/api/v1/users/usr_none/sessions/ses_none", ""},
	{"POST", "/api/v1/users/:user/reset", "manage_accounts system", http.StatusNotFound, "/api/v1/users/usr_none/reset", ""},
	{"POST", "/api/v1/invitations", "manage_users system", invalid, "", `{"email":"none","bindings":[{"role":"viewer"}]}`},
	{"GET", "/api/v1/sign-in-policy", "manage_project system", 200, "", ""},
	{"PUT", "/api/v1/sign-in-policy", "manage_project system", invalid, "", `{"require":"smoke"}`},

	// Pages. Who is not signed in is led to the first.
	{"GET", "/signin", "open", 200, "", ""},
	{"POST", "/signin", "open", http.StatusUnauthorized, "", ""},
	{"GET", "/signin/forgot", "open", http.StatusNotFound, "", ""},
	{"POST", "/signin/forgot", "open", http.StatusNotFound, "", ""},
	{"GET", "/signin/link/:token", "open", http.StatusNotFound, "/signin/link/none", ""},
	{"GET", "/signin/link", "open", http.StatusNotFound, "", ""},
	{"POST", "/signin/link", "open", http.StatusNotFound, "", ""},
	{"POST", "/signin/passkey/begin", "open", 200, "", ""},
	{"POST", "/signin/passkey/finish", "open", invalid, "", `{}`},
	{"GET", "/signin/sso/:provider", "open", http.StatusNotFound, "/signin/sso/idp_none", ""},
	{"GET", "/signin/sso/callback", "open", http.StatusForbidden, "", ""},
	{"POST", "/signin/sso/logout", "open", invalid, "", ""},
	{"GET", "/signin/assets/:file", "open", 200, "/signin/assets/style.css", ""},
	{"GET", "/account", "open", 200, "", ""},
	{"POST", "/account/password", "open", 200, "", ""},
	{"POST", "/account/passkeys/begin", "open", http.StatusUnauthorized, "", `{}`},
	{"POST", "/account/passkeys/finish", "open", http.StatusUnauthorized, "", `{}`},
	{"POST", "/account/passkeys/remove", "open", 200, "", ""},
	{"POST", "/account/sessions/end", "open", 200, "", ""},
	{"POST", "/account/sign-out", "open", 200, "", ""},
	{"POST", "/account/sign-out-everywhere", "open", 200, "", ""},
}

// matrix is what each kind of key may do, as MODEL's "Who may do what" has it. Calling is no role's: it is granted by prompt and label.
// The own prompt is support/triage, where the folder's editor works.
var matrix = map[string][]string{
	"no key":      nil,
	"wrong key":   nil,
	"revoked key": nil,
	"expired key": nil,

	"viewer": {"key", "read prompt", "read call", "feedback call"},
	"tester": {"key", "read prompt", "read call", "feedback call"},
	"editor": {"key", "read prompt", "read call", "feedback call", "write prompt", "write new prompt", "move_label prompt"},
	"admin": {"key", "read prompt", "read call", "feedback call", "write prompt", "write new prompt", "move_label prompt",
		"manage_keys system", "manage_users system", "see access", "see review", "list groups", "manage_project system", "audit system", "delete system"},
	"editor of support/**": {"key", "read prompt", "read call", "feedback call", "write prompt", "write new prompt", "move_label prompt"},

	"editor of finance/**": {"key"},
	"execute-only":         {"key", "call prompt@production", "feedback call"},
	"caller of models":     {"key", "call model"},
	"operator":             {"key", "create_project system", "manage_accounts system", "list groups"},
	"viewer's own key":     {"key", "person", "see review", "read prompt", "read call", "feedback call"},
	"key of a service":     {"key", "read prompt", "read call", "feedback call", "write prompt", "write new prompt", "move_label prompt"},
	"deactivated's key":    nil,
	"bearer of nothing":    {"key"},
	"directory":            {"scim"},
}

// strangers hold nothing on the own prompt: to them it is not there.
var strangers = []string{"editor of finance/**", "caller of models", "operator", "bearer of nothing"}

// people makes accounts, a group, a role, a binding and service accounts, and keys of theirs.
func (h *house) people(project string) {
	h.t.Helper()
	ctx, s := h.t.Context(), h.app.stores.keys
	system := &policy.Principal{ID: "test", Kind: policy.KindSystem, Project: project}
	keyOf := func(owner string) string {
		secret, _, err := h.app.stores.createKey(ctx, stage, project, admin.KeyCreate{Name: "of " + owner, Owner: owner, Inherits: true})
		require.NoError(h.t, err)
		return secret
	}
	bound := func(subject, role string) policy.Binding {
		b, err := s.Bind(ctx, stage, system, policy.Binding{Project: project, Subject: subject, Role: role})
		require.NoError(h.t, err)
		return b
	}
	for _, name := range []string{"viewer", "deactivated"} {
		u, err := s.CreateUser(ctx, stage, policy.User{Email: name + "@example.com", State: policy.UserActive})
		require.NoError(h.t, err)
		b := bound(u.ID, "viewer")
		h.keys[name+"'s own key"] = keyOf(u.ID)
		if name == "viewer" {
			h.own["user"], h.own["binding"] = u.ID, b.ID
			continue
		}
		h.keys["deactivated's key"] = h.keys[name+"'s own key"]
		delete(h.keys, name+"'s own key")
		u.State = policy.UserDeactivated
		_, err = s.UpdateUser(ctx, stage, u)
		require.NoError(h.t, err)
	}
	svc, err := s.CreateService(ctx, stage, policy.ServiceAccount{Project: project, Name: "editor"})
	require.NoError(h.t, err)
	bound(svc.ID, "editor")
	h.own["review"] = h.review(project, h.own["user"], svc.ID) // by the viewer
	h.keys["key of a service"] = keyOf(svc.ID)
}

// things makes what a project has of people.
func (h *house) things(project string, objects map[string]string) {
	h.t.Helper()
	ctx, s := h.t.Context(), h.app.stores.keys
	system := &policy.Principal{ID: "test", Kind: policy.KindSystem, Project: project}
	g, err := s.CreateGroup(ctx, stage, policy.PeopleGroup{Name: "group of " + objects["provider"]})
	require.NoError(h.t, err)
	b, err := s.Bind(ctx, stage, system, policy.Binding{Project: project, Subject: g.ID, Role: "viewer"})
	require.NoError(h.t, err)
	svc, err := s.CreateService(ctx, stage, policy.ServiceAccount{Project: project, Name: "ended"})
	require.NoError(h.t, err)
	_, err = s.EndService(ctx, stage, system, project, svc.ID)
	require.NoError(h.t, err)
	role := "role-of-" + objects["provider"][len("prov_"):][:8]
	_, err = s.PutRole(ctx, stage, system, policy.Role{Project: project, Name: role, Actions: []policy.Action{policy.ActionRead}})
	require.NoError(h.t, err)
	u, err := s.CreateUser(ctx, stage, policy.User{Email: "reviewer." + objects["provider"] + "@example.com", State: policy.UserActive})
	require.NoError(h.t, err)
	objects["review"] = h.review(project, u.ID, g.ID)
	objects["group"], objects["binding"], objects["service"], objects["role"] = g.ID, b.ID, svc.ID, role
}

// review begins an access review of what somebody holds.
func (h *house) review(project, reviewer, subject string) string {
	h.t.Helper()
	r, err := h.app.stores.keys.StartReview(h.t.Context(), stage, &policy.Principal{ID: "test", Kind: policy.KindSystem, Project: project}, policy.Review{
		Project: project, Name: "spring", Subjects: []string{subject}, Reviewers: []string{reviewer}, Deadline: time.Now().Add(time.Hour),
	})
	require.NoError(h.t, err)
	return r.ID
}

// house is a running program with two projects that hold the same things.
type house struct {
	t    *testing.T
	app  *App
	url  string
	keys map[string]string // by principal, in the own project

	own, foreign, none map[string]string // objects by placeholder
	foreignProject     string
}

var stage = journal.Origin{Actor: journal.Actor{Kind: policy.KindSystem, ID: "test", Name: "test"}}

func newHouse(t *testing.T, set ...func(*configs.Config)) *house {
	t.Helper()
	cfg := configs.Default()
	cfg.Addr, cfg.Data = "127.0.0.1:0", t.TempDir()
	cfg.Providers = []configs.Provider{{Name: "echo", Kind: "echo"}}
	for _, f := range set {
		f(&cfg)
	}
	require.NoError(t, cfg.Validate())
	a, err := newApp(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	a.start()
	t.Cleanup(a.stop)
	h := &house{t: t, app: a, url: "http://" + a.addr()}
	var ownProject string
	ownProject, h.own = h.project("own", "support/triage")
	h.foreignProject, h.foreign = h.project("foreign", "support/theirs")
	h.none = map[string]string{
		"prompt": "support/nothing", "id": "pmpt_00000000000000000000000000", "label": "production", "call": "call_" + strings.Repeat("0", 48),
		"binding": "bnd_aaaaaaaaaaaaaaaaaaaaaaaaaa", "service": "svc_aaaaaaaaaaaaaaaaaaaaaaaaaa", "role": "role-of-none", "group": "grp_none", "user": "usr_none",
		"key": "key_aaaaaaaaaaaaaaaa", "provider": "prov_aaaaaaaaaaaaaaaaaaaaaaaaaa", "alias": "nothing", "version": "1", "limit": "lim_aaaaaaaaaaaaaaaa", "review": "rvw_aaaaaaaaaaaaaaaaaaaaaaaaaa",
	}
	h.things(ownProject, h.own)
	h.things(h.foreignProject, h.foreign)
	h.foreign["user"] = "usr_none" // accounts are the installation's
	h.principals(ownProject)
	return h
}

// project makes one of everything and returns its id and the objects.
func (h *house) project(name, prompt string) (string, map[string]string) {
	h.t.Helper()
	ctx, s := h.t.Context(), h.app.stores
	p, err := s.service.CreateProject(ctx, stage, registry.ProjectInput{Name: name})
	require.NoError(h.t, err)
	first, err := admin.Content{Model: "echo", Messages: []admin.Message{{Role: "user", Text: "Hello from " + name}}}.Template()
	require.NoError(h.t, err)
	made, err := s.service.CreatePrompt(ctx, stage, registry.PromptInput{Project: p.ID, Name: prompt, First: &registry.FirstVersion{Content: first}})
	require.NoError(h.t, err)
	for _, label := range []string{"production", "staging"} {
		_, err = s.service.MoveLabel(ctx, stage, registry.LabelMove{Project: p.ID, PromptID: made.ID, Label: label, To: 1})
		require.NoError(h.t, err)
	}
	d, err := s.providers.CreateProvider(ctx, stage, provider.Definition{Project: p.ID, Name: name + "-echo", Kind: provider.ProviderEcho, Enabled: true})
	require.NoError(h.t, err)
	_, err = s.providers.PutAlias(ctx, stage, provider.Alias{Project: p.ID, Name: name + "-alias", Targets: []provider.AliasTarget{{Provider: d.Name, Model: "echo"}}})
	require.NoError(h.t, err)
	limit, err := s.limits.CreateLimit(ctx, stage, limits.Limit{
		Project: p.ID, Name: name + "-limit", Measure: limits.Tokens, Amount: 1_000_000, Period: limits.Month, Scope: limits.ScopeLabel, Subject: "nobodys",
	})
	require.NoError(h.t, err)
	_, revoked := h.key(p.ID, nil)
	_, err = s.keys.RevokeKey(ctx, stage, &policy.Principal{Kind: policy.KindSystem}, policy.Revocation{Project: p.ID, ID: revoked})
	require.NoError(h.t, err)
	caller, _ := h.key(p.ID, nil, policy.Grant{Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"**"}})
	answer := h.do(caller, "POST", "/v1/chat/completions", `{"prompt":{"id":"`+prompt+`","label":"production"}}`)
	require.Equal(h.t, 200, answer.status, answer.body)
	call := answer.header.Get("X-Promptgate-Call-Id")
	require.Eventually(h.t, func() bool {
		_, err := h.app.recording.Call(ctx, p.ID, call)
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
	return p.ID, map[string]string{
		"prompt": prompt, "id": made.ID, "label": "production", "call": call, "key": revoked, "provider": d.ID, "alias": name + "-alias", "version": "1", "limit": limit.ID,
	}
}

func (h *house) key(project string, roles []string, grants ...policy.Grant) (secret, id string) {
	h.t.Helper()
	secret, id, err := h.app.stores.createKey(h.t.Context(), stage, project, admin.KeyCreate{Name: "test", Roles: roles, Grants: grants})
	require.NoError(h.t, err)
	return secret, id
}

func (h *house) principals(project string) {
	h.t.Helper()
	h.keys = map[string]string{"no key": "", "wrong key": "pg_wrong"}
	for name, role := range map[string]string{
		"viewer": "viewer", "tester": "tester", "editor": "editor", "admin": "admin",
		"editor of support/**": "editor:support/**", "editor of finance/**": "editor:finance/**",
	} {
		h.keys[name], _ = h.key(project, []string{role})
	}
	h.keys["bearer of nothing"], _ = h.key(project, nil)
	h.keys["operator"], _ = h.key(project, nil, policy.OperatorGrant())
	h.keys["directory"] = h.directory("okta", "example.com")
	h.people(project)
	h.keys["caller of models"], _ = h.key(project, nil, policy.Grant{Actions: []policy.Action{policy.ActionCall}, Models: []string{"*"}})
	h.keys["execute-only"], _ = h.key(project, nil, policy.Grant{
		Actions: []policy.Action{policy.ActionCall, policy.ActionFeedback}, Prompts: []string{"support/**"}, Labels: []string{"production"},
	})
	secret, id := h.key(project, []string{"admin"})
	_, err := h.app.stores.keys.RevokeKey(h.t.Context(), stage, &policy.Principal{Kind: policy.KindSystem}, policy.Revocation{Project: project, ID: id})
	require.NoError(h.t, err)
	h.keys["revoked key"] = secret
	h.keys["expired key"] = h.expired(project)
	require.ElementsMatch(h.t, slices.Collect(maps.Keys(matrix)), slices.Collect(maps.Keys(h.keys)), "a row of the matrix for each principal")
}

// expired makes an admin's key two hours ago that was good for one.
func (h *house) expired(project string) string {
	s, past := h.app.stores, time.Now().Add(-2*time.Hour)
	issued, err := s.issuer()
	require.NoError(h.t, err)
	_, err = policystore.New(s.db, s.feed.Journal, func() time.Time { return past }).CreateKey(h.t.Context(), stage,
		&policy.Principal{Kind: policy.KindSystem, ID: "test", Project: project}, policy.KeyRecord{
			Project: project, Name: "expired", Roles: []string{"admin"}, Expires: past.Add(time.Hour),
			Lookup: issued.Lookup, Hash: issued.Hash, LastFour: issued.LastFour,
		})
	require.NoError(h.t, err)
	return issued.Plaintext
}

type seen struct {
	status int
	body   string
	header http.Header
}

func (h *house) do(key, method, path, body string) seen {
	h.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, h.url+path, in)
	require.NoError(h.t, err)
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if strings.HasPrefix(body, "--b\r\n") {
		req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	}
	removes := method == http.MethodDelete && !strings.Contains(path, "/members/") &&
		slices.ContainsFunc([]string{"model-aliases", "groups", "roles", "limits"}, func(noun string) bool { return strings.HasPrefix(path, "/api/v1/"+noun+"/") })
	if method == http.MethodPatch || removes {
		req.Header.Set("If-Match", `"999999"`) // never the newest
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(h.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(h.t, err)
	return seen{resp.StatusCode, string(b), resp.Header}
}

// try sends a row's request with these objects; byID names the prompt by its id.
func (h *house) try(r route, principal string, objects map[string]string, byID bool) seen {
	h.t.Helper()
	path, body := r.send, r.body
	if path == "" {
		path = r.path
		for name := range objects {
			path = strings.Replace(path, ":"+name, "{"+name+"}", 1)
		}
	}
	for name, object := range objects {
		if name == "prompt" && byID {
			object = objects["id"]
		}
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(object))
		body = strings.ReplaceAll(body, "{"+name+"}", object)
	}
	require.NotContains(h.t, path, ":", "an object without a value")
	return h.do(h.keys[principal], r.method, path, body)
}

func (r route) names(placeholder string) bool {
	return strings.Contains(r.path, ":"+placeholder) || strings.Contains(r.send+r.body, "{"+placeholder+"}")
}

// objects reports whether the row is about one thing that can be foreign.
func (r route) objects() bool {
	return slices.ContainsFunc([]string{"prompt", "call", "key", "provider", "alias", "binding", "service", "role", "limit", "review"}, r.names) && !strings.Contains(r.path, "/me/")
}

// refusal is what a principal without the permission is answered on the project's own object.
func (r route) refusal(principal string) int {
	switch {
	case strings.HasSuffix(principal, " key") && len(matrix[principal]) == 0, r.needs == "scim", principal == "directory":
		return http.StatusUnauthorized
	case r.needs == "read call": // a call that one may not see is not there
		return http.StatusNotFound
	case strings.HasSuffix(r.needs, "call") || strings.Contains(r.needs, " prompt") && !strings.Contains(r.needs, "new"):
		if slices.Contains(strangers, principal) {
			return http.StatusNotFound
		}
	}
	return http.StatusForbidden
}

// TestEveryRouteHasARow: a route that nobody thought about fails here.
func TestEveryRouteHasARow(t *testing.T) {
	h := newHouse(t)
	rows := map[string]bool{}
	for _, r := range routes {
		rows[r.method+" "+r.path] = true
	}
	served := map[string]bool{}
	for _, r := range h.app.server.Handler.(*gin.Engine).Routes() {
		at := r.Method + " " + r.Path
		served[at] = true
		require.True(t, rows[at], "%s has no row in the authorization table: say what it needs", at)
	}
	for at := range rows {
		require.True(t, served[at], "%s is in the authorization table but nothing serves it", at)
	}
}

// TestAuthorizationOnEveryPath sends every row's request as every principal, for its own and for a foreign project's objects.
func TestAuthorizationOnEveryPath(t *testing.T) {
	h := newHouse(t)
	requests := 0
	for _, r := range routes {
		t.Run(fmt.Sprintf("%s %s %s", r.method, r.path, r.needs), func(t *testing.T) {
			h.t = t
			for principal, may := range matrix {
				allowed := r.needs == "open" || slices.Contains(may, r.needs)
				want := r.refusal(principal)
				if allowed {
					want = r.ok
				}
				got := h.try(r, principal, h.own, false)
				requests++
				require.Equal(t, want, got.status, "%s: %s", principal, got.body)
				if operator := principal == "operator" && r.path == "/api/v1/projects"; r.needs != "open" && r.needs != "create_project system" && !operator { // which are outside every project
					require.NotContains(t, got.body, h.foreignProject, principal)
					require.NotContains(t, got.body, "theirs", "%s is shown a foreign prompt", principal)
				}
				if !r.objects() {
					continue
				}
				for _, byID := range []bool{false, true} {
					foreign, none := h.try(r, principal, h.foreign, byID), h.try(r, principal, h.none, byID)
					requests += 2
					h.alike(principal, r, spelled(foreign, h.foreign), spelled(none, h.none))
				}
			}
		})
	}
	require.Greater(t, requests, 1000)
}

// spelled takes the caller's own words out of an answer, and what differs between any two answers.
func spelled(a seen, sent map[string]string) seen {
	for _, name := range []string{"prompt", "id", "call", "key", "provider", "alias", "binding", "service", "role", "review"} {
		a.body = strings.ReplaceAll(a.body, sent[name], "<"+name+">")
	}
	if id := a.header.Get("X-Promptgate-Call-Id"); id != "" {
		a.body = strings.ReplaceAll(a.body, id, "<call>")
	}
	for _, name := range []string{"X-Promptgate-Call-Id", "X-Request-Id", "Request-Id", "Date", "Content-Length"} {
		a.header.Del(name)
	}
	return a
}

// alike demands that a foreign object is refused exactly as one that never was.
func (h *house) alike(principal string, r route, foreign, none seen) {
	h.t.Helper()
	if r.needs != "open" && (r.ok != invalid || foreign.status != invalid) { // refused for its body before anything is looked up
		require.Contains(h.t, []int{401, 403, 404}, foreign.status, "%s reached a foreign object: %s", principal, foreign.body)
	}
	require.Equal(h.t, none.status, foreign.status, principal)
	require.Equal(h.t, none.body, foreign.body, principal)
	require.Equal(h.t, none.header, foreign.header, principal)
}
