package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/promptgate/promptgate/configs"
)

type serveCmd struct {
	settings
	Addr      *string `help:"Where to listen; port 0 picks a free one." placeholder:"HOST:PORT"`
	Demo      *bool   `help:"Seed a demo project once, answer by an offline echo unless a provider is configured, and print a key."`
	ReadyFile *string `help:"Write JSON with addr, pid and, in demo mode, key here once it listens." placeholder:"FILE"`
}

// Help implements kong's detailed help.
func (serveCmd) Help() string {
	return "Without a provider in the configuration, OPENAI_API_KEY (and OPENAI_BASE_URL) of the environment makes one. " +
		"`promptgate help config` lists every setting."
}

// collectPercent lets the heap grow to three times what is in use before the garbage collector runs; Go's own is twice. It costs some tens of
// MiB under load and saves a few percent of a call. GOGC and GOMEMLIMIT of the environment go before it.
const collectPercent = 200

// Run serves until the process is told to end.
func (c serveCmd) Run(ctx context.Context, io *streams) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectPercent)
	}
	more := map[string]any{}
	put(more, "addr", c.Addr)
	put(more, "demo", c.Demo)
	put(more, "ready_file", c.ReadyFile)
	cfg, err := c.load(more)
	if err != nil {
		return err
	}
	log := logger(cfg, io.err)
	a, err := newApp(ctx, cfg, log)
	if err != nil {
		return err
	}
	key, link := "", ""
	if cfg.Demo {
		key, link, err = a.seedDemo(ctx)
	} else {
		link, err = a.setUpLink(ctx)
	}
	if err != nil {
		a.cleanup(ctx)
		return fmt.Errorf("first start: %w", err)
	}
	a.start()
	if err := announce(cfg, a, key, link, io); err != nil {
		log.Error("ready file", "error", err)
	}
	select {
	case <-ctx.Done():
		log.Info("stopping", "in_flight", a.gateway.InFlight())
	case err = <-a.failed:
		log.Error("stopping", "error", err)
	}
	a.stop()
	return err
}

// ready is what the ready file holds.
type ready struct {
	Addr string `json:"addr"`
	PID  int    `json:"pid"`
	Key  string `json:"key,omitempty"`
}

// announce tells people on standard output and programs in the ready file that the gateway listens.
func announce(cfg configs.Config, a *App, key, link string, io *streams) error {
	a.log.Info("listening", "addr", a.addr(), "version", version, "database", a.stores.db.Dialect, "providers", len(cfg.Providers))
	if cfg.Demo {
		printWelcome(cfg, a.addr(), key, link, io)
	} else if link != "" {
		a.printSetUp(io, link)
	}
	if len(cfg.Providers) == 0 {
		a.log.Warn("no provider is configured: calls will be refused until one is, here or by the management API")
	}
	if cfg.ReadyFile == "" {
		return nil
	}
	text, err := json.Marshal(ready{Addr: a.addr(), PID: os.Getpid(), Key: key})
	if err != nil {
		return err
	}
	return writeFileWhole(cfg.ReadyFile, append(text, '\n'))
}

func printWelcome(cfg configs.Config, addr, key, link string, io *streams) {
	by := cfg.Providers[0].Name
	note, scheme := "", "http://"
	if cfg.TLS.CertFile != "" {
		scheme = "https://"
	}
	if cfg.Providers[0].Kind == "echo" {
		note = " (an offline echo: export OPENAI_API_KEY for a real model)"
	}
	if link != "" {
		link = "\nSign in as the demo's admin, once, within 15 minutes:\n\n  " + link + "\n"
	}
	fmt.Fprintf(io.out, `
promptgate listens on %[1]s, answered by %[2]s%[3]s
OpenAPI of the management API: %[1]s/openapi.json
%[5]s
  export PROMPTGATE_URL=%[1]s PROMPTGATE_KEY=%[4]s

Call a managed prompt:

  curl -s %[1]s/v1/chat/completions -H "Authorization: Bearer %[4]s" -H "Content-Type: application/json" -d '{"prompt":{"id":"support/triage","label":"production","variables":{"ticket":"My card was charged twice"}}}'

The same as OpenAI's prompt objects were called:

  curl -s %[1]s/v1/responses -H "Authorization: Bearer %[4]s" -H "Content-Type: application/json" -d '{"prompt":{"id":"support/triage","variables":{"ticket":"My card was charged twice"}}}'

Next: bin/promptgate prompt list, bin/promptgate help tour, bin/promptgate help migration

`, scheme+addr, by, note, key, link)
}
