package bolt

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNamesAreCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	check := func(want uint32) {
		links, known := countNames(f)
		if runtime.GOOS == "linux" {
			require.True(t, known)
			require.Equal(t, want, links)
		}
		require.Equal(t, want == 0, unlinked(f))
	}
	check(1)
	require.NoError(t, os.Link(path, path+".second"))
	check(2)
	require.NoError(t, os.Remove(path))
	check(1)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Rename(path, path+".second"))
	check(0)
}
