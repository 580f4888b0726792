package gateway

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// probeTimeout bounds each check of /readyz.
const probeTimeout = time.Second

// livez says that the process serves HTTP, and nothing more: a database that is down is no reason to restart it.
func (g *Gateway) livez(c *gin.Context) {
	c.String(http.StatusOK, "ok\n")
}

type checkReport struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Critical bool   `json:"critical"`
	Error    string `json:"error,omitempty"`
}

type readyReport struct {
	Status   string        `json:"status"` // ready, degraded, unready, draining
	Revision int64         `json:"revision"`
	Age      float64       `json:"revision_age_seconds"`
	InFlight int64         `json:"in_flight"`
	Checks   []checkReport `json:"checks"`
}

// readyz says whether to send calls here. With ?verbose it says why; the checks' own errors go to the log alone, since this
// address asks nobody for a key.
func (g *Gateway) readyz(c *gin.Context) {
	checks, status, code := g.probe(c.Request.Context())
	if _, verbose := c.GetQuery("verbose"); !verbose {
		c.String(code, status+"\n")
		return
	}
	report := readyReport{Status: status, Revision: g.deps.Feed.Revision(), InFlight: g.flights.n.Load(), Checks: checks}
	if at := g.deps.Feed.ConfirmedAt(); !at.IsZero() {
		report.Age = max(0, g.deps.Clock().Sub(at).Seconds())
	}
	c.JSON(code, report)
}

// probe runs all checks at once, each under its own bound, and waits for them.
func (g *Gateway) probe(ctx context.Context) (reports []checkReport, status string, code int) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	reports = make([]checkReport, len(g.deps.Checks))
	var wg sync.WaitGroup
	for i, check := range g.deps.Checks {
		wg.Go(func() {
			reports[i] = checkReport{Name: check.Name, Critical: check.Critical, OK: true}
			if err := check.Probe(ctx); err != nil {
				reports[i].OK, reports[i].Error = false, "failing; the log says more"
				g.log.Debug("readiness check fails", "check", check.Name, "error", err)
			}
		})
	}
	wg.Wait()

	status, code = "ready", http.StatusOK
	for _, r := range reports {
		switch {
		case r.OK:
		case r.Critical:
			status, code = "unready", http.StatusServiceUnavailable
		case code == http.StatusOK:
			status = "degraded"
		}
	}
	if g.flights.draining.Load() {
		status, code = "draining", http.StatusServiceUnavailable
	}
	return reports, status, code
}
