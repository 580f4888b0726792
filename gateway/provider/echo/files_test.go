package echo_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/echo"
)

// TestFilesAndBatches: an echo keeps what it is sent, answers a batch line by line into two files, and forgets the oldest where there is too much.
func TestFilesAndBatches(t *testing.T) {
	p := echo.New(echo.Options{})
	ask := func(api, method, endpoint, body string) (int, string) {
		t.Helper()
		res, err := p.Do(t.Context(), &provider.Request{API: api, Method: method, Endpoint: endpoint, Body: []byte(body),
			Header: http.Header{"Content-Type": {"multipart/form-data; boundary=b"}}})
		require.NoError(t, err)
		said, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.Status, string(said)
	}
	upload := func(purpose, content string) string {
		t.Helper()
		status, said := ask("files", "", "files", "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n"+purpose+
			"\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n"+content+"\r\n--b--\r\n")
		require.Equal(t, 200, status, said)
		require.Equal(t, int64(len(content)), gjson.Get(said, "bytes").Int())
		return gjson.Get(said, "id").Str
	}
	id := upload("user_data", "x\r\ny")
	_, content := ask("files", "GET", "files/"+id+"/content", "")
	require.Equal(t, "x\r\ny", content)
	status, _ := ask("files", "DELETE", "files/"+id, "")
	require.Equal(t, 200, status)
	for _, path := range []string{id, id + "/content"} {
		status, _ = ask("files", "GET", "files/"+path, "")
		require.Equal(t, 404, status, path)
	}
	for _, body := range []string{"", "--b--\r\n", "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--b--\r\n"} {
		status, _ = ask("files", "", "files", body)
		require.Equal(t, 400, status, body)
	}

	line := func(id, body string) string {
		return `{"custom_id":"` + id + `","method":"POST","url":"/v1/embeddings","body":` + body + "}\n"
	}
	in := upload("batch", line("one", `{"model":"m","input":"a b"}`)+line("two", `{"model":"m"}`)+line("three", `{"model":"m","input":"c"}`))
	batch := `{"input_file_id":"` + in + `","endpoint":"/v1/embeddings","metadata":{"k":"v"}}`
	status, made := ask("batches", "", "batches", batch)
	require.Equal(t, 200, status, made)
	require.Equal(t, "completed", gjson.Get(made, "status").Str)
	require.Equal(t, `{"total":3,"completed":2,"failed":1}`, gjson.Get(made, "request_counts").Raw)
	require.Equal(t, int64(3), gjson.Get(made, "usage.input_tokens").Int())
	_, out := ask("files", "GET", "files/"+gjson.Get(made, "output_file_id").Str+"/content", "")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 2)
	require.Equal(t, "three", gjson.Get(lines[1], "custom_id").Str)
	require.Len(t, gjson.Get(lines[1], "response.body.data").Array(), 1)
	_, bad := ask("files", "GET", "files/"+gjson.Get(made, "error_file_id").Str+"/content", "")
	require.Equal(t, []any{"two", int64(400)}, []any{gjson.Get(bad, "custom_id").Str, gjson.Get(bad, "response.status_code").Int()})
	for _, how := range [][2]string{{"GET", ""}, {"", "/cancel"}} {
		_, now := ask("batches", how[0], "batches/"+gjson.Get(made, "id").Str+how[1], "")
		require.Equal(t, made, now)
	}
	for _, body := range []string{"", `{}`, strings.Replace(batch, in, "file-none", 1), strings.Replace(batch, "embeddings", "responses", 1)} {
		status, _ = ask("batches", "", "batches", body)
		require.Equal(t, 400, status, body)
	}
	status, _ = ask("batches", "GET", "batches/none", "")
	require.Equal(t, 404, status)

	large := strings.Repeat("x", 40<<20)
	first := upload("user_data", large)
	second := upload("user_data", large)
	status, _ = ask("files", "GET", "files/"+first, "")
	require.Equal(t, 404, status, "the oldest gives way")
	status, _ = ask("files", "GET", "files/"+second, "")
	require.Equal(t, 200, status)
}
