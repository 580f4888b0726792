// Package reseal replaces data keys and seals what is stored again, while calls are served: a job that any replica can run, go on with after another one was
// killed, and run twice without harm. What is left to do stands in the rows, not in the job.
package reseal

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
)

// Column is something sealed that the database holds.
type Column interface {
	Name() string
	// Count counts values by project and key.
	Count(ctx context.Context) ([]seal.Count, error)
	// Reseal seals at most limit values of a project after a place again, those that key does not seal; next is where to go on, "" at the end.
	Reseal(ctx context.Context, by journal.Origin, project string, key uint32, after string, limit int) (n int, next string, err error)
}

// Kind is what a job does.
type Kind string

// The kinds.
const (
	Rotate    Kind = "rotate"    // new data keys, of the installation and of each project
	Reencrypt Kind = "reencrypt" // everything by the keys that seal now; then old keys that nothing needs are destroyed
)

// The states of a job.
const (
	Running = "running"
	Done    = "done"
	Failed  = "failed"
)

// Job is one of them.
type Job struct {
	bun.BaseModel `bun:"table:journal_seal_jobs,alias:j"`

	ID         string `bun:",pk"`
	Kind       Kind
	State      string
	Phase      string // of a running one, for people
	Done       int64
	Total      int64
	ActorKind  string
	ActorID    string
	ActorName  string
	Why        string
	DropAfter  int64 // microseconds that a key has not sealed before it is destroyed
	StartedAt  int64 // microseconds since 1970, UTC, as all of them
	UpdatedAt  int64
	FinishedAt int64
	LeaseBy    string
	LeaseUntil int64
	Failure    string
}

func (j *Job) origin() journal.Origin {
	return journal.Origin{Actor: journal.Actor{Kind: j.ActorKind, ID: j.ActorID, Name: j.ActorName}, Why: j.Why}
}

// Options are what a Runner works with; DB, Journal, Sealer, Columns and Projects are needed.
type Options struct {
	DB       *sqldb.DB
	Journal  *journal.Journal
	Sealer   *seal.Sealer
	Columns  []Column
	Projects func(ctx context.Context) ([]string, error) // all there are
	Shredded func(project string) []journal.Touch        // what caches forget with a project's keys; nil: nothing
	Settle   time.Duration                               // between a key's being stored and its sealing: replicas learn of it meanwhile; 0 means 5 s
	Batch    int                                         // rows in one transaction; 0 means 100
	Poll     time.Duration                               // how often Run looks for a job; 0 means 2 s
	Clock    func() time.Time
	Log      *slog.Logger
}

const (
	lease = 30 * time.Second
	// DropAfter is the default of how long a key has not sealed before it is destroyed: what waits in the spool of a replica that is down is sealed by it.
	DropAfter = 24 * time.Hour
)

// Runner starts jobs, and runs them. It is safe for concurrent use.
type Runner struct {
	o    Options
	me   string
	wake chan struct{}
	seen atomic.Pointer[Job] // the last that was looked at, for metrics
}

// New makes a Runner. It does not touch the database.
func New(o Options) *Runner {
	if o.Settle <= 0 {
		o.Settle = 5 * time.Second
	}
	if o.Batch <= 0 {
		o.Batch = 100
	}
	if o.Poll <= 0 {
		o.Poll = 2 * time.Second
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Runner{o: o, me: strings.ToLower(rand.Text()), wake: make(chan struct{}, 1)}
}

func (r *Runner) now() int64 { return r.o.Clock().UnixMicro() }

// Start begins a job, which Run takes up, here or on another replica. It fails with Conflict while another one runs, or the master key is being replaced.
func (r *Runner) Start(ctx context.Context, by journal.Origin, kind Kind, dropAfter time.Duration) (*Job, error) {
	if _, _, replacing, err := r.o.Sealer.Replacing(ctx); err != nil {
		return nil, err
	} else if replacing {
		return nil, fault.New(fault.Conflict, "The master key is being replaced: finish that first (`promptgate seal rewrap --finish`).")
	}
	if dropAfter <= 0 {
		dropAfter = DropAfter
	}
	now := r.now()
	job := &Job{
		ID: "job_" + strings.ToLower(rand.Text()), Kind: kind, State: Running, Phase: "waiting", ActorKind: by.Actor.Kind, ActorID: by.Actor.ID,
		ActorName: by.Actor.Name, Why: by.Why, DropAfter: dropAfter.Microseconds(), StartedAt: now, UpdatedAt: now,
	}
	ev := &journal.Event{Origin: by, Action: "seal." + string(kind), Object: "seal-job:" + job.ID}
	_, err := r.o.Journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(job).Exec(ctx)
		if sqldb.IsUnique(err) {
			return fault.Wrap(err, fault.Conflict, "Data keys are being rotated, or data is sealed again, already: wait until it is done (`promptgate seal status`).")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return job, nil
}

// Jobs are the newest jobs, the newest first.
func (r *Runner) Jobs(ctx context.Context, limit int) (jobs []Job, err error) {
	err = r.o.DB.NewSelect().Model(&jobs).Order("started_at DESC", "id").Limit(int64(limit)).Scan(ctx)
	return jobs, sqldb.Classify(err)
}

// running is the job that runs, nil when none does.
func (r *Runner) running(ctx context.Context) (*Job, error) {
	job := &Job{}
	err := r.o.DB.NewSelect().Model(job).Where("state = ?", Running).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return job, sqldb.Classify(err)
}

// Last is the newest job that this process has seen; nil before it saw one.
func (r *Runner) Last() *Job { return r.seen.Load() }

// Run works on jobs until ctx is done.
func (r *Runner) Run(ctx context.Context) error {
	tick := time.NewTicker(r.o.Poll)
	defer tick.Stop()
	for {
		if job, err := r.running(ctx); err == nil && job != nil {
			r.seen.Store(job)
			r.Work(ctx, job)
		} else if last := r.seen.Load(); last != nil && last.State == Running && err == nil {
			r.look(ctx, last.ID)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.wake:
		}
	}
}

// look reads a job again, for metrics.
func (r *Runner) look(ctx context.Context, id string) {
	job := &Job{ID: id}
	if r.o.DB.NewSelect().Model(job).WherePK().Scan(ctx) == nil {
		r.seen.Store(job)
	}
}

// Get reads a job.
func (r *Runner) Get(ctx context.Context, id string) (*Job, error) {
	job := &Job{ID: id}
	err := r.o.DB.NewSelect().Model(job).WherePK().Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "There is no such job.")
	}
	return job, sqldb.Classify(err)
}

// Follow works on a job, or watches whoever does, until it has ended; told is called when there is something new. It returns the job as it ended.
func (r *Runner) Follow(ctx context.Context, id string, told func(*Job)) (*Job, error) {
	const watch = 300 * time.Millisecond
	for {
		job, err := r.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		told(job)
		if job.State != Running {
			return job, nil
		}
		r.work(ctx, job, told)
		select {
		case <-ctx.Done():
			return job, ctx.Err()
		case <-time.After(watch):
		}
	}
}

// Work does what is left of a running job, if nobody else does.
func (r *Runner) Work(ctx context.Context, job *Job) { r.work(ctx, job, func(*Job) {}) }

func (r *Runner) work(ctx context.Context, job *Job, told func(*Job)) {
	if !r.claim(ctx, job) {
		return
	}
	w := &worker{r: r, job: job, told: told}
	err := w.do(ctx)
	switch {
	case ctx.Err() != nil || errors.Is(err, errLost):
		return // somebody goes on
	case err != nil && (sqldb.IsUnavailable(err) || sqldb.IsRetryable(err) || fault.Is(err, fault.RegistryUnavailable)):
		r.o.Log.Warn("sealing waits for the database", "job", job.ID, "error", err)
		return
	case err != nil:
		job.State, job.Failure = Failed, failureOf(err)
		r.o.Log.Error("sealing ended early", "job", job.ID, "kind", job.Kind, "error", err)
	default:
		job.State = Done
		r.o.Log.Info("sealing done", "job", job.ID, "kind", job.Kind, "done", job.Done)
	}
	job.Phase, job.FinishedAt, job.LeaseUntil = "", r.now(), 0
	if err := w.save(ctx); err != nil {
		r.o.Log.Warn("the end of a job was not noted: it will be found to have nothing left", "job", job.ID, "error", err)
	}
}

// failureOf is what a failure says to people: a fault's message, else the error, which names rows and no content.
func failureOf(err error) string {
	var f *fault.Error
	if errors.As(err, &f) && f.Code != fault.Internal {
		return f.Message
	}
	return err.Error()
}

// errLost says that another one has the job.
var errLost = errors.New("reseal: another one works on this job")

// claim takes the lease when nobody has it.
func (r *Runner) claim(ctx context.Context, job *Job) bool {
	now := r.now()
	res, err := r.o.DB.NewUpdate().Model((*Job)(nil)).Set("lease_by = ?", r.me).Set("lease_until = ?", now+lease.Microseconds()).
		Where("id = ? AND state = ? AND (lease_until <= ? OR lease_by = ?)", job.ID, Running, now, r.me).Exec(ctx)
	if err != nil {
		return false
	}
	n, err := res.RowsAffected()
	return err == nil && n == 1
}
