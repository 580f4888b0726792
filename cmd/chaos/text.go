package main

import (
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// codeOf is the code in an error's body.
func codeOf(body []byte) string {
	var envelope struct{ Error struct{ Code string } }
	if json.Unmarshal(body, &envelope) != nil || envelope.Error.Code == "" {
		return "without a code"
	}
	return envelope.Error.Code
}

var ports = regexp.MustCompile(`127\.0\.0\.1:\d+(->)?`)

// shorten leaves of an error what makes it the same as others of its kind.
func shorten(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return strings.TrimSpace(ports.ReplaceAllString(err.Error(), ""))
}

// message is the text of a log line in JSON, with its error.
func message(logged string) string {
	var l struct{ Level, Msg, Error, Err string }
	if json.Unmarshal([]byte(logged), &l) != nil {
		return logged
	}
	if e := l.Error + l.Err; e != "" {
		return l.Level + " " + l.Msg + ": " + ports.ReplaceAllString(e, "…")
	}
	return l.Level + " " + l.Msg
}
