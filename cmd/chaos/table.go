package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

func tenth(d time.Duration) string {
	if d < 0 {
		return "-" + tenth(-d)
	}
	switch {
	case d == 0:
		return "0"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%.0fms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

func printTable(out io.Writer, rows []*row, o options) {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "fault\tcalls\tfailed\tcut\tp99 before\tduring\tafter 2s\tadded\t(machine)\trecovered\tstale\ttoo old\tmoves seen\tp99\tkey refused\tlines\tdegraded\tverdict\t")
	for _, r := range rows {
		verdict, revoked, recovered := "ok", "-", tenth(r.recovered)
		switch {
		case r.unjudged():
			verdict = "busy"
		case len(r.broken) > 0:
			verdict = "BROKEN"
		}
		if r.revoked > 0 {
			revoked = tenth(r.revoked)
		}
		if r.recovered < 0 {
			recovered = "never"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%d/%d\t%d\t%s\t\n", r.name, r.calls, r.failed, r.cut, tenth(r.before),
			tenth(r.during), tenth(r.steady), tenth(r.added()), tenth(r.machine), recovered, r.stale, r.tooOld, r.moves, tenth(r.movedP99), revoked,
			r.lines, r.fault.lines, r.degraded, verdict)
	}
	_ = t.Flush()
	if o.chatty {
		for _, r := range rows {
			for _, text := range slices.Sorted(maps.Keys(r.logged)) {
				fmt.Fprintf(out, "%s logged %d× %s\n", r.name, r.logged[text], text)
			}
		}
	}
}

const legend = `
failed: calls that a client saw fail; cut: those on a replica when it was killed. added: p99 of plain calls from 2 s after the fault on, less that
before it and less what calls to the provider itself gained meanwhile (machine). recovered: until a second's p99 was within 5 ms. stale: marked
by x-promptgate-stale; too old: an older version than was acknowledged a second before. key refused: a revoked key, by the slowest
replica. busy: not judged, the machine's own p99 was over 100 ms. lines: of the replica that logged most / changes of state. degraded: replicas that said so on /readyz.
`
