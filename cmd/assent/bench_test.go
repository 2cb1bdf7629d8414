package main

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/cmd/assent/bench"
)

// short is the least that can be measured.
var short = []string{"bench", "--rounds", "1", "--slice", "5ms", "--only", "disk"}

func TestBenchTable(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	stdout, stderr, code := assent(t, tmp, short...)
	require.Equal(t, exitOK, code, stderr)
	require.Regexp(t, `^\d+ x .+, .+, go1\.\S+\n\nFIGURE +VALUE +UNIT +AIM +MET +WHAT\ndisk\.floor +[0-9.]+ +us `, stdout)
	require.Regexp(t, `\n\nnone of these figures has an aim\n$`, stdout)
	require.Regexp(t, `^disk: round 1 of 1 \(\d+s, about \d+s left\)\n$`, stderr)
	requireEmpty(t, tmp)
}

// A file that was there is replaced.
func TestBenchPlot(t *testing.T) {
	t.Parallel()
	tmp, dir := t.TempDir(), fastDir(t)
	plot := filepath.Join(tmp, "plot.svg")
	require.NoError(t, os.WriteFile(plot, make([]byte, 1<<20), 0o600))
	stdout, stderr, code := assent(t, tmp, append(short, "--dir", dir, "--plot", plot, "-o", "json")...)
	require.Equal(t, exitOK, code, stderr)
	var report bench.Report
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.Equal(t, report.Machine.InMemory(), strings.HasPrefix(stderr, "warning: no disk is measured: tmpfs makes nothing durable"))
	require.Len(t, report.Figures, 1)
	require.Len(t, report.Clients, 6)
	drawn, err := os.ReadFile(plot)
	require.NoError(t, err)
	want, err := bench.Plot(report, "svg")
	require.NoError(t, err)
	require.Equal(t, string(want), string(drawn))
	requireEmpty(t, dir)
}

// fastDir is in memory if it can be: a thousand clients that wait for a db.Update
// each take a minute on a slow disk.
func fastDir(t *testing.T) string {
	t.Helper()
	if m, err := bench.Describe("/dev/shm"); err != nil || !m.InMemory() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "assent-test-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func TestBenchWrongUsage(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	for want, args := range map[string][]string{
		`--output "xml": want table, json or markdown`:        {"-o", "xml"},
		"--quick sets --rounds and --slice: give either":      {"--quick", "--slice", "1s"},
		"--rounds -1 and --slice 400ms must be positive":      {"--rounds", "-1"},
		`--only "nix": no figure's name begins so`:            {"--only", "nix"},
		"--dir: stat /nix/da: no such file or directory":      {"--dir", "/nix/da"},
		"--plot: x.gif: a plot's name ends in .svg or .png":   {"--plot", "x.gif"},
		"--plot: open /nix/x.svg: no such file or directory":  {"--plot", "/nix/x.svg"},
		`unexpected argument "now"`:                           {"now"},
		"--only \"x\": no figure's name begins so; there are": {"--only", "x", "--plot", filepath.Join(tmp, "x.svg")},
	} {
		stdout, stderr, code := assent(t, tmp, append([]string{"bench"}, args...)...)
		require.Equal(t, exitUsage, code, stderr)
		require.Contains(t, stderr, want)
		require.Contains(t, stderr, "See 'assent bench --help'.")
		require.Empty(t, stdout)
		requireEmpty(t, tmp)
	}
}

func TestBenchInterrupted(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	c := program(t, tmp, "bench", "--slice", "1h", "--plot", filepath.Join(tmp, "plot.png"))
	stderr, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	lines := bufio.NewScanner(stderr)
	require.True(t, lines.Scan())
	require.Contains(t, lines.Text(), "disk: round 1 of 7 (0s, about ")
	require.NoError(t, c.Process.Signal(syscall.SIGINT))
	require.True(t, lines.Scan())
	require.Equal(t, "assent: interrupted", lines.Text())
	require.False(t, lines.Scan())
	require.Error(t, c.Wait())
	require.Equal(t, exitInterrupted, c.ProcessState.ExitCode())
	requireEmpty(t, tmp)
}
