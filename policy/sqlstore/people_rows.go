package sqlstore

import (
	"encoding/json"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

type userRow struct {
	bun.BaseModel `bun:"table:policy_users,alias:u"`

	ID         string `bun:"id,pk"`
	Email      string `bun:"email"`
	Name       string `bun:"name"`
	State      string `bun:"state"`
	Operator   bool   `bun:"operator"`
	BreakGlass bool   `bun:"break_glass"`
	External   string `bun:"external"`
	Epoch      int64  `bun:"epoch"`
	CreatedBy  string `bun:"created_by"`
	CreatedAt  int64  `bun:"created_at"`
	EndedAt    int64  `bun:"ended_at"`
	Revision   int64  `bun:"revision"`
}

func rowOfUser(u policy.User) userRow {
	return userRow{
		ID: u.ID, Email: u.Email, Name: u.Name, State: string(u.State), Operator: u.Operator, BreakGlass: u.BreakGlass, External: u.External, Epoch: u.Epoch,
		CreatedBy: u.CreatedBy, CreatedAt: micros(u.CreatedAt), EndedAt: micros(u.EndedAt), Revision: u.Revision,
	}
}

func (r *userRow) user() policy.User {
	return policy.User{
		ID: r.ID, Email: r.Email, Name: r.Name, State: policy.UserState(r.State), Operator: r.Operator, BreakGlass: r.BreakGlass, External: r.External,
		Epoch: r.Epoch, CreatedBy: r.CreatedBy, CreatedAt: at(r.CreatedAt), EndedAt: at(r.EndedAt), Revision: r.Revision,
	}
}

func (r *userRow) stamped(revision int64) { r.Revision = revision }

type groupRow struct {
	bun.BaseModel `bun:"table:policy_groups,alias:g"`

	ID          string `bun:"id,pk"`
	Name        string `bun:"name"`
	Description string `bun:"description"`
	External    string `bun:"external"`
	CreatedBy   string `bun:"created_by"`
	CreatedAt   int64  `bun:"created_at"`
	Revision    int64  `bun:"revision"`
}

func rowOfGroup(g policy.PeopleGroup) groupRow {
	return groupRow{ID: g.ID, Name: g.Name, Description: g.Description, External: g.External, CreatedBy: g.CreatedBy, CreatedAt: micros(g.CreatedAt), Revision: g.Revision}
}

func (r *groupRow) group() policy.PeopleGroup {
	return policy.PeopleGroup{
		ID: r.ID, Name: r.Name, Description: r.Description, External: r.External, CreatedBy: r.CreatedBy, CreatedAt: at(r.CreatedAt), Revision: r.Revision,
	}
}

func (r *groupRow) stamped(revision int64) { r.Revision = revision }

type memberRow struct {
	bun.BaseModel `bun:"table:policy_group_members,alias:m"`

	UserID   string `bun:"user_id,pk"`
	GroupID  string `bun:"group_id,pk"`
	Source   string `bun:"source"`
	AddedBy  string `bun:"added_by"`
	AddedAt  int64  `bun:"added_at"`
	Revision int64  `bun:"revision"`
}

// Group implements authentic.Grouped: a user's groups are read together.
func (*memberRow) Group() int { return 1 }

func (r *memberRow) member() policy.GroupMember {
	return policy.GroupMember{
		UserID: r.UserID, GroupID: r.GroupID, Source: policy.MemberSource(r.Source), AddedBy: r.AddedBy, AddedAt: at(r.AddedAt), Revision: r.Revision,
	}
}

func (r *memberRow) stamped(revision int64) { r.Revision = revision }

type roleRow struct {
	bun.BaseModel `bun:"table:policy_roles,alias:r"`

	Project     string `bun:"project,pk"`
	Name        string `bun:"name,pk"`
	Description string `bun:"description"`
	Actions     string `bun:"actions"`
	CreatedBy   string `bun:"created_by"`
	CreatedAt   int64  `bun:"created_at"`
	Revision    int64  `bun:"revision"`
}

func rowOfRole(r policy.Role) (roleRow, error) {
	row := roleRow{Project: r.Project, Name: r.Name, Description: r.Description, CreatedBy: r.CreatedBy, CreatedAt: micros(r.CreatedAt), Revision: r.Revision}
	return row, encode(&row.Actions, r.Actions)
}

func (r *roleRow) role() (policy.Role, error) {
	out := policy.Role{Project: r.Project, Name: r.Name, Description: r.Description, CreatedBy: r.CreatedBy, CreatedAt: at(r.CreatedAt), Revision: r.Revision}
	return out, decode(r.Actions, &out.Actions, "role "+r.Name)
}

func (r *roleRow) stamped(revision int64) { r.Revision = revision }

type bindingRow struct {
	bun.BaseModel `bun:"table:policy_bindings,alias:b"`

	Project   string `bun:"project,pk"`
	Subject   string `bun:"subject,pk"`
	ID        string `bun:"id,pk"`
	Role      string `bun:"role"`
	Effect    string `bun:"effect"`
	Prompts   string `bun:"prompts"`
	Labels    string `bun:"labels"`
	Models    string `bun:"models"`
	ExpiresAt int64  `bun:"expires_at"`
	GrantedBy string `bun:"granted_by"`
	GrantedAt int64  `bun:"granted_at"`
	Reason    string `bun:"reason"`
	Revision  int64  `bun:"revision"`
}

// Group implements authentic.Grouped: what somebody holds in a project is read together, so that a denial cannot go missing.
func (*bindingRow) Group() int { return 2 }

func rowOfBinding(b policy.Binding) (bindingRow, error) {
	row := bindingRow{
		Project: b.Project, Subject: b.Subject, ID: b.ID, Role: b.Role, Effect: b.Effect, ExpiresAt: micros(b.Expires),
		GrantedBy: b.GrantedBy, GrantedAt: micros(b.GrantedAt), Reason: b.Reason, Revision: b.Revision,
	}
	for to, from := range map[*string][]string{&row.Prompts: b.Prompts, &row.Labels: b.Labels, &row.Models: b.Models} {
		if err := encode(to, from); err != nil {
			return row, err
		}
	}
	return row, nil
}

func (r *bindingRow) binding() (policy.Binding, error) {
	b := policy.Binding{
		Project: r.Project, Subject: r.Subject, ID: r.ID, Role: r.Role, Effect: r.Effect, Expires: at(r.ExpiresAt),
		GrantedBy: r.GrantedBy, GrantedAt: at(r.GrantedAt), Reason: r.Reason, Revision: r.Revision,
	}
	for from, to := range map[*string]*[]string{&r.Prompts: &b.Prompts, &r.Labels: &b.Labels, &r.Models: &b.Models} {
		if err := decode(*from, to, "binding "+r.ID); err != nil {
			return b, err
		}
	}
	return b, nil
}

func (r *bindingRow) stamped(revision int64) { r.Revision = revision }

type serviceRow struct {
	bun.BaseModel `bun:"table:policy_service_accounts,alias:s"`

	Project     string `bun:"project,pk"`
	ID          string `bun:"id,pk"`
	Name        string `bun:"name"`
	Description string `bun:"description"`
	CreatedBy   string `bun:"created_by"`
	CreatedAt   int64  `bun:"created_at"`
	EndedAt     int64  `bun:"ended_at"`
	Revision    int64  `bun:"revision"`
}

func rowOfService(s policy.ServiceAccount) serviceRow {
	return serviceRow{
		Project: s.Project, ID: s.ID, Name: s.Name, Description: s.Description, CreatedBy: s.CreatedBy, CreatedAt: micros(s.CreatedAt),
		EndedAt: micros(s.EndedAt), Revision: s.Revision,
	}
}

func (r *serviceRow) service() policy.ServiceAccount {
	return policy.ServiceAccount{
		Project: r.Project, ID: r.ID, Name: r.Name, Description: r.Description, CreatedBy: r.CreatedBy, CreatedAt: at(r.CreatedAt),
		EndedAt: at(r.EndedAt), Revision: r.Revision,
	}
}

func (r *serviceRow) stamped(revision int64) { r.Revision = revision }

func encode(to *string, from any) error {
	b, err := json.Marshal(from)
	if err != nil {
		return fault.Wrap(err, fault.Internal, "what was given cannot be stored")
	}
	*to = string(b)
	return nil
}

func decode(from string, to any, what string) error {
	if err := json.Unmarshal([]byte(from), to); err != nil {
		return fault.Wrap(err, fault.Internal, "the stored %s cannot be read", what)
	}
	return nil
}
