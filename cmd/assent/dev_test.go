package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant/participanttest/capability"
)

// startDev starts `assent dev` at any ports and returns what it printed and how to
// end it.
func startDev(t *testing.T, tmp string) (printed string, end func() (stderr string)) {
	t.Helper()
	c := program(t, tmp, "dev", "--port", "0")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	output, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	var text strings.Builder
	lines := bufio.NewReader(output)
	for !strings.Contains(text.String(), "an interrupt ends the server") {
		line, err := lines.ReadString('\n')
		text.WriteString(line)
		require.NoError(t, err, "%s%s", &text, &stderr)
	}
	return text.String(), func() string {
		require.NoError(t, c.Process.Signal(syscall.SIGINT))
		_, err := io.Copy(io.Discard, lines)
		require.NoError(t, err)
		require.NoError(t, c.Wait(), &stderr)
		return stderr.String()
	}
}

// urls returns the addresses of the api, bank_a and bank_b.
func urls(t *testing.T, printed string) (api, bankA, bankB string) {
	t.Helper()
	match := regexp.MustCompile(`(?s)API +(\S+).*bank_a +(\S+).*bank_b +(\S+)`).FindStringSubmatch(printed)
	require.NotNil(t, match, printed)
	return match[1], match[2], match[3]
}

// shell runs what a user pastes and returns what it prints.
func shell(t *testing.T, commands string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "sh", "-ec", commands)
	c.Stderr = os.Stderr
	output, err := c.Output()
	require.NoError(t, err, "%s: %s", commands, output)
	return string(output)
}

const movedThirty = `^\{"transactionId":\s*"[^"]+",\s*"state":\s*"STATE_COMMITTED"\}\s*\{"bank":"bank_a","balance":70,"prepared":0\}\s*\{"bank":"bank_b","balance":130,"prepared":0\}\s*$`

// What dev prints to be tried works as it is, and nothing is left of it.
func TestDevPrintsWhatWorks(t *testing.T) {
	capability.Need(t, capability.Curl)
	t.Parallel()
	tmp := t.TempDir()
	printed, end := startDev(t, tmp)
	require.Contains(t, printed, "DEVELOPMENT ONLY")
	_, curls, found := strings.Cut(printed, "look at them:\n")
	require.True(t, found, printed)
	curls, _, found = strings.Cut(curls, "\nexport ")
	require.True(t, found, printed)
	require.Regexp(t, movedThirty, shell(t, strings.ReplaceAll(curls, "curl ", "curl -sS ")))
	require.Regexp(t, `^api +http://127\.0\.0\.1:\d+ .*\nadmin +http://127\.0\.0\.1:\d+ .*\n$`, end())
	requireEmpty(t, tmp)
}

// README's lines, but for the ports: others may have them here.
func TestReadmeCurlsCommitATransaction(t *testing.T) {
	capability.Need(t, capability.Curl)
	t.Parallel()
	readme := string(read(t, "README.md"))
	curls := regexp.MustCompile(`(?m)^curl .*$`).FindAllString(readme, -1)
	require.Len(t, curls, 3)
	printed, end := startDev(t, t.TempDir())
	api, bankA, bankB := urls(t, printed)
	text := strings.NewReplacer(
		"curl ", "curl -sS ", "http://127.0.0.1:7379", api, "http://127.0.0.1:7381", bankA, "http://127.0.0.1:7382", bankB,
	).Replace(strings.Join(curls, "\n"))
	require.NotContains(t, text, ":738")
	require.Regexp(t, movedThirty, shell(t, text))
	end()
}

// README's configuration is one.
func TestReadmeConfigurationIsValid(t *testing.T) {
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(string(read(t, "README.md")))
	require.NotNil(t, block)
	path := filepath.Join(t.TempDir(), "assent.yaml")
	require.NoError(t, os.WriteFile(path, []byte(block[1]), 0o600))
	stdout, stderr, code := assent(t, t.TempDir(), "config", "validate", "--config", path)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "in order")
}
