package wire_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/wire"
)

func TestText(t *testing.T) {
	var b wire.Body
	require.NoError(t, b.Scan([]byte(`{"a":"plain","b":"\u00e4\n","c":"","d":null,"e":7,"f":["x"]}`)))
	for name, want := range map[string]string{"a": "plain", "b": "ä\n", "c": "", "d": "", "e": "", "f": "", "missing": ""} {
		require.Equal(t, want, b.Text(name), name)
	}
}
