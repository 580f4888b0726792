package limits

import (
	"testing"
	"time"
	_ "time/tzdata" // zones are the program's own

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func budgetOf(t *testing.T, period Period, days int, zone string) *Limit {
	t.Helper()
	l := &Limit{Name: "l", Measure: USD, Amount: 1, Period: period, Days: days, Zone: zone, Scope: ScopeProject}
	require.NoError(t, l.Validate())
	return l
}

// TestPeriods: when periods begin and end, where clocks are changed as well.
func TestPeriods(t *testing.T) {
	for _, c := range []struct {
		period           Period
		days             int
		zone             string
		now              string
		from, start, end string
	}{
		{Month, 0, "UTC", "2026-02-28T23:59:59Z", "2026-02-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"},
		{Month, 0, "Europe/Berlin", "2026-03-31T22:30:00Z", "2026-03-31T22:00:00Z", "2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z"},
		{Month, 0, "Europe/Berlin", "2026-03-31T21:59:59Z", "2026-02-28T23:00:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"}, // winter to summer
		{Day, 0, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},   // 23 hours
		{Day, 0, "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},   // 25 hours
		{Week, 0, "America/New_York", "2026-11-01T12:00:00Z", "2026-10-26T04:00:00Z", "2026-10-26T04:00:00Z", "2026-11-02T05:00:00Z"},
		{Week, 0, "UTC", "2026-11-30T00:00:00Z", "2026-11-30T00:00:00Z", "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z"},           // a Monday
		{Day, 0, "Asia/Beirut", "2023-03-26T12:00:00Z", "2023-03-25T22:00:00Z", "2023-03-25T22:00:00Z", "2023-03-26T21:00:00Z"},    // midnight is skipped
		{Day, 0, "America/Havana", "2026-11-01T04:30:00Z", "2026-11-01T04:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"}, // midnight is twice
		{Rolling, 7, "UTC", "2026-03-03T10:00:00Z", "2026-02-25T00:00:00Z", "2026-03-03T00:00:00Z", "2026-03-04T00:00:00Z"},
		{Rolling, 1, "UTC", "2026-03-03T10:00:00Z", "2026-03-03T00:00:00Z", "2026-03-03T00:00:00Z", "2026-03-04T00:00:00Z"},
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		require.NoError(t, err)
		w := budgetOf(t, c.period, c.days, c.zone).WindowAt(now)
		for i, got := range []time.Time{w.From, w.Start, w.End} {
			assert.Equal(t, []string{c.from, c.start, c.end}[i], got.UTC().Format(time.RFC3339), "%s %s %s (%d)", c.period, c.zone, c.now, i)
		}
	}
}

// TestPeriodsFollowEachOther: in every zone that has changed its clocks at midnight, each moment is in a window that holds it, and the next one begins
// where it ends.
func TestPeriodsFollowEachOther(t *testing.T) {
	for _, zone := range []string{
		"UTC", "Europe/Berlin", "America/Sao_Paulo", "America/Havana", "Asia/Beirut", "Africa/Cairo", "Asia/Amman", "America/Asuncion", "Atlantic/Azores",
		"Asia/Tehran", "Pacific/Apia", "Australia/Lord_Howe", "America/Scoresbysund", "Asia/Gaza",
	} {
		for _, period := range []Period{Day, Week, Month, Rolling} {
			days := 0
			if period == Rolling {
				days = 30
			}
			l := budgetOf(t, period, days, zone)
			end := time.Time{}
			for now := time.Date(2010, 12, 1, 0, 7, 0, 0, time.UTC); now.Year() < 2025; now = now.Add(11*time.Hour + 13*time.Minute) {
				w := l.WindowAt(now)
				if !end.IsZero() && !now.Before(end) {
					require.Equal(t, end, w.Start, "%s %s at %s: a gap, or an overlap", zone, period, now)
				}
				require.False(t, now.Before(w.Start) || !now.Before(w.End), "%s %s at %s: [%s, %s)", zone, period, now, w.Start, w.End)
				require.False(t, w.From.After(w.Start))
				end = w.End
			}
		}
	}
}

func TestForecast(t *testing.T) {
	u := Usage{Used: 10, Start: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}
	got, ok := u.Forecast(Month, u.Start.Add(10*24*time.Hour))
	require.True(t, ok)
	require.InDelta(t, 30, got, 0.001)
	_, ok = u.Forecast(Month, u.Start.Add(23*time.Hour))
	require.False(t, ok, "a few hours say nothing")
	_, ok = u.Forecast(Day, u.Start.Add(10*24*time.Hour))
	require.False(t, ok)
}

func TestValidate(t *testing.T) {
	good := Limit{Name: "n", Measure: USD, Amount: 1, Period: Month, Scope: ScopeProject}
	for name, change := range map[string]func(*Limit){
		"name": func(l *Limit) { l.Name = " " }, "measure": func(l *Limit) { l.Measure = "x" }, "amount": func(l *Limit) { l.Amount = -1 },
		"period":    func(l *Limit) { l.Period = Minute },
		"days":      func(l *Limit) { l.Days = 3 },
		"time_zone": func(l *Limit) { l.Zone = "Local" }, "scope": func(l *Limit) { l.Scope = "x" },
		"subject": func(l *Limit) { l.Scope, l.Subject = ScopeKey, "usr_1" }, "contact": func(l *Limit) { l.Contact = "a\nb" },
		"unpriced": func(l *Limit) { l.Measure, l.Unpriced = Tokens, true },
		"soft":     func(l *Limit) { l.Measure, l.Period, l.Soft = Requests, Minute, true },
	} {
		l := good
		change(&l)
		err := l.Validate()
		require.ErrorContains(t, err, "invalid_request", name)
	}
	for _, l := range []Limit{
		good, {Name: "n", Measure: Calls, Amount: 0, Scope: ScopeEachKey}, {Name: "n", Measure: Requests, Period: Minute, Scope: ScopePrompt, Subject: "a/**"},
		{Name: "n", Measure: Tokens, Period: Rolling, Days: 366, Scope: ScopeLabel, Subject: "@model"}, {Name: "n", Measure: USD, Period: Day, Scope: ScopeGroup, Subject: "grp_1"},
	} {
		require.NoError(t, l.Validate())
	}
	for dollars, want := range map[float64]int64{0.000001: 1, 1: 1_000_000, 0.1 + 0.2: 300_000, 1e9: MaxAmount} {
		got, ok := Micros(dollars)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	for _, bad := range []float64{-1, 1e9 + 1, 1e300} {
		_, ok := Micros(bad)
		require.False(t, ok)
	}
}
