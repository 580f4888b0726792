package policy

import (
	"context"

	"github.com/promptgate/promptgate/internal/journal"
)

// PeopleStore keeps accounts, groups, roles, bindings and service accounts. Every write goes through journal.Change and touches what caches of it hold.
// manager is who asks for a change: it must hold what it gives or takes away (PermissionDenied); the system may do anything. Writes of something that
// exists take the revision that it was read at (else PreconditionFailed). What takes something away returns the journal revision of that, 0 when there was
// nothing to do. What is not there, or of another project, is NotFound. Every implementation
// runs policytest.PeopleStore.
type PeopleStore interface {
	People
	Users
	Groups
	Bindings
	Roles
	Services
}

// Users keeps accounts. Who may ask is the caller's to judge: accounts lie outside every project.
type Users interface {
	// CreateUser stores u, whose ID, State (invited unless it is set), CreatedBy, CreatedAt and Revision it sets. An address that has an account is a Conflict.
	CreateUser(ctx context.Context, by journal.Origin, u User) (User, error)
	UserByEmail(ctx context.Context, email string) (User, error)
	ListUsers(ctx context.Context, f UserFilter, page Page) (users []User, next string, err error)
	// UpdateUser writes e-mail, name, state, operator, break glass and external id. Deactivating ends its sessions and keys; a change of what it may do or
	// of its address ends its sessions. The last operator, and the last admin of a project, stay (Conflict).
	UpdateUser(ctx context.Context, by journal.Origin, u User) (User, error)
	// EndSessions makes the account's sessions void, all of them.
	EndSessions(ctx context.Context, by journal.Origin, id string) (User, error)
}

// UserFilter narrows a list of accounts; its zero value is all.
type UserFilter struct {
	State    UserState
	Project  string // members of it, by a binding of their own or of a group
	Group    string
	External string
	Contains string // in the address or name, letters of either case
}

// Groups keeps groups and who is in them.
type Groups interface {
	CreateGroup(ctx context.Context, by journal.Origin, g PeopleGroup) (PeopleGroup, error)
	GroupByID(ctx context.Context, id string) (PeopleGroup, error)
	GroupByName(ctx context.Context, name string) (PeopleGroup, error)
	ListGroups(ctx context.Context, page Page) (groups []PeopleGroup, next string, err error)
	UpdateGroup(ctx context.Context, by journal.Origin, g PeopleGroup) (PeopleGroup, error)
	// DeleteGroup takes the group, who is in it and what it holds away. The last admin of a project stays (Conflict).
	DeleteGroup(ctx context.Context, by journal.Origin, id string, revision int64) (at int64, err error)
	// Join puts users into a group and Leave takes them out, both of one source; who is there already, or not there, is no error. The sessions of who
	// joins or leaves are renewed by its next request.
	Join(ctx context.Context, by journal.Origin, group string, source MemberSource, users ...string) (at int64, err error)
	Leave(ctx context.Context, by journal.Origin, group string, users ...string) (at int64, err error)
	MembersOf(ctx context.Context, group string, page Page) (members []GroupMember, next string, err error)
}

// Bindings keeps who holds which role.
type Bindings interface {
	// Bind stores b, whose ID, GrantedBy, GrantedAt and Revision it sets. granter must hold all of it, see DelegateBindings.
	Bind(ctx context.Context, by journal.Origin, granter *Principal, b Binding) (Binding, error)
	BindingByID(ctx context.Context, project, id string) (Binding, error)
	// ListBindings are a project's, in the order of subject and id; of one subject when it is given.
	ListBindings(ctx context.Context, project, subject string, page Page) (bindings []Binding, next string, err error)
	// UpdateBinding writes role, effect, patterns, expiry and reason. manager must govern what it is and hold what it becomes.
	UpdateBinding(ctx context.Context, by journal.Origin, manager *Principal, b Binding) (Binding, error)
	// Unbind takes a binding away. The project's last admin stays (Conflict) unless force.
	Unbind(ctx context.Context, by journal.Origin, manager *Principal, project, id string, force bool) (at int64, err error)
	// ProjectsOf are the projects that a user, group or service account has bindings in, those of a user's groups as well.
	ProjectsOf(ctx context.Context, subject string) ([]string, error)
}

// Roles keeps the projects' own roles.
type Roles interface {
	// PutRole makes a role (Revision 0; one that is there is a Conflict) or changes it. manager must hold what it gives, before and after.
	PutRole(ctx context.Context, by journal.Origin, manager *Principal, r Role) (Role, error)
	ListRoles(ctx context.Context, project string) ([]Role, error)
	// DeleteRole takes a role away that nobody holds (else Conflict).
	DeleteRole(ctx context.Context, by journal.Origin, manager *Principal, project, name string, revision int64) (at int64, err error)
}

// Services keeps service accounts.
type Services interface {
	CreateService(ctx context.Context, by journal.Origin, s ServiceAccount) (ServiceAccount, error)
	ListServices(ctx context.Context, project string, page Page) (services []ServiceAccount, next string, err error)
	UpdateService(ctx context.Context, by journal.Origin, s ServiceAccount) (ServiceAccount, error)
	// EndService ends it for good, with its keys. manager must hold what it holds.
	EndService(ctx context.Context, by journal.Origin, manager *Principal, project, id string) (ServiceAccount, error)
}
