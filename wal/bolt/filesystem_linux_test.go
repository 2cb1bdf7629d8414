package bolt

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/assent-tm/assent/participant/participanttest/capability"
)

// warned returns options and what is logged with them.
func warned() (*Options, *observer.ObservedLogs) {
	core, logs := observer.New(zap.WarnLevel)
	return &Options{MapSize: smallMap.MapSize, Logger: zap.New(core)}, logs
}

// A network can't be had in a test: what statfs would say is given.
func TestNetworkFileSystemsAreRefusedUnlessTold(t *testing.T) {
	networks := 0
	for magic, fs := range fileSystems {
		opts, logs := warned()
		err := fs.judge("a/log", opts)
		if fs.copies {
			require.NoError(t, err)
			require.Zero(t, logs.Len())
			continue
		}
		if !fs.network {
			require.NoError(t, err)
			require.Equal(t, 1, logs.FilterMessageSnippet(fs.risk).Len(), "%x", magic)
			continue
		}
		networks++
		require.ErrorIs(t, err, ErrNetworkFS)
		require.ErrorContains(t, err, fs.name)
		require.ErrorContains(t, err, "AllowNetworkFS")
		require.Zero(t, logs.Len())
		opts.AllowNetworkFS = true
		require.NoError(t, fs.judge("a/log", opts))
		require.Equal(t, 1, logs.Len())
	}
	require.Greater(t, networks, 10)
	require.Equal(t, "NFS", fileSystems[0x6969].name)
}

// On real mounts: a warning says what is at risk, and the log opens.
func TestFileSystemsWithoutADiskAreWarnedOf(t *testing.T) {
	capability.Need(t, capability.Mount)
	at := t.TempDir()
	for _, name := range []string{"lower", "upper", "work"} {
		require.NoError(t, os.Mkdir(filepath.Join(at, name), 0o700))
	}
	for _, kind := range []struct{ name, options, risk string }{
		{"tmpfs", "size=64m", "a reboot loses the log"},
		{"ramfs", "", "a reboot loses the log"},
		{"overlay", "lowerdir=" + at + "/lower,upperdir=" + at + "/upper,workdir=" + at + "/work", "container"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			if kind.name == "overlay" {
				on, err := fileSystemOf(at)
				require.NoError(t, err)
				if on.name != "" {
					t.Logf("not applicable: an overlay can't lie on %s", on.name)
					return
				}
			}
			dir := t.TempDir()
			require.NoError(t, syscall.Mount("assent-test", dir, kind.name, 0, kind.options))
			t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
			opts, logs := warned()
			s, err := Open(filepath.Join(dir, "log"), opts)
			require.NoError(t, err)
			stream := openTerm(t, s)
			appendTo(t, stream, 1)
			_, err = stream.Reserve(1 << 20)
			require.NoError(t, err, "also where nobody can say what is free")
			require.NoError(t, s.Close())
			require.Equal(t, 1, logs.Len())
			require.Contains(t, logs.All()[0].Message, kind.risk)
			require.Equal(t, kind.name, logs.All()[0].ContextMap()["file_system"])
		})
	}
}

// A disk of the machine's own is nothing to speak of.
func TestADiskIsNotWarnedOf(t *testing.T) {
	capability.Need(t, capability.Mount, capability.Loop)
	d := mounted(t, mountExt4, 64<<20)
	opts, logs := warned()
	s, err := Open(d.path(), opts)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Zero(t, logs.Len())
}
