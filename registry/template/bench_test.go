package template

import (
	"encoding/json"
	"testing"
)

func benchmark(b *testing.B, c Content, vars raws, caller string) {
	out, err := Compile(c, nil)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 16<<10)
	raw := []byte(caller)
	b.ReportAllocs()
	for b.Loop() {
		values, err := out.Bind(b.Context(), vars, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := values.AppendMessages(buf, raw); err != nil {
			b.Fatal(err)
		}
	}
}

func triage(text string) Content {
	return Content{Messages: []Message{
		{Role: "system", Text: "You are a support agent. " + repeat("Follow the rules of the house. ", 30)},
		{Role: "user", Text: text},
	}}
}

const caller = `[{"role":"user","content":"and in French, please"}]`

func BenchmarkRenderPlain(b *testing.B) {
	benchmark(b, triage("Ticket: {{ticket}}\nCustomer: {{name}}"), values("ticket", `"My card was charged twice, and I want it back"`, "name", `"Ada"`), caller)
}

func BenchmarkRenderDeclaredSchema(b *testing.B) {
	c := triage("Ticket: {{ticket}}")
	c.Variables = map[string]Variable{"ticket": {Required: true, Schema: json.RawMessage(`{"type":"string","minLength":1}`)}}
	benchmark(b, c, values("ticket", `"My card was charged twice, and I want it back"`), caller)
}

func BenchmarkRenderObjectLeaf(b *testing.B) {
	benchmark(b, triage("{{o}}"), values("o", `{"a": 1, "b": ["x", "y"]}`), caller)
}

func BenchmarkRenderSections(b *testing.B) {
	benchmark(b, triage("{{#items}}- {{name}}: {{price}}\n{{/items}}"), values("items", `[{"name":"a","price":1.5},{"name":"b","price":2}]`), caller)
}

func BenchmarkRenderLongValue(b *testing.B) {
	benchmark(b, triage("{{x}}"), raws{"x": appendString(nil, repeat("Ein längerer Text mit Umlauten.\n", 1000))}, caller)
}

func BenchmarkCompile(b *testing.B) {
	c := triage("Ticket: {{ticket}}\nCustomer: {{name}}")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(c, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDigest(b *testing.B) {
	c := triage("Ticket: {{ticket}}")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Digest(); err != nil {
			b.Fatal(err)
		}
	}
}
