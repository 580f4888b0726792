// Command chaos proves what a group of replicas promises when something breaks. It starts a real redis-server and a real PostgreSQL,
// three replicas of the real binary between toxiproxies, a provider, and an open loop of calls; then it breaks one thing after the
// other and prints a row for each. It ends with 1 and says which when a promise does not hold.
//
//	go run ./cmd/chaos                     # the long form: a minute a fault, speed is judged too
//	go run ./cmd/chaos -short              # seconds a fault: counts are judged, speed is only printed
//	go run ./cmd/chaos -only redis-frozen  # one fault, or several by commas
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// options of one run.
type options struct {
	round  time.Duration // how long each fault lasts
	rest   time.Duration // healthy load before the first fault and after each
	rate   int           // calls a second to each replica
	speed  bool          // judge what depends on the machine's speed
	only   string        // names of faults, by commas; "" means all
	binary string        // of promptgate; "" builds it
	chatty bool          // print what replicas logged during each fault
}

func shortOptions() options {
	return options{round: 2 * time.Second, rest: time.Second, rate: 40}
}

func main() {
	long := options{rest: 10 * time.Second, speed: true}
	flag.DurationVar(&long.round, "round", time.Minute, "how long each fault lasts")
	flag.IntVar(&long.rate, "rate", 100, "calls a second to each replica")
	flag.StringVar(&long.only, "only", "", "faults by commas: "+strings.Join(names(), ", "))
	flag.StringVar(&long.binary, "binary", "", "promptgate to run; built when empty")
	flag.BoolVar(&long.chatty, "v", false, "print what the replicas logged")
	short := flag.Bool("short", false, "a few seconds a fault; speed is not judged")
	flag.Parse()
	o := long
	if *short {
		o = shortOptions()
		o.only, o.chatty, o.binary = long.only, long.chatty, long.binary
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	broken, err := guarded(ctx, o, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if err != nil || len(broken) > 0 {
		stop()
		os.Exit(1) //nolint:gocritic // stop has run
	}
}

// guarded runs with a host in the place of a test, and cleans up whatever happens.
func guarded(ctx context.Context, o options, out io.Writer) (broken []string, err error) {
	h := newHost(ctx)
	defer h.end()
	defer func() {
		switch v := recover().(type) {
		case nil:
		case fatal:
			err = errors.New(string(v))
		default:
			panic(v)
		}
	}()
	return run(h, o, out)
}
