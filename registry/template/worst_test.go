package template

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// object is an object of so many members m0, m1, … with the same value.
func object(members int, value string) json.RawMessage {
	var b strings.Builder
	b.WriteByte('{')
	for i := range members {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"m%d":%s`, i, value)
	}
	b.WriteByte('}')
	return json.RawMessage(b.String())
}

// prints are so many tags that each print another member of u.
func prints(format string, tags int) string {
	var b strings.Builder
	for i := range tags {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func declared(c Content, schema string) Content {
	c.Variables = map[string]Variable{"u": {Schema: json.RawMessage(schema)}}
	return c
}

// worst are the inputs that were found to cost the most, or would without their bounds: what a call may bring against what a version may say.
func worst() map[string]struct {
	content Content
	vars    raws
} {
	deep := repeat(`{"a":`, 63) + `"` + repeat("x", 12<<20) + `"` + repeat("}", 63)
	wide := object(300_000, `"0123456789012345678901234567"`)
	digits := strings.TrimSuffix(repeat("["+repeat("7", 780)+"1e-390],", 16_000), ",")
	nested := `{"enum":[` + strings.TrimSuffix(repeat(repeat("[", 60)+"1"+repeat("]", 60)+",", 300), ",") + `]}`
	variables := Content{Messages: []Message{{Role: "user", Text: prints("{{v%d}}", MaxVariables)}}, Variables: map[string]Variable{}}
	many := raws{}
	for i := range MaxVariables {
		name := fmt.Sprintf("v%d", i)
		variables.Variables[name] = Variable{Schema: json.RawMessage(`{"type":"array","items":{"anyOf":[{"type":"string"},{"type":"number"}]}}`)}
		many[name] = json.RawMessage("[" + repeat("1,", 24_000) + "1]")
	}
	return map[string]struct {
		content Content
		vars    raws
	}{
		"members":             {userSays(prints("{{u.m%d}}", 1990)), raws{"u": object(30_000, `"0123456789"`)}},
		"members, wide":       {declared(userSays(prints("{{u.m%d}}", 1990)), `{}`), raws{"u": wide}},
		"members, deep":       {declared(userSays(prints("{{u.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.m%d}}", 1990)), `{}`), raws{"u": json.RawMessage(deep)}},
		"sections, wide":      {declared(userSays("{{#u}}"+repeat(prints("{{m%d}}", 200), 9)+"{{/u}}"), `{}`), raws{"u": object(190_000, `"0123456789"`)}},
		"sections, deep":      {declared(userSays("{{#u}}"+repeat("{{u.a.a.a.a.a.a.a.a.a.a.b}}", 1990)+"{{/u}}"), `{}`), raws{"u": json.RawMessage(deep)}},
		"sections, long":      {userSays("{{#u}}" + repeat("{{u}}", 1990) + "{{/u}}"), raws{"u": appendString(nil, repeat("x", 9<<20))}},
		"sections, lists":     {userSays("{{#u}}{{#u}}{{#u}}{{#u}}{{x}}{{/u}}{{/u}}{{/u}}{{/u}}"), raws{"u": json.RawMessage("[" + repeat("1,", 9_998) + "1]")}},
		"sections, names":     {userSays(repeat("{{#u}}", 16) + repeat("{{a.b.c.d.e.f.g}}", 1900) + repeat("{{/u}}", 16)), raws{"u": json.RawMessage("[" + repeat("1,", 98) + "1]")}},
		"schema, enum":        {declared(userSays("{{u}}"), `{"items":`+nested+`}`), raws{"u": json.RawMessage("[" + repeat(repeat("[", 60)+"2"+repeat("]", 60)+",", 99_999) + "1]")}},
		"schema, numbers":     {declared(userSays("{{u}}"), `{"items":{"items":{"multipleOf":0.0000001}}}`), raws{"u": json.RawMessage("[" + digits + "]")}},
		"schema, integers":    {declared(userSays("{{u}}"), `{"items":{"items":{"type":"integer"}}}`), raws{"u": json.RawMessage("[" + digits + "]")}},
		"schema, unique":      {declared(userSays("{{u}}"), `{"uniqueItems":true}`), raws{"u": json.RawMessage("[" + strings.TrimSuffix(repeat("["+repeat("1,", 9_000)+"1],", 20), ",") + "]")}},
		"schema, many values": {declared(userSays("{{u}}"), `{"type":["array"]}`), raws{"u": json.RawMessage("[" + repeat("0,", 6<<20) + "0]")}},
		"schema, failing":     {declared(userSays("{{u}}"), `{"items":{"anyOf":[{"type":"string"},{"type":"boolean"},{"minimum":5}]}}`), raws{"u": json.RawMessage("[" + repeat("1,", 38_000) + "1]")}},
		"schema, regex": {declared(userSays("{{u}}"), `{"$schema":"http://json-schema.org/draft-07/schema#","format":"regex"}`),
			raws{"u": appendString(nil, repeat("(a{0,30}){0,30}", 22_000))}},
		"schema, regexes": {declared(userSays("{{u}}"), `{"$schema":"http://json-schema.org/draft-07/schema#","items":{"format":"regex"}}`),
			raws{"u": json.RawMessage("[" + repeat(`"`+repeat("(a{0,30}){0,30}", 60)+`",`, 9_000) + "1]")}},
		"schema, patterns":  {declared(userSays("{{u}}"), `{"items":{"pattern":"(((a{0,30}){0,30}b{0,5})c?)*x"}}`), raws{"u": json.RawMessage("[" + repeat(`"`+repeat("a", 10)+`",`, 9_000) + "1]")}},
		"schemas, together": {variables, many},
		"history":           {Content{Messages: []Message{{Type: TypePlaceholder, Name: "u"}}}, raws{"u": json.RawMessage("[" + strings.TrimSuffix(repeat(`{"role":"user","content":"0123456789"},`, 320_000), ",") + "]")}},
		"parts":             {userSays("{{u}}"), raws{"u": json.RawMessage("[" + strings.TrimSuffix(repeat(`{"type":"text","text":"0123456789"},`, 320_000), ",") + "]")}},
	}
}

// BenchmarkWorst shows what the worst inputs take: none may hold a core for 250 ms.
func BenchmarkWorst(b *testing.B) {
	for name, w := range worst() {
		b.Run(name, func(b *testing.B) {
			c := compiled(b, w.content)
			b.ReportAllocs()
			for b.Loop() {
				if v, err := c.Bind(b.Context(), w.vars, nil); err == nil {
					_, _ = v.AppendMessages(nil, nil)
				}
			}
		})
	}
}
