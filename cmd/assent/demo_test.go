package main

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// program returns the program with these arguments, to be run in a folder where
// nothing may be written. Its temporary files go to tmp.
func program(t *testing.T, tmp string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.CommandContext(t.Context(), self, args...)
	c.Env = append(os.Environ(), asProgram+"=1", "TMPDIR="+tmp)
	c.Dir = t.TempDir()
	require.NoError(t, os.Chmod(c.Dir, 0o500))
	return c
}

// assent runs the program and returns what it printed and its exit code.
func assent(t *testing.T, tmp string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := program(t, tmp, args...)
	var out, complaints bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaints
	err := c.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return out.String(), complaints.String(), c.ProcessState.ExitCode()
}

func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// R1, R3, R6 from the outside: decided before the kill is delivered after it,
// undecided is rolled back, and nothing is ever split.
func TestDemo(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	stdout, stderr, code := assent(t, tmp, "demo", "--transfers", "60", "--seed", "5")
	require.Equal(t, exitOK, code, "%s%s", stdout, stderr)
	require.Empty(t, stderr)
	require.NotContains(t, stdout, "FAILED")
	require.NotContains(t, stdout, tmp)
	require.Equal(t, 5, strings.Count(stdout, "[ok]"), stdout)
	require.Len(t, regexp.MustCompile(`(?m)^   ok  `).FindAllString(stdout, -1), 7, stdout)
	for _, claim := range []string{
		"1 transaction in doubt, with its decision",
		"asked again by its id: committed",
		"60 more transfers, 8 at a time, and kill -9 again and again (--seed 5)",
		"money is conserved: 8,000 coins before, 8,000 after",
	} {
		require.Contains(t, stdout, claim)
	}
	met := regexp.MustCompile(`kills met a transaction in doubt: (\d+) of 30`).FindStringSubmatch(stdout)
	require.NotNil(t, met, stdout)
	n, err := strconv.Atoi(met[1])
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, 20)
	requireEmpty(t, tmp)
}

// A file of one transfer, which does not ask for too much: what is to be refused
// is made up, and the money goes back and forth.
func TestDemoWithInputKeepsItsFiles(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	input := filepath.Join(tmp, "in.csv")
	require.NoError(t, os.WriteFile(input, []byte("from,to,amount\nboris,agnes,7\n"), 0o600))
	keep := filepath.Join(tmp, "new", "dir")
	stdout, stderr, code := assent(t, tmp, "demo", "--transfers", "50", "--input", input, "--keep", keep)
	require.Equal(t, exitOK, code, "%s%s", stdout, stderr)
	require.Contains(t, stdout, "2  A transfer that agnes cannot pay: agnes -> boris, 1,008")
	require.Contains(t, stdout, "at least half of 50 transfers committed: 50")
	require.Contains(t, stdout, keep)
	for _, name := range []string{"bank_a.db", "bank_b.db", "assent.db", "coordinator.log"} {
		require.FileExists(t, filepath.Join(keep, name))
	}

	stdout, stderr, code = assent(t, tmp, "demo", "--keep", keep)
	require.Equal(t, exitUsage, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "not empty")
}

// A claim that does not hold is named, the exit code tells, and the files stay.
func TestDemoThatProvesTooLittleFails(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	input := filepath.Join(t.TempDir(), "in.csv")
	require.NoError(t, os.WriteFile(input, []byte("from,to,amount\n"+strings.Repeat("alice,bob,9999\n", 9)+"boris,agnes,7\n"), 0o600))
	stdout, stderr, code := assent(t, tmp, "demo", "--transfers", "50", "--input", input)
	require.Equal(t, exitFailed, code, "%s%s", stdout, stderr)
	require.Equal(t, "assent: the proof failed\n", stderr)
	require.Regexp(t, `(?m)^   FAILED +at least half of 50 transfers committed: 5$`, stdout)
	// Where most are refused, chance says how many kills meet one in doubt. That
	// claim aside, all others hold.
	others := regexp.MustCompile(`(?m)^   (ok|FAILED) +at least 20 kills .*$`).ReplaceAllString(stdout, "")
	require.Equal(t, 1, strings.Count(others, "FAILED"), stdout)
	require.Equal(t, 5, strings.Count(others, "   ok   "), stdout)
	kept, err := filepath.Glob(filepath.Join(tmp, "assent-demo-*", "bank_a.db"))
	require.NoError(t, err)
	require.Len(t, kept, 1)
	require.Contains(t, stdout, filepath.Dir(kept[0]))
}

func TestDemoRefusesBadInput(t *testing.T) {
	tmp := t.TempDir()
	input := filepath.Join(t.TempDir(), "in.csv")
	require.NoError(t, os.WriteFile(input, []byte("from,to,amount\nalice,bob,30\nalice,bob,-1\n"), 0o600))
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"malformed file":    {[]string{"demo", "--input", input, "--keep", filepath.Join(tmp, "keep")}, input + ":3:11: amount -1 is not above zero"},
		"missing file":      {[]string{"demo", "--input", "nowhere.csv"}, "nowhere.csv"},
		"too few transfers": {[]string{"demo", "--transfers", "49"}, "--transfers 49 is not 50 to"},
		"too many":          {[]string{"demo", "--transfers", "1000000000"}, "--transfers 1000000000 is not 50 to"},
		"no number":         {[]string{"demo", "--transfers", "many"}, "--transfers"},
		"negative seed":     {[]string{"demo", "--seed", "-1"}, "--seed"},
		"file as folder":    {[]string{"demo", "--keep", input}, input},
		"unknown flag":      {[]string{"demo", "--fast"}, "--fast"},
		"argument":          {[]string{"demo", "fast"}, `"fast"`},
		"unknown command":   {[]string{"dance"}, `"dance"`},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := assent(t, tmp, c.args...)
			require.Equal(t, exitUsage, code, stderr)
			require.Contains(t, stderr, c.says)
			require.Contains(t, stderr, "--help")
			require.Empty(t, stdout)
			requireEmpty(t, tmp)
		})
	}
}

// Ctrl-C, in the third act or the fourth, ends the coordinator and leaves nothing
// behind.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	opens := regexp.MustCompile(`process (\d+) opens the log`)
	for _, at := range []string{"   restart", "4  "} {
		tmp := t.TempDir()
		c := program(t, tmp, "demo", "--transfers", "100000")
		var stderr bytes.Buffer
		c.Stderr = &stderr
		stdout, err := c.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, c.Start())
		child := 0
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if match := opens.FindStringSubmatch(lines.Text()); match != nil {
				child, err = strconv.Atoi(match[1])
				require.NoError(t, err)
			}
			if strings.HasPrefix(lines.Text(), at) {
				require.NoError(t, c.Process.Signal(os.Interrupt))
			}
		}
		require.Error(t, c.Wait())
		require.Equal(t, exitInterrupted, c.ProcessState.ExitCode(), stderr.String())
		require.Equal(t, "assent: interrupted\n", stderr.String())
		requireEmpty(t, tmp)
		require.NotZero(t, child)
		require.ErrorIs(t, syscall.Kill(child, 0), syscall.ESRCH, "the coordinator is gone")
	}
}

// A coordinator whose parent was killed ends by itself.
func TestCoordinatorEndsWithItsParent(t *testing.T) {
	dir := t.TempDir()
	c := program(t, dir, "demo", "coordinator", dir)
	stdin, err := c.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	require.NoError(t, stdin.Close())
	require.NoError(t, c.Wait())
}

func TestCoordinatorSaysWhyItCannotStart(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "assent.db"), 0o700))
	_, stderr, code := assent(t, dir, "demo", "coordinator", dir)
	require.Equal(t, exitDamaged, code)
	require.Contains(t, stderr, "assent.db")
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"demo", "--help"}} {
		stdout, stderr, code := assent(t, t.TempDir(), args...)
		require.Equal(t, exitOK, code)
		require.Empty(t, stderr)
		if len(args) < 2 {
			require.Contains(t, stdout, "Exit codes")
		} else {
			require.Contains(t, stdout, "Examples:")
			require.NotContains(t, stdout, "coordinator dir")
		}
	}
}

func TestVersion(t *testing.T) {
	stdout, _, code := assent(t, t.TempDir(), "version")
	require.Equal(t, exitOK, code)
	require.Regexp(t, `^assent \S+ \(go1\.\d+\S*, \w+/\w+\)\n$`, stdout)
}
