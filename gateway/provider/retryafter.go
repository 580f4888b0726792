package provider

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// RetryAfter reads how long a provider wants to be left alone: OpenAI's retry-after-ms, else Retry-After in seconds or as an HTTP
// date seen from now. ok is false when it says nothing that can be understood; a date that has passed is 0 and ok.
func RetryAfter(h http.Header, now time.Time) (d time.Duration, ok bool) {
	if d, ok := duration(h.Get("Retry-After-Ms"), time.Millisecond); ok {
		return d, true
	}
	text := strings.TrimSpace(h.Get("Retry-After"))
	if d, ok := duration(text, time.Second); ok {
		return d, true
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}

// duration reads a number, whole or not, of units; more than a day counts as a day.
func duration(text string, unit time.Duration) (time.Duration, bool) {
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || n != n || n < 0 {
		return 0, false
	}
	const longest = 24 * time.Hour
	if n >= float64(longest/unit) {
		return longest, true
	}
	return time.Duration(n * float64(unit)), true
}
