package servers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMissingProgramNamesItsPackage(t *testing.T) {
	t.Setenv("PATH", filepath.Join(t.TempDir(), "empty"))
	_, err := StartRedis(t.Context())
	require.EqualError(t, err, "no program redis-server: install Debian's package redis-server")
}

func TestHighestVersionIsTaken(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"9.6", "15", "13"} {
		bin := filepath.Join(dir, version, "bin")
		require.NoError(t, os.MkdirAll(bin, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(bin, "a-database"), nil, 0o755))
	}
	path, err := program("a-package", "a-database", filepath.Join(dir, "nothing"), filepath.Join(dir, "*", "bin"))
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "15", "bin", "a-database"), path)
}

// enterable returns a directory that every user may enter.
func enterable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "servers-test-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o711))
	return dir
}

func TestServiceUserMustReachItsDirectory(t *testing.T) {
	other := &owner{name: "a-service", uid: uint32(os.Getuid() + 1)}
	dir := enterable(t)
	require.NoError(t, other.canReach(dir))
	inside := filepath.Join(dir, "inside")
	require.NoError(t, os.Mkdir(inside, 0o711))
	require.NoError(t, os.Chmod(dir, 0o700))
	require.ErrorContains(t, other.canReach(inside), "user a-service can't enter "+dir+" ")
	require.NoError(t, (&owner{uid: uint32(os.Getuid())}).canReach(inside))
}

func TestErrorsQuoteTheEndOfALog(t *testing.T) {
	require.Equal(t, "; it said nothing", quote([]byte("\n")))
	long := quote([]byte(strings.Repeat("line\n", maxQuoted+1) + "last\n"))
	require.Equal(t, maxQuoted, strings.Count(long, "\n"))
	require.True(t, strings.HasSuffix(long, "line\nlast"))

	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, []byte("before\nsince\n"), 0o600))
	require.Equal(t, "; it said:\nsince", logFrom(path, int64(len("before\n"))))
	require.Contains(t, logFrom(path+"-none", 0), "its log can't be read")
}
