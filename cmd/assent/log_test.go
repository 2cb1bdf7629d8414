package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

// ordersLog makes a log with n transactions that are decided and not told, and as
// many outcomes. The log stays open.
func ordersLog(t *testing.T, path string, n int) (log *wal.Log, closeAll func()) {
	t.Helper()
	store, err := bolt.Open(path, &bolt.Options{MapSize: 1 << 20})
	require.NoError(t, err)
	log, _, err = wal.Open(t.Context(), store, wal.Config{Domain: "orders", Owner: "shop:1"})
	require.NoError(t, err)
	for i := range 2 * n {
		orderTransaction(t, log, byte(i+1), i < n)
	}
	return log, func() { require.NoError(t, errors.Join(log.Close(t.Context()), store.Close())) }
}

func orderTransaction(t *testing.T, log *wal.Log, number byte, inDoubt bool) {
	t.Helper()
	id := participant.TxID{Term: log.Term(), UUID: uuid.UUID{number}}
	place, at := log.NewPlace(id), time.Now()
	records := []record.Record{
		record.Begun{Tx: id, At: at},
		record.Enlisted{Tx: id, Participant: "bank_a", Data: []byte("account 17 of a customer")},
		record.Preparing{Tx: id},
		record.Decided{Tx: id, Decision: record.DecisionCommit, Votes: []participant.Vote{participant.VotePrepared}, By: record.NoBranch},
	}
	if !inDoubt {
		records = append(records, record.Completed{Tx: id, At: at})
	}
	batch, err := log.Append(place, true, records...)
	require.NoError(t, err)
	<-batch.Done()
	require.NoError(t, batch.Err())
}

// succeeds runs the program, which must not complain.
func succeeds(t *testing.T, args ...string) (stdout string) {
	t.Helper()
	stdout, stderr, code := assent(t, t.TempDir(), args...)
	require.Equal(t, exitOK, code, stderr)
	require.Empty(t, stderr)
	return stdout
}

// object runs the program with -o json.
func object(t *testing.T, args ...string) (o map[string]any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(succeeds(t, append(args, "-o", "json")...)), &o))
	return o
}

// R10, as an operator does it: back up, lose, restore, accept.
func TestOperatorRestoresALog(t *testing.T) {
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "assent.db"), filepath.Join(dir, "monday.db")
	_, closeAll := ordersLog(t, path, 3)
	closeAll()

	require.Contains(t, succeeds(t, "log", "verify", path), path+" is in order")
	require.Contains(t, succeeds(t, "log", "snapshot", path, backup), backup+" is in order")
	require.Equal(t, "snapshot", object(t, "log", "stat", backup)["state"])
	_, err := bolt.Open(backup, nil)
	require.ErrorIs(t, err, bolt.ErrSnapshot)

	_, stderr, code := assent(t, dir, "log", "restore", backup, path)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "--force")
	require.False(t, quarantined(t, path))

	out := succeeds(t, "log", "restore", backup, path, "--force", "--reason", "the disk failed")
	require.Contains(t, out, "in quarantine")
	require.Contains(t, out, "assent log accept "+path)
	replaced, err := filepath.Glob(path + ".replaced-*")
	require.NoError(t, err)
	require.Len(t, replaced, 1)
	require.Contains(t, out, replaced[0])
	require.Contains(t, succeeds(t, "log", "verify", replaced[0]), "in order")
	require.True(t, quarantined(t, path))
	table := succeeds(t, "log", "stat", path)
	require.Regexp(t, `(?m)^quarantine +on: .*the disk failed`, table)
	require.Regexp(t, `(?m)^in doubt +3: 3 committed, 0 rolled back, 0 undecided$`, table)
	require.Regexp(t, `(?m)^retained +3 outcomes$`, table)

	out = succeeds(t, "log", "accept", path, "--reason", "compared with bank_a")
	require.Contains(t, out, "its quarantine is over")
	require.Contains(t, out, "are rolled back")
	require.False(t, quarantined(t, path))
	stat := object(t, "log", "stat", path)
	require.Equal(t, "compared with bank_a", stat["acceptance"].(map[string]any)["reason"])
	require.Equal(t, float64(3), stat["in_doubt"])
	require.Equal(t, float64(3), stat["retained"])
}

func quarantined(t *testing.T, path string) bool {
	t.Helper()
	return object(t, "log", "stat", path)["quarantined"] == true
}

func TestLogDump(t *testing.T) {
	path := filepath.Join(t.TempDir(), "assent.db")
	log, closeAll := ordersLog(t, path, 2)
	closeAll()
	table := succeeds(t, "log", "dump", path)
	require.Equal(t, 1+1+2*(1+4)+2*(1+5), strings.Count(table, "\n"), "titles, the header of Open, and 4 segments with header and records:\n%s", table)
	require.NotRegexp(t, `(?m) $`, table)
	require.Contains(t, table, `participant=bank_a data=6163636f756e74203137206f66206120…(24 bytes)`)
	require.Contains(t, succeeds(t, "log", "dump", path, "--full"), "data=6163636f756e74203137206f66206120637573746f6d6572")

	id := participant.TxID{Term: log.Term(), UUID: uuid.UUID{4}}
	var kinds []string
	for lines := bufio.NewScanner(strings.NewReader(succeeds(t, "log", "dump", path, "-o", "json", "--tx", id.String()))); lines.Scan(); {
		var line struct{ Kind, Transaction, Term, Data string }
		require.NoError(t, json.Unmarshal(lines.Bytes(), &line))
		require.Equal(t, id.String(), line.Transaction)
		require.Equal(t, log.Term().String(), line.Term)
		if line.Kind == "enlisted" {
			require.Len(t, line.Data, 2*24)
		}
		kinds = append(kinds, line.Kind)
	}
	require.Equal(t, []string{"begun", "enlisted", "preparing", "decided", "completed"}, kinds)

	id.UUID[0] = 99
	_, stderr, code := assent(t, t.TempDir(), "log", "dump", path, "--tx", id.String())
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "no record of this transaction")
}

// A coordinator at work is not disturbed: what reads needs no lock, and what writes
// is refused and says by whom the log is used.
func TestLogCommandsBesideACoordinator(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "assent.db"), filepath.Join(dir, "other.db")
	log, closeAll := ordersLog(t, path, 2)
	_, closeOther := ordersLog(t, other, 1)
	closeOther()
	before, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, args := range [][]string{{"verify", path}, {"dump", path}, {"stat", path}} {
		succeeds(t, append([]string{"log"}, args...)...)
	}
	require.Equal(t, "open", object(t, "log", "stat", path)["state"])
	for _, args := range [][]string{
		{"compact", path},
		{"accept", path, "--reason", "why"},
		{"restore", other, path, "--force"},
	} {
		_, stderr, code := assent(t, dir, append([]string{"log"}, args...)...)
		require.Equal(t, exitFailed, code, args)
		require.Contains(t, stderr, fmt.Sprintf("held by process %d; stop it first", os.Getpid()), args)
	}
	after, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Equal(t, names(before), names(after))
	orderTransaction(t, log, 200, true)
	require.NoError(t, log.Err())
	closeAll()
	require.Equal(t, float64(3), object(t, "log", "stat", path)["in_doubt"])
}

func names(entries []os.DirEntry) (names []string) {
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestLogCompact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "assent.db")
	_, closeAll := ordersLog(t, path, 60)
	closeAll()
	was := succeeds(t, "log", "dump", path)
	sizes := object(t, "log", "compact", path)
	require.Less(t, sizes["bytes_after"], sizes["bytes_before"])
	require.Equal(t, was, succeeds(t, "log", "dump", path))
	require.Contains(t, succeeds(t, "log", "compact", path), fmt.Sprintf("%v bytes now", sizes["bytes_after"]))
}

func TestLogThatIsDamagedOrNone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "assent.db")
	_, closeAll := ordersLog(t, path, 2)
	closeAll()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	damaged, foreign := filepath.Join(dir, "damaged.db"), filepath.Join(dir, "foreign.db")
	at := strings.Index(string(content), "account 17")
	content[at] ^= 1
	require.NoError(t, os.WriteFile(damaged, content, 0o600))
	require.NoError(t, os.WriteFile(foreign, []byte(strings.Repeat("text\n", 99)), 0o600))
	for file, says := range map[string]string{damaged: "damaged", foreign: "not a bbolt file", filepath.Join(dir, "none"): "no such file"} {
		exit := exitDamaged
		if says == "no such file" {
			exit = exitFailed
		}
		for _, args := range [][]string{
			{"verify", file},
			{"dump", file},
			{"stat", file},
			{"snapshot", file, filepath.Join(dir, "copy")},
			{"restore", file, filepath.Join(dir, "restored")},
			{"accept", file, "--reason", "why"},
			{"compact", file},
		} {
			stdout, stderr, code := assent(t, dir, append([]string{"log"}, args...)...)
			require.Equal(t, exit, code, args)
			require.Empty(t, stdout, args)
			require.Contains(t, stderr, file, args)
			require.Contains(t, stderr, says, args)
		}
		stdout, stderr, code := assent(t, dir, "log", "verify", file, "-o", "json")
		require.Equal(t, exit, code)
		var fault struct {
			Message  string
			ExitCode int `json:"exit_code"`
		}
		require.NoError(t, json.Unmarshal([]byte(stderr), &fault))
		require.Contains(t, fault.Message, says)
		require.Equal(t, exit, fault.ExitCode)
		var answer struct {
			OK    *bool
			Error string
		}
		require.NoError(t, json.Unmarshal([]byte(stdout), &answer))
		require.False(t, *answer.OK)
		require.Contains(t, answer.Error, says)
	}
	require.NoFileExists(t, filepath.Join(dir, "copy"))
	require.NoFileExists(t, filepath.Join(dir, "restored"))
}

func TestLogCommandsRefuseWrongUsage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "assent.db")
	_, closeAll := ordersLog(t, path, 1)
	closeAll()
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no file":       {[]string{"verify"}, "want FILE, got 0 arguments"},
		"no copy":       {[]string{"snapshot", path}, "want FILE and DEST, got 1 arguments"},
		"two files":     {[]string{"dump", path, path}, "want FILE, got 2 arguments"},
		"output":        {[]string{"stat", path, "-o", "xml"}, "want table or json"},
		"transaction":   {[]string{"dump", path, "--tx", "17"}, "--tx"},
		"no reason":     {[]string{"accept", path}, "--reason is missing"},
		"long reason":   {[]string{"accept", path, "--reason", strings.Repeat("x", 513)}, "--reason has 513 bytes"},
		"not over that": {[]string{"snapshot", path, path}, "already exists"},
		"unknown":       {[]string{"shred", path}, `"shred"`},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := assent(t, t.TempDir(), append([]string{"log"}, c.args...)...)
			require.Equal(t, exitUsage, code, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, c.says)
			require.Contains(t, stderr, "--help")
		})
	}
	require.Contains(t, succeeds(t, "log"), "quarantine")
	for _, command := range []string{"verify", "dump", "stat", "snapshot", "restore", "accept", "compact"} {
		require.Contains(t, succeeds(t, "log", command, "--help"), "Examples:\n  assent log "+command)
	}
}
