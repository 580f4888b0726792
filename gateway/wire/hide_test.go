package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHiddenErrors: what an error says is hidden however long it is, however it comes, and however many there are; every other event passes byte for byte.
func TestHiddenErrors(t *testing.T) {
	plain := map[API][]string{
		Chat{}: {
			`data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}` + "\n\n",
			`data: {"id":"c","error":null,"choices":[{"index":0,"delta":{"content":"` + strings.Repeat("long ", 4000) + `"}}]}` + "\n\n",
		},
		Messages{}: {
			"event: message_start\ndata: " + `{"type":"message_start","message":{"id":"m","content":[],"usage":{"input_tokens":1},"more":"` + strings.Repeat("x", 9000) + `"}}` + "\n\n",
			"event: content_block_delta\ndata: " + `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}` + "\n\n",
		},
	}
	for api, events := range plain {
		for _, size := range []int{0, 5_000, 50_000} {
			pad := strings.Repeat("CANARY ", size/7)
			for _, bad := range []string{
				`data: {"error":{"message":"CANARY ` + pad + `","type":"t","param":"CANARY","more":{"CANARY":[1]}}}`, `data: {"error":"CANARY` + pad + `"}`,
				"event: error\ndata: " + `{"type":"error","message":"CANARY` + pad + `","param":"CANARY","error":{"type":"t","message":"CANARY"}}`,
				"event: error\ndata: " + `{"detail":"CANARY` + pad + `","type":"odd"}`, `data: {"type":"error","detail":["CANARY` + pad + `"],"error":{"code":"c"}}`,
				"event: error\r\ndata: " + `{"pad":"` + strings.ReplaceAll(pad, "CANARY", "x") + `","error":{"message":"CANARY"}}`,
			} {
				bad += "\n\n"
				for _, piece := range []int{1, 7, 4096, 8192, 1 << 20} {
					var s StreamScanner
					s.Reset(api, false)
					s.HideErrors = true
					var got strings.Builder
					feed := func(text string) {
						for len(text) > 0 {
							n := min(piece, len(text))
							for _, out := range s.Feed([]byte(text[:n]), nil) {
								got.Write(out)
							}
							text = text[n:]
						}
					}
					feed(strings.Join(events, ""))
					require.Equal(t, strings.Join(events, ""), got.String())
					require.Nil(t, s.Result().Error)
					for range 2 {
						feed(bad)
					}
					for _, out := range s.Finish(nil) {
						got.Write(out)
					}
					require.NotContains(t, got.String(), "CANARY", "%s %d %d", api.Name(), size, piece)
					require.NotNil(t, s.Result().Error)
				}
			}
		}
	}
}
