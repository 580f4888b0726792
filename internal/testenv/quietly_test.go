package testenv_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestInstallingLeavesThePolicyAlone: whatever policy for starting services a machine has, it has it again after packages were installed, when
// that failed, and when an earlier run was killed.
func TestInstallingLeavesThePolicyAlone(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy-rc.d")
	quietly := func(script string) error {
		cmd := exec.Command("../../.ci/quietly", "sh", "-c", script)
		cmd.Env = append(os.Environ(), "POLICY_RC_D="+policy)
		return cmd.Run()
	}
	inForce := `"$POLICY_RC_D"; [ $? = 101 ]`
	require.NoError(t, quietly(inForce))
	require.NoFileExists(t, policy)

	require.NoError(t, os.WriteFile(policy, []byte("#!/bin/sh\nexit 7\n"), 0o640))
	same := func() {
		t.Helper()
		raw, err := os.ReadFile(policy)
		require.NoError(t, err)
		require.Equal(t, "#!/bin/sh\nexit 7\n", string(raw))
		info, err := os.Stat(policy)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o640), info.Mode())
	}
	require.NoError(t, quietly(inForce))
	same()
	require.Error(t, quietly("exit 3"))
	same()
	require.Error(t, quietly("kill -TERM $PPID; exit 3"))
	same()
	require.Error(t, quietly("kill -KILL $PPID; sleep 0.1")) // puts nothing back
	require.NoError(t, quietly(inForce))                     // the next one does
	same()

	require.NoError(t, os.Remove(policy))
	require.NoError(t, os.Symlink("/nonexistent/elsewhere", policy))
	require.NoError(t, quietly("true"))
	to, err := os.Readlink(policy)
	require.NoError(t, err)
	require.Equal(t, "/nonexistent/elsewhere", to)
}
