package gateway

import (
	"sync"
	"time"
)

// pinger writes ": ping" comments into a stream that is silent for long, so that proxies on the way keep it open. It needs no goroutine: a
// timer's function writes, under the lock that the relay holds while it writes. Nil when pings are off, and then all of it is free.
type pinger struct {
	mu      sync.Mutex
	timer   *time.Timer
	g       *Gateway
	c       *call
	stopped bool
}

func (g *Gateway) startPings(c *call) *pinger {
	if g.opts.PingInterval <= 0 {
		return nil
	}
	p := &pinger{g: g, c: c}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(g.opts.PingInterval, p.ping)
	return p
}

// ping comments between two events only: inside one, a comment's blank line would end it.
func (p *pinger) ping() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	defer func() {
		if r := recover(); r != nil { // nobody else would: it is the timer's goroutine
			p.stopped = true
			p.g.notePanic("ping", r)
		}
	}()
	if p.c.ans.between {
		if !p.c.ans.begun {
			p.g.begin(p.c, -1)
		}
		if p.g.write(p.c, []byte(": ping\n\n")) != nil || p.g.flush(p.c) != nil {
			return // the relay will notice
		}
	}
	p.timer.Reset(p.g.opts.PingInterval)
}

func (p *pinger) lock() {
	if p != nil {
		p.mu.Lock()
		p.timer.Stop()
	}
}

func (p *pinger) unlock() {
	if p != nil {
		if !p.stopped {
			p.timer.Reset(p.g.opts.PingInterval)
		}
		p.mu.Unlock()
	}
}

// stop ends the pings; when it returns none is being written.
func (p *pinger) stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.timer.Stop()
}
