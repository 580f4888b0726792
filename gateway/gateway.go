package gateway

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/room"
	"github.com/promptgate/promptgate/metrics"
)

// Gateway serves the data plane. Build it with New.
type Gateway struct {
	deps Deps
	opts Options

	log       *slog.Logger
	meter     Meter
	repeats   fault.Repeats
	flights   *flights
	calls     sync.Pool // of *call
	buffers   buffers
	running   atomic.Int64 // calls that hold a reservation
	room      *room.Room   // for bytes of request bodies, shared by callers
	refusals  additionRefusals
	catalog   *catalog
	calling   pipeline
	rendering pipeline
}

// New builds a gateway, or says everything that is missing.
func New(deps Deps, opts Options) (*Gateway, error) {
	if err := deps.validate(); err != nil {
		return nil, err
	}
	if err := opts.validate(); err != nil {
		return nil, err
	}
	g := &Gateway{
		deps: deps, opts: opts.withDefaults(), log: deps.Log, meter: deps.Meter, flights: newFlights(),
	}
	g.room = room.New(g.opts.MaxBuffered)
	if g.meter == nil {
		g.meter = noMeter{}
	}
	catalog, err := newCatalog(deps.Catalog, deps.Feed)
	if err != nil {
		return nil, err
	}
	g.catalog = catalog
	g.calling, g.rendering = g.callPipeline(), g.renderPipeline()
	return g, nil
}

// noMeter counts nothing.
type noMeter struct{}

func (noMeter) CallStarted()              {}
func (noMeter) CallEnded()                {}
func (noMeter) ObserveCall(*metrics.Call) {}
