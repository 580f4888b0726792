package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/reseal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// Sealing looks after data keys: reseal.Runner.
type Sealing interface {
	Use(ctx context.Context) (*reseal.Use, error)
	Jobs(ctx context.Context, limit int) ([]reseal.Job, error)
	Get(ctx context.Context, id string) (*reseal.Job, error)
	Start(ctx context.Context, by journal.Origin, kind reseal.Kind, dropAfter time.Duration) (*reseal.Job, error)
	Shred(ctx context.Context, by journal.Origin, project string) (revision int64, err error)
}

// SealJob is work on data keys or sealed data that goes on while calls are served.
type SealJob struct {
	ID         string     `json:"id" example:"job_0k3v"`
	Kind       string     `json:"kind" enum:"rotate,reencrypt"`
	State      string     `json:"state" enum:"running,done,failed"`
	Phase      string     `json:"phase,omitempty" doc:"What a running one does now"`
	Done       int64      `json:"done" doc:"Of the present phase: keys, or values"`
	Total      int64      `json:"total"`
	StartedAt  time.Time  `json:"started_at"`
	UpdatedAt  time.Time  `json:"updated_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
	Failure    string     `json:"failure,omitempty"`
}

func sealJobOf(j *reseal.Job) SealJob {
	out := SealJob{
		ID: j.ID, Kind: string(j.Kind), State: j.State, Phase: j.Phase, Done: j.Done, Total: j.Total,
		StartedAt: time.UnixMicro(j.StartedAt).UTC(), UpdatedAt: time.UnixMicro(j.UpdatedAt).UTC(), Failure: j.Failure,
	}
	if j.FinishedAt != 0 {
		at := time.UnixMicro(j.FinishedAt).UTC()
		out.FinishedAt = &at
	}
	return out
}

// SealKey is a data key: never the key itself.
type SealKey struct {
	Project    string     `json:"project,omitempty" doc:"Absent for the installation's"`
	ID         uint32     `json:"id"`
	State      string     `json:"state" enum:"new,sealing,old" doc:"new opens and does not seal yet; old opens what it sealed"`
	MadeAt     time.Time  `json:"made_at"`
	SealsSince *time.Time `json:"seals_since,omitempty"`
	SealsUntil *time.Time `json:"seals_until,omitempty"`
	Values     int64      `json:"values" doc:"How many stored values it seals"`
}

// SealStatus is which keys there are, and what is left to be sealed again.
type SealStatus struct {
	Values   int64     `json:"values" doc:"Sealed values stored"`
	Stale    int64     `json:"stale" doc:"Of them, those that an older key seals than the one that seals now"`
	Keys     []SealKey `json:"keys"`
	Shredded []string  `json:"shredded" doc:"Projects whose keys were destroyed"`
	Jobs     []SealJob `json:"jobs" doc:"The newest first"`
}

// SealJobCreate starts a job.
type SealJobCreate struct {
	Kind string `json:"kind" enum:"rotate,reencrypt" doc:"rotate makes new keys; reencrypt seals everything by the present ones, then destroys those that nothing needs"`
	// DropAfter in hours, since what waits is spools of replicas that are down.
	DropAfterHours int `json:"drop_after_hours,omitempty" minimum:"1" maximum:"8760" default:"24" doc:"Of reencrypt: how long a key has not sealed before it is destroyed; replicas that were down for longer lose comments that they had not passed on"`
}

// ShredProject destroys a project's keys.
type ShredProject struct {
	Name string `json:"name" doc:"The project's name, as proof that this one is meant"`
}

type sealStatusAnswer struct{ Body SealStatus }

type sealJobAnswer struct{ Body SealJob }

type createSealJobInput struct {
	Credentials
	Body SealJobCreate
}

type getSealJobInput struct {
	Credentials
	Job string `path:"job" maxLength:"64"`
}

type shredProjectInput struct {
	Credentials
	Body ShredProject
}

// sealed is what an operator asks about encryption.
type sealed struct {
	sealing  Sealing
	registry *registry.Service
}

func (n sealed) routes(a *API) {
	operate := func(id, method, path, summary string, status int) op {
		return op{id: id, method: method, path: path, action: policy.ActionCreateProject, kind: policy.ObjectSystem, tag: "encryption", summary: summary, status: status}
	}
	handle(a, operate("get-seal", http.MethodGet, "/seal", "Which data keys there are, what they seal, and the jobs: the system's administrators only", 0), n.status)
	handle(a, operate("create-seal-job", http.MethodPost, "/seal/jobs", "Rotate data keys, or seal all data again, while calls are served: the system's administrators only",
		http.StatusAccepted), n.start)
	handle(a, operate("get-seal-job", http.MethodGet, "/seal/jobs/{job}", "Get a job's progress: the system's administrators only", 0), n.job)
	handle(a, op{id: "shred-project", method: http.MethodPost, path: "/project/shred", action: policy.ActionDelete, kind: policy.ObjectSystem, tag: "encryption",
		summary: "Destroy the keys of the key's project: its texts, credentials and comments are gone for good", status: http.StatusNoContent}, n.shred)
}

// keyStatus is one key of the list.
func keyStatus(project string, primary bool, made, since, until int64) SealKey {
	k := SealKey{Project: project, State: "old", MadeAt: time.UnixMicro(made).UTC()}
	if since != 0 {
		at := time.UnixMicro(since).UTC()
		k.SealsSince = &at
	}
	if until != 0 {
		at := time.UnixMicro(until).UTC()
		k.SealsUntil = &at
	}
	switch {
	case primary:
		k.State = "sealing"
	case since == 0:
		k.State = "new"
	}
	return k
}

func (n sealed) status(ctx context.Context, _ *caller, _ *Credentials) (*sealStatusAnswer, error) {
	use, err := n.sealing.Use(ctx)
	if err != nil {
		return nil, err
	}
	jobs, err := n.sealing.Jobs(ctx, 20)
	if err != nil {
		return nil, err
	}
	out := &sealStatusAnswer{Body: SealStatusOf(use, jobs)}
	return out, nil
}

// SealStatusOf is what the API, and the command line, tell.
func SealStatusOf(use *reseal.Use, jobs []reseal.Job) SealStatus {
	out := SealStatus{Values: use.Values(), Stale: use.Stale(), Keys: []SealKey{}, Shredded: []string{}, Jobs: []SealJob{}}
	for _, h := range use.Held {
		if !h.Shredded.IsZero() {
			out.Shredded = append(out.Shredded, h.Project)
			continue
		}
		for _, f := range h.Keys {
			k := keyStatus(h.Project, f.ID == h.Primary, f.MadeAt, f.SealsSince, f.SealsUntil)
			k.ID, k.Values = f.ID, use.SealedBy(h.Project, f.ID)
			out.Keys = append(out.Keys, k)
		}
	}
	for i := range jobs {
		out.Jobs = append(out.Jobs, sealJobOf(&jobs[i]))
	}
	return out
}

func (n sealed) start(ctx context.Context, c *caller, in *createSealJobInput) (*sealJobAnswer, error) {
	job, err := n.sealing.Start(ctx, c.Origin, reseal.Kind(in.Body.Kind), time.Duration(in.Body.DropAfterHours)*time.Hour)
	if err != nil {
		return nil, err
	}
	return &sealJobAnswer{Body: sealJobOf(job)}, nil
}

func (n sealed) job(ctx context.Context, _ *caller, in *getSealJobInput) (*sealJobAnswer, error) {
	job, err := n.sealing.Get(ctx, in.Job)
	if err != nil {
		return nil, err
	}
	return &sealJobAnswer{Body: sealJobOf(job)}, nil
}

func (n sealed) shred(ctx context.Context, c *caller, in *shredProjectInput) (*removedAnswer, error) {
	p, err := n.registry.Project(ctx, c.Project)
	if err != nil {
		return nil, err
	}
	if in.Body.Name != p.Name {
		return nil, fault.New(fault.InvalidRequest, "This key's project is called %q, and its keys would be destroyed for good: write that name to go on.", p.Name).WithParam("name")
	}
	revision, err := n.sealing.Shred(ctx, c.Origin, p.ID)
	return &removedAnswer{Changed: changed(revision)}, err
}
