package policy_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// What a key holds bounds what deciding costs, by whichever of its lists it grows.
func TestKeysAreBounded(t *testing.T) {
	many := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("n%d", i))
		}
		return list
	}
	two := []policy.Action{policy.ActionRead, policy.ActionCall}
	for name, c := range map[string]struct {
		grants []policy.Grant
		ok     bool
	}{
		"as many as may be": {[]policy.Grant{{Actions: two, Prompts: many(20), Labels: many(100)}}, true},
		"labels":            {[]policy.Grant{{Actions: two, Prompts: many(20), Labels: many(101)}}, false},
		"patterns":          {[]policy.Grant{{Actions: two, Prompts: many(2001)}}, false},
		"models":            {[]policy.Grant{{Actions: two, Models: many(2001)}}, false},
		"grants":            {make([]policy.Grant, 101), false},
	} {
		for i := range c.grants {
			if len(c.grants[i].Actions) == 0 {
				c.grants[i] = policy.Grant{Actions: two, Prompts: []string{"a"}}
			}
		}
		err := (&policy.KeyRecord{Name: "x", Grants: c.grants}).Validate()
		if c.ok {
			assert.NoError(t, err, name)
		} else {
			assert.Equal(t, fault.InvalidRequest, fault.CodeOf(err), name)
		}
	}
}
