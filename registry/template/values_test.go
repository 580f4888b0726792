package template

import (
	"context"
	"encoding/json"

	"github.com/promptgate/promptgate/internal/schemacost"
)

// CheckVariables is Bind for its judgement.
func (c *Compiled) CheckVariables(vars raws, known func(string) bool) error {
	_, err := c.Bind(context.Background(), vars, known)
	return err
}

// AppendMessages binds variables, whatever else is given, and renders.
func (c *Compiled) AppendMessages(dst []byte, vars raws, caller []byte) ([]byte, error) {
	values, err := c.Bind(context.Background(), vars, func(string) bool { return true })
	if err != nil {
		return dst, err
	}
	return values.AppendMessages(dst, caller)
}

// Render binds variables and renders to neutral parts.
func (c *Compiled) Render(vars raws) ([]Rendered, error) {
	values, err := c.Bind(context.Background(), vars, nil)
	if err != nil {
		return nil, err
	}
	return values.Render()
}

// compileOne compiles a schema that stands alone.
func compileOne(text string) (*schema, error) {
	budget := schemacost.NewBudget()
	s, err := compileSchema(json.RawMessage(text), budget)
	budget.Seal()
	return s, err
}

func (s *schema) holds(value string) error {
	meter := schemacost.NewMeter()
	return s.check(json.RawMessage(value), &meter)
}
