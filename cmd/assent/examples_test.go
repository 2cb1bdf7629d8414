package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/remote"
)

// exampleBank is a bank of examples/, in a process of its own.
type exampleBank struct {
	command []string // without the port
	url     string

	mu      sync.Mutex
	process *exec.Cmd
}

// startExample starts the bank of a language; accounts are like "ann=100".
func startExample(t *testing.T, language string, accounts ...string) *exampleBank {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte(scriptSecret+"\n"), 0o600))
	program := map[string][]string{
		"python": {"python3", "examples/python/participant.py"}, "node": {"node", "examples/node/participant.mjs"},
	}[language]
	b := &exampleBank{command: append(program, "--file", filepath.Join(dir, "bank"), "--secret-file", secret)}
	for _, account := range accounts {
		b.command = append(b.command, "--account", account)
	}
	require.NoError(t, b.start("0"))
	t.Cleanup(b.kill)
	return b
}

// start waits until the bank says where it listens.
func (b *exampleBank) start(port string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	command := append(b.command[:len(b.command):len(b.command)], "--port", port)
	b.process = exec.Command(command[0], command[1:]...)
	b.process.Stderr = os.Stderr
	output, err := b.process.StdoutPipe()
	if err == nil {
		err = b.process.Start()
	}
	if err != nil {
		return err
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		return fmt.Errorf("%s ended: %w", strings.Join(command, " "), errors.Join(err, b.process.Wait()))
	}
	b.url = strings.TrimSpace(line)
	return nil
}

func (b *exampleBank) kill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.process.Process.Signal(syscall.SIGKILL)
	_ = b.process.Wait()
}

func (b *exampleBank) restart(context.Context) error {
	at, err := url.Parse(b.url)
	if err != nil {
		return err
	}
	b.kill()
	return b.start(at.Port())
}

// account returns what is in an account and what of that is held; false if there is no
// such account.
func (b *exampleBank) account(ctx context.Context, name string) (cents, held int, exists bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"/accounts/"+name, nil)
	if err != nil {
		return 0, 0, false, err
	}
	request.Close = true // the bank may be killed before the next
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, 0, false, err
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil || response.StatusCode == http.StatusNotFound {
		return 0, 0, false, err
	}
	var is struct{ Cents, Held int }
	return is.Cents, is.Held, true, json.Unmarshal(text, &is)
}

func (b *exampleBank) has(t *testing.T, name string, cents int) {
	t.Helper()
	is, held, _, err := b.account(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, [2]int{cents, 0}, [2]int{is, held}, name)
}

// The examples' participants keep the contract, whoever is killed.
func TestExampleParticipantsKeepTheContract(t *testing.T) {
	if testing.Short() {
		t.Skip("starts interpreters again and again: not in a -short run")
	}
	for language, needed := range map[string]capability.Capability{"python": capability.Python, "node": capability.Node} {
		t.Run(language, func(t *testing.T) {
			capability.Need(t, needed)
			t.Parallel()
			bank := startExample(t, language)
			secret, err := remote.ParseSecret(scriptSecret)
			require.NoError(t, err)
			participanttest.Test(t, participanttest.Subject{
				New: func(context.Context) (participant.Participant, error) {
					return remote.NewHTTP(remote.HTTPConfig{Name: "bank", URL: bank.url, Secrets: []remote.Secret{secret}, Lists: true, Forgets: true})
				},
				// Each branch has an account of its own, which the commit opens.
				Begin: func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
					_, err := tx.Enlist(ctx, p, []byte(uuid.NewString()+" 1"))
					return err
				},
				Refuse: func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
					_, err := tx.Enlist(ctx, p, []byte(uuid.NewString()+" -1"))
					return err
				},
				Visible: func(ctx context.Context, branch participant.Branch) (bool, error) {
					name, _, _ := strings.Cut(string(branch.Data), " ")
					cents, _, exists, err := bank.account(ctx, name)
					if err == nil && exists && cents != 1 {
						err = fmt.Errorf("account %s has %d cents", name, cents)
					}
					return exists, err
				},
				Restart: bank.restart, KeepsEpoch: true,
			})
		})
	}
}

// `assent participant check` finds the examples in order, signatures and a kill included,
// and sees when somebody does not know their secret.
func TestExamplesPassTheCheck(t *testing.T) {
	if testing.Short() {
		t.Skip("starts interpreters again and again: not in a -short run")
	}
	for language, needed := range map[string]capability.Capability{"python": capability.Python, "node": capability.Node} {
		t.Run(language, func(t *testing.T) {
			capability.Need(t, needed, capability.Curl)
			t.Parallel()
			bank := startExample(t, language)
			restarter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := bank.restart(r.Context()); err != nil {
					http.Error(w, err.Error(), http.StatusInternalServerError)
				}
			}))
			defer restarter.Close()
			dir := t.TempDir()
			secret := filepath.Join(dir, "secret")
			require.NoError(t, os.WriteFile(secret, []byte(scriptSecret), 0o600))
			check := append([]string{"participant", "check", bank.url}, "--lists", "--forgets", "--keeps-epoch", "--within", "10s",
				"--data", "{uuid} 1", "--refuse-data", "{uuid} -1", "--visible-url", bank.url+"/accounts/{uuid}")
			signed := append(check, "--secret-file", secret)
			stdout, stderr, code := assent(t, dir, signed...)
			require.Zero(t, code, stdout, stderr)
			require.Contains(t, stdout, " passed, 0 failed, 0 partly, 7 not run\n") // explain, and what kills
			stdout, stderr, code = assent(t, dir, append(signed, "--restart-cmd", "curl -fsS "+restarter.URL,
				"--case", "commit-after-restart", "--case", "repeat-after-restart")...)
			require.Zero(t, code, stdout, stderr)
			require.Contains(t, stdout, "2 passed, 0 failed, 0 partly, 0 not run\n")
			stdout, _, code = assent(t, dir, check...)
			require.Equal(t, exitFailed, code)
			require.Contains(t, stdout, "answers failed: ")
		})
	}
}

// A Python and a Node service commit together, whichever client asks.
func TestExamples(t *testing.T) {
	capability.Need(t, capability.Python, capability.Node, capability.Curl)
	t.Parallel()
	python, node := startExample(t, "python", "ann=100"), startExample(t, "node", "bob=100")
	api := serveExamples(t, python, node)
	run := func(want int, command ...string) string {
		t.Helper()
		c := exec.CommandContext(t.Context(), command[0], command[1:]...)
		var errors bytes.Buffer
		c.Stderr = &errors
		output, err := c.Output()
		require.Equal(t, want, c.ProcessState.ExitCode(), "%v: %v: %s%s", command, err, output, &errors)
		return string(output) + errors.String()
	}
	balances := func(ann, bob int) {
		t.Helper()
		python.has(t, "ann", ann)
		node.has(t, "bob", bob)
	}
	require.Contains(t, run(0, "python3", "examples/python/client.py", "--server", api, "bank_a", "ann -30", "bank_b", "bob 30"), "STATE_COMMITTED")
	balances(70, 130)
	require.Contains(t, run(0, "node", "examples/node/client.mjs", "--server", api, "bank_a", "ann 10", "bank_b", "bob -10"), "STATE_COMMITTED")
	balances(80, 120)
	require.Contains(t, run(0, "sh", "examples/curl/transfer.sh", api, "bank_a", "ann -5", "bank_b", "bob 5"), "STATE_COMMITTED")
	balances(75, 125)
	require.Contains(t, run(7, "python3", "examples/python/client.py", "--server", api, "bank_a", "ann -76", "bank_b", "bob 76"), "insufficient funds")
	require.Contains(t, run(7, "node", "examples/node/client.mjs", "--server", api, "bank_a", "ann 126", "bank_b", "bob -126"), "insufficient funds")
	require.Contains(t, run(1, "python3", "examples/python/client.py", "--server", api, "nobody", "x"), "not_found")
	balances(75, 125)
}

// serveExamples starts a server with both banks and returns its address.
func serveExamples(t *testing.T, a, b *exampleBank) (api string) {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte(scriptSecret), 0o600))
	config := fmt.Sprintf(`domain: examples
log: {path: %s/log.db}
api: {listen: '127.0.0.1:0'}
admin: {listen: '127.0.0.1:0'}
timeouts: {commit_wait: 1m}
participants:
  bank_a: {kind: http, url: '%s', secret_file: %s, lists: true, forgets: true}
  bank_b: {kind: http, url: '%s', secret_file: %s, lists: true, forgets: true}
`, dir, a.url, secret, b.url, secret)
	file := filepath.Join(dir, "assent.yaml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	c := program(t, dir, "serve", "--config", file)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) } // when the test is over
	stderr, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	lines := bufio.NewScanner(stderr)
	for api == "" && lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "api" {
			api = fields[1]
		}
	}
	require.NotEmpty(t, api, "the server ended")
	drained := make(chan struct{})
	go func() { // else it could not print any more
		defer close(drained)
		_, _ = io.Copy(io.Discard, stderr)
	}()
	t.Cleanup(func() {
		<-drained
		require.ErrorIs(t, c.Wait(), context.Canceled)
		require.Zero(t, c.ProcessState.ExitCode())
	})
	return api
}
