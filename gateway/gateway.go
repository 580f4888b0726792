package gateway

import (
	"log/slog"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy/limits"
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
	places    *limits.Places // calls that run
	memory    *limits.Memory // bytes of request bodies, shared by callers
	limiters  []limits.Limiter
	refusals  additionRefusals
	catalog   *catalog
	stored    *otter.Cache[storedKey, storedBy]  // answers that providers keep
	strangers *otter.Cache[storedKey, time.Time] // ids that nobody got here
	calling   pipeline
	rendering pipeline
	asking    pipeline // about what providers keep
	batching  pipeline
	runs      runs // answers that providers still work on
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
	g.places, g.memory = limits.NewPlaces(g.opts.MaxInFlight), limits.NewMemory(g.opts.MaxBuffered)
	g.limiters = append([]limits.Limiter{recordRoom{g}}, deps.Limiters...)
	if g.meter == nil {
		g.meter = noMeter{}
	}
	catalog, err := newCatalog(deps.Catalog, deps.Feed)
	if err != nil {
		return nil, err
	}
	g.catalog = catalog
	if g.stored, err = newStored(); err != nil {
		return nil, err
	}
	if g.strangers, err = newStrangers(); err != nil {
		return nil, err
	}
	g.calling, g.rendering, g.asking = g.callPipeline(), g.renderPipeline(), g.keptPipeline()
	g.batching = g.batchPipeline()
	return g, nil
}

// noMeter counts nothing.
type noMeter struct{}

func (noMeter) CallStarted()              {}
func (noMeter) CallEnded()                {}
func (noMeter) ObserveCall(*metrics.Call) {}
