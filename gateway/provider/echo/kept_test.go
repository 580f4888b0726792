package echo_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/echo"
)

// TestKept: what an echo was asked to keep it shows, lists, goes on from and forgets.
func TestKept(t *testing.T) {
	p := echo.New(echo.Options{})
	ask := func(method, endpoint, query, body string) (int, gjson.Result) {
		t.Helper()
		resp, err := p.Do(context.Background(), &provider.Request{API: provider.APIResponses, Method: method, Endpoint: endpoint, Query: query, Body: []byte(body)})
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.True(t, gjson.ValidBytes(b), "%s", b)
		return resp.Status, gjson.ParseBytes(b)
	}
	ok := func(method, endpoint, query, body string) gjson.Result {
		t.Helper()
		status, got := ask(method, endpoint, query, body)
		require.Equal(t, 200, status, "%s", got.Raw)
		return got
	}
	const first = `{"model":"m","input":"one","background":%v}`
	begun := ok("", "responses", "", fmt.Sprintf(first, true))
	require.Equal(t, "queued", begun.Get("status").Str)
	require.Empty(t, begun.Get("output").Array())
	id := begun.Get("id").Str
	require.NotEqual(t, id, ok("", "responses", "", fmt.Sprintf(first, true)).Get("id").Str, "ids are their makers'")
	now := ok("GET", "responses/"+id, "", "")
	require.Equal(t, "completed", now.Get("status").Str)
	require.True(t, now.Get("background").Bool())
	require.Contains(t, now.Get("output.0.content.0.text").Str, "one")
	require.Equal(t, "one", ok("GET", "responses/"+id+"/input_items", "", "").Get("data.0.content.0.text").Str)
	second := ok("", "responses", "", `{"model":"m","input":[{"role":"user","content":"two"}],"previous_response_id":"`+id+`"}`)
	require.Contains(t, second.Get("output.0.content.0.text").Str, "3 messages")
	require.True(t, ok("DELETE", "responses/"+id, "", "").Get("deleted").Bool())
	for _, what := range [][2]string{{"GET", ""}, {"DELETE", ""}, {"", "/cancel"}, {"GET", "/input_items"}} {
		status, _ := ask(what[0], "responses/"+id+what[1], "", "")
		require.Equal(t, 404, status, what)
	}
	status, _ := ask("", "responses", "", `{"model":"m","input":"x","previous_response_id":"`+id+`"}`)
	require.Equal(t, 400, status)
	unkept := ok("", "responses", "", `{"model":"m","input":"x","store":false}`)
	status, _ = ask("GET", "responses/"+unkept.Get("id").Str, "", "")
	require.Equal(t, 404, status)

	require.Equal(t, int64(2), ok("", "responses/input_tokens", "", `{"model":"m","input":"two words","stream":true}`).Get("input_tokens").Int())
	shorter := ok("", "responses/compact", "", `{"model":"m","input":"a long story"}`)
	require.Equal(t, "response.compaction", shorter.Get("object").Str)
	require.Equal(t, "compaction", shorter.Get("output.1.type").Str)

	conv := ok("", "conversations", "", `{"items":[{"role":"user","content":"a"},{"id":"mine","type":"message","role":"user","content":"b"}],"metadata":{"k":"v"}}`)
	require.Equal(t, "v", conv.Get("metadata.k").Str)
	in := conv.Get("id").Str
	require.Contains(t, ok("", "responses", "", `{"model":"m","input":"c","conversation":{"id":"`+in+`"}}`).Get("output.0.content.0.text").Str, "3 messages")
	list := ok("GET", "conversations/"+in+"/items", "order=asc", "")
	require.Len(t, list.Get("data").Array(), 4)
	require.Equal(t, "mine", list.Get("data.1.id").Str)
	paged := ok("GET", "conversations/"+in+"/items", "order=asc&limit=1&after="+list.Get("first_id").Str, "")
	require.Equal(t, "mine", paged.Get("data.0.id").Str)
	require.True(t, paged.Get("has_more").Bool())
	require.Equal(t, "b", ok("GET", "conversations/"+in+"/items/mine", "", "").Get("content").Str)
	ok("DELETE", "conversations/"+in+"/items/mine", "", "")
	require.Len(t, ok("", "conversations/"+in+"/items", "", `{"items":[{"role":"user","content":"d"}]}`).Get("data").Array(), 1)
	require.Equal(t, "w", ok("", "conversations/"+in, "", `{"metadata":{"k":"w"}}`).Get("metadata.k").Str)
	require.Len(t, ok("GET", "conversations/"+in+"/items", "", "").Get("data").Array(), 4)
	require.True(t, ok("DELETE", "conversations/"+in, "", "").Get("deleted").Bool())
	for _, what := range [][3]string{{"GET", "conversations/" + in, ""}, {"GET", "conversations/x/items/y", ""}, {"PUT", "responses/x/y/z", ""}, {"GET", "files/x", ""}} {
		status, _ := ask(what[0], what[1], "", what[2])
		require.Equal(t, 404, status, what)
	}
	for _, body := range []string{`{`, `{"items":5}`, `{"items":[5]}`} {
		status, _ := ask("", "conversations", "", body)
		require.Equal(t, 400, status, body)
	}
	status, _ = ask("", "responses", "", `{"model":"m","input":"x","conversation":"none"}`)
	require.Equal(t, 400, status)

	oldest := ok("", "conversations", "", `{}`).Get("id").Str
	for range 1000 {
		ok("", "conversations", "", `{}`)
	}
	status, _ = ask("GET", "conversations/"+oldest, "", "")
	require.Equal(t, 404, status, "memory is bounded")
}

// TestKeptIsBounded: what an echo keeps takes no more memory than it has bytes for, whether it is many things or one that grows.
func TestKeptIsBounded(t *testing.T) {
	p := echo.New(echo.Options{})
	ask := func(method, endpoint, body string) (int, gjson.Result) {
		t.Helper()
		resp, err := p.Do(context.Background(), &provider.Request{API: provider.APIResponses, Method: method, Endpoint: endpoint, Body: []byte(body)})
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.Status, gjson.ParseBytes(b)
	}
	long := `"` + strings.Repeat("x", 1<<20) + `"`
	var ids []string
	for range 40 {
		status, got := ask("", "responses", `{"model":"m","max_output_tokens":1,"input":`+long+`}`)
		require.Equal(t, 200, status)
		ids = append(ids, got.Get("id").Str)
	}
	for i, want := range map[int]int{0: 404, 39: 200} {
		status, _ := ask("GET", "responses/"+ids[i], "")
		require.Equal(t, want, status, "response %d", i)
	}
	_, small := ask("", "conversations", `{}`)
	_, grows := ask("", "conversations", `{}`)
	grown := 0
	for status := 200; status == 200 && grown < 70; grown++ {
		status, _ = ask("", "conversations/"+grows.Get("id").Str+"/items", `{"items":[{"role":"user","content":`+long+`}]}`)
	}
	require.Less(t, grown, 64)
	status, _ := ask("GET", "conversations/"+small.Get("id").Str, "")
	require.Equal(t, 404, status, "the oldest goes first")
	_, next := ask("", "conversations", `{"items":[{"role":"user","content":"x"}]}`)
	status, _ = ask("GET", "conversations/"+next.Get("id").Str, "")
	require.Equal(t, 200, status, "and there is room again")
}
