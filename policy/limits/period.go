package limits

import (
	"errors"
	"time"
)

// Window is the time in which what is used counts together.
type Window struct {
	Start, End time.Time
	From       time.Time // the start of the earliest one that counts with it: Start, but for rolling days
}

// Key names a window by its start.
func (w Window) Key() int64 { return w.Start.UnixMicro() }

// WindowAt is the window of a budget at a moment. Days begin when the clocks of the zone first show them: a day may have 23 or 25 hours, and begin at
// one o'clock where midnight is skipped.
func (l *Limit) WindowAt(now time.Time) Window {
	zone := l.zone
	if zone == nil {
		zone = time.UTC
	}
	y, m, d := now.In(zone).Date()
	var w Window
	switch l.Period {
	case Week:
		back := (int(now.In(zone).Weekday()) + 6) % 7 // since Monday
		w.Start, w.End = dayStart(y, m, d-back, zone), dayStart(y, m, d-back+7, zone)
	case Month:
		w.Start, w.End = dayStart(y, m, 1, zone), dayStart(y, m+1, 1, zone)
	default:
		w.Start, w.End = dayStart(y, m, d, zone), dayStart(y, m, d+1, zone)
	}
	w.From = w.Start
	if l.Period == Rolling {
		w.From = dayStart(y, m, d-l.Days+1, zone)
	}
	return w
}

// dayStart is the first moment of a day. d may be outside the month.
func dayStart(y int, m time.Month, d int, zone *time.Location) time.Time {
	y, m, d = time.Date(y, m, d, 12, 0, 0, 0, time.UTC).Date()
	is := func(t time.Time) bool {
		ty, tm, td := t.In(zone).Date()
		return ty == y && tm == m && td == d
	}
	midnight := time.Date(y, m, d, 0, 0, 0, 0, zone)
	// Midnight may be skipped, and may be twice: then the day begins where the clocks were changed, or at the other midnight.
	candidates := []time.Time{midnight}
	began, ends := midnight.ZoneBounds()
	for _, change := range []time.Time{began, ends} {
		if change.IsZero() {
			continue
		}
		_, before := change.Add(-time.Nanosecond).Zone()
		_, after := change.Zone()
		step := time.Duration(after-before) * time.Second
		candidates = append(candidates, change, midnight.Add(step), midnight.Add(-step))
	}
	best := midnight
	found := false
	for _, c := range candidates {
		if is(c) && !is(c.Add(-time.Nanosecond)) && (!found || c.Before(best)) {
			best, found = c, true
		}
	}
	if !found { // there is no such day: a zone that crossed the date line
		return dayStart(y, m, d+1, zone)
	}
	return best
}

// loadZone finds a time zone by its name.
func loadZone(name string) (*time.Location, error) {
	if name == "Local" { // that of this machine: another on each
		return nil, errors.New("limits: no zone of its own")
	}
	return time.LoadLocation(name)
}
