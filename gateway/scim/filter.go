package scim

import (
	"regexp"
	"strings"

	parser "github.com/scim2/filter-parser/v2"

	"github.com/promptgate/promptgate/policy"
)

const (
	maxFilter = 2000 // bytes
	maxNodes  = 50   // comparisons in a filter
)

// parseFilter reads a filter (RFC 7644, 3.4.2.2) of what we keep.
func parseFilter(s string) (f policy.Filter, err error) {
	if strings.TrimSpace(s) == "" {
		return policy.Filter{}, nil
	}
	if len(s) > maxFilter || strings.Count(s, "(") > maxNodes {
		return f, problem(400, "invalidFilter", "The filter is too long.")
	}
	// Entra chooses among addresses in a way that the RFC has for paths alone.
	s = regexp.MustCompile(`(?i)\bemails\[type eq "\w*"\]\.value\b`).ReplaceAllString(s, "emails.value")
	parsed, err := parser.ParseFilter([]byte(s))
	if err != nil {
		return f, problem(400, "invalidFilter", "The filter cannot be read: write it like userName eq \"ana@example.com\".")
	}
	nodes := 0
	return translated(parsed, "", &nodes)
}

func translated(e parser.Expression, under string, nodes *int) (f policy.Filter, err error) {
	if *nodes++; *nodes > maxNodes {
		return f, problem(400, "invalidFilter", "The filter compares too much.")
	}
	switch e := e.(type) {
	case *parser.LogicalExpression:
		var both [2]policy.Filter
		for i, side := range []parser.Expression{e.Left, e.Right} {
			if both[i], err = translated(side, under, nodes); err != nil {
				return f, err
			}
		}
		if e.Operator == parser.AND {
			return policy.Filter{And: both[:]}, nil
		}
		return policy.Filter{Or: both[:]}, nil
	case *parser.NotExpression:
		inner, err := translated(e.Expression, under, nodes)
		return policy.Filter{Not: &inner}, err
	case *parser.ValuePath: // emails[type eq "work" and value eq "…"]
		return translated(e.ValueFilter, strings.ToLower(e.AttributePath.AttributeName), nodes)
	case *parser.AttributeExpression:
		return comparison(e, under)
	}
	return f, problem(400, "invalidFilter", "The filter cannot be read.")
}

// spellings are the attributes that filters can be about, as they are sent.
func spelling(name string) (at policy.FilterAttribute, always, ok bool) {
	switch name {
	case "id":
		return policy.FilterID, false, true
	case "username":
		return policy.FilterUserName, false, true
	case "externalid":
		return policy.FilterExternal, false, true
	case "emails", "emails.value":
		return policy.FilterEmail, false, true
	case "active":
		return policy.FilterActive, false, true
	case "displayname":
		return policy.FilterDisplayName, false, true
	case "members", "members.value":
		return policy.FilterMember, false, true
	case "emails.type", "emails.primary": // an account has one address
		return "", true, true
	}
	return "", false, false
}

func comparison(e *parser.AttributeExpression, under string) (policy.Filter, error) {
	name := strings.ToLower(e.AttributePath.AttributeName)
	if sub := e.AttributePath.SubAttributeName(); sub != "" {
		name += "." + strings.ToLower(sub)
	}
	if under != "" {
		name = under + "." + name
	}
	at, always, ok := spelling(name)
	switch {
	case !ok:
		return policy.Filter{}, problem(400, "invalidFilter", "Filters are about id, userName, externalId, emails.value, active, displayName and members.value.")
	case always:
		return policy.Filter{}, nil
	}
	c := policy.Comparison{Attribute: at, Op: strings.ToLower(string(e.Operator))}
	switch v := e.CompareValue.(type) {
	case string:
		c.Text = v
		if at == policy.FilterActive { // as Entra spells it
			c.Bool, ok = truth(v)
		}
	case bool:
		c.Bool, ok = v, at == policy.FilterActive
	case nil:
		ok = c.Op == "pr"
	default:
		ok = false
	}
	if !ok {
		return policy.Filter{}, problem(400, "invalidFilter", "%s is not compared with such a value.", string(at))
	}
	return policy.Filter{Is: &c}, nil
}

// truth reads a truth value that was sent as a word.
func truth(s string) (is, ok bool) {
	switch strings.ToLower(s) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}
