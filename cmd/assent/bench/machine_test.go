package bench

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDescribe(t *testing.T) {
	m, err := Describe("")
	require.NoError(t, err)
	require.Equal(t, must(Describe(os.TempDir())), m)
	require.Positive(t, m.CPUs)
	require.Contains(t, m.Go, "go1.")
	for _, text := range []string{m.Processor, m.FileSystem, m.System} {
		require.NotEmpty(t, text)
		require.Contains(t, m.String(), text)
	}
}

func TestMountedAt(t *testing.T) {
	const table = `27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
25 24 0:23 / /dev/shm rw,relatime shared:1 - tmpfs tmpfs rw
30 27 8:1 / /srv rw,relatime shared:1 master:2 - xfs /dev/sdb rw
31 30 8:2 / /srv rw - btrfs /dev/sdc rw
32 27 8:3 / /srv/my\040disk rw - f2fs /dev/sdd rw
half a line
`
	for dir, want := range map[string]string{
		"/": "ext4", "/var/lib": "ext4", "/dev/shm": "tmpfs", "/dev/shm/x": "tmpfs", "/dev/shmoo": "ext4",
		"/srv/a": "btrfs", "/srv/my disk/a": "f2fs",
	} {
		require.Equal(t, want, mountedAt(table, dir), dir)
	}
	require.Equal(t, unknown, mountedAt("", "/"))
}

func TestFullDiskIsRefused(t *testing.T) {
	require.NoError(t, enough("here", spaceNeeded))
	require.ErrorContains(t, enough("here", spaceNeeded-1), "here has 1023 MiB free")
}
