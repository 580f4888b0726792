package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const events = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:9: no tmpfs here\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"hidden\n"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p","Elapsed":1}
{"Action":"output","Package":"q","Test":"TestC","Output":"shown\n"}
{"Action":"fail","Package":"q","Test":"TestC"}
{"Action":"fail","Package":"q"}
{"Action":"skip","Package":"empty"}
`

// TestSkipsAreToldAndJudged: a skip is shown with its reason, and fails the run unless the list names it.
func TestSkipsAreToldAndJudged(t *testing.T) {
	var out bytes.Buffer
	r := read(strings.NewReader(events), &out)
	require.ErrorContains(t, r.judge(allowed("# p TestA\np TestOther"), &out), "p TestA")
	require.NoError(t, r.judge(allowed("p TestA # where nothing may be mounted"), &out))
	require.Contains(t, out.String(), "1 tests skipped\n  p TestA: a_test.go:9: no tmpfs here\n")
	require.Contains(t, out.String(), "shown")
	require.NotContains(t, out.String(), "hidden")
	require.Contains(t, out.String(), "FAIL\tq")
	require.Error(t, read(strings.NewReader(""), &out).judge(nil, &out), "a run without tests proves nothing")
}
