package uses_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/policy/uses"
)

var noon = time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)

// keeper keeps batches, or fails.
type keeper struct {
	mu   sync.Mutex
	kept []uses.Use
	fail error
}

func (k *keeper) KeepUses(_ context.Context, batch []uses.Use) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	k.kept = append(k.kept, batch...)
	return nil
}

// rig is a log whose clock the test moves.
type rig struct {
	*uses.Log
	keeper keeper
	now    time.Time
}

func newRig(t *testing.T, o uses.Options) *rig {
	t.Helper()
	r := &rig{now: noon}
	o.Keeper, o.Clock = &r.keeper, func() time.Time { return r.now }
	var err error
	r.Log, err = uses.New(o)
	require.NoError(t, err)
	return r
}

func (r *rig) at(d time.Duration) int64 {
	r.now = noon.Add(d)
	r.Tick()
	return r.Minute()
}

func TestAMinuteCountsOnce(t *testing.T) {
	r := newRig(t, uses.Options{})
	for _, d := range []time.Duration{0, time.Second, 59 * time.Second, 60 * time.Second, 3 * time.Minute} {
		r.Note(r.at(d), "prj", "usr_1", []string{"bnd_1", "bnd_2"})
	}
	r.Note(r.Minute(), "prj", "usr_2", []string{"bnd_1"})
	require.NoError(t, r.Flush(t.Context()))
	require.Equal(t, []uses.Use{
		{Project: "prj", Holding: "bnd_1", Subject: "usr_1", First: noon, Last: noon.Add(3 * time.Minute), Minutes: 3},
		{Project: "prj", Holding: "bnd_1", Subject: "usr_2", First: noon.Add(3 * time.Minute), Last: noon.Add(3 * time.Minute), Minutes: 1},
		{Project: "prj", Holding: "bnd_2", Subject: "usr_1", First: noon, Last: noon.Add(3 * time.Minute), Minutes: 3},
	}, r.keeper.kept)
	r.Note(r.Minute(), "prj", "usr_2", []string{"bnd_1"})
	require.NoError(t, r.Flush(t.Context()))
	require.Len(t, r.keeper.kept, 3, "the minute was told already")
}

func TestWhatFailsIsToldAgain(t *testing.T) {
	r := newRig(t, uses.Options{})
	r.keeper.fail = errors.New("away")
	for i := range 1200 { // three batches
		r.Note(r.at(0), "prj", fmt.Sprint("usr_", i), []string{"bnd_1"})
	}
	require.Error(t, r.Flush(t.Context()))
	r.Note(r.at(time.Minute), "prj", "usr_7", []string{"bnd_1"})
	r.keeper.fail = nil
	require.NoError(t, r.Flush(t.Context()))
	require.Len(t, r.keeper.kept, 1200)
	for _, u := range r.keeper.kept {
		want := int64(1)
		if u.Subject == "usr_7" {
			want = 2
			require.Equal(t, noon.Add(time.Minute), u.Last)
		}
		require.Equal(t, want, u.Minutes, u.Subject)
		require.Equal(t, noon, u.First)
	}
	require.Equal(t, uses.Stats{Kept: 1200, Failed: 1}, r.Stats())
}

func TestWhatWaitsIsBounded(t *testing.T) {
	r := newRig(t, uses.Options{Most: 10})
	r.keeper.fail = errors.New("away")
	for i := range 30 {
		r.Note(r.Minute(), "prj", fmt.Sprint("usr_", i), []string{"bnd_1"})
	}
	require.EqualValues(t, 20, r.Stats().Dropped)
}

func TestTheLastBatchIsKeptAtTheEnd(t *testing.T) {
	r := newRig(t, uses.Options{Every: time.Hour})
	r.Note(r.Minute(), "prj", "usr_1", []string{"bnd_1"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, r.Run(ctx))
	require.Len(t, r.keeper.kept, 1)
}
