// Package syscalltest proves R1 from outside: it traces the system calls of a real
// process, a coordinator on wal/bolt, and finds in the trace alone that no byte of a
// fan-out begins to enter a socket or a participant's file before the fdatasync that
// it depends on has returned.
package syscalltest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/wal/record"
)

func TestMain(m *testing.M) {
	if orders := os.Getenv(ordersEnv); orders != "" {
		if err := child(orders); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// traced runs a process and checks its trace.
func traced(t *testing.T, o orders) *checker {
	t.Helper()
	capability.Need(t, capability.Strace)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	received := serve(t, listener)
	o.Dir, o.Address = t.TempDir(), listener.Addr().String()
	text, err := json.Marshal(o)
	require.NoError(t, err)
	trace := filepath.Join(t.TempDir(), "trace")
	// -xx and -s: every byte; -yy: what a file descriptor is.
	command := exec.CommandContext(t.Context(), "strace", "-f", "-qq", "-yy", "-xx", "-s", "1048576", "-o", trace, "-e", "signal=none",
		"-e", "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg,sendfile,splice,fsync,fdatasync", os.Args[0])
	command.Env = append(os.Environ(), ordersEnv+"="+string(text))
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s", output)

	file, err := os.Open(trace)
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	all, err := events(file)
	require.NoError(t, err)
	c := newChecker(filepath.Join(o.Dir, logFile), o.Force)
	require.NoError(t, c.run(all))

	// The trace is whole: what arrived was seen to leave.
	require.Equal(t, int(<-received), sum(c.told["TCP"]))
	for name, target := range map[string]string{bankFile: filepath.Join(o.Dir, bankFile), clientFile: filepath.Join(o.Dir, clientFile)} {
		lines, err := os.ReadFile(target)
		require.NoError(t, err)
		require.Equal(t, strings.Count(string(lines), "\n"), sum(c.told[target]), name)
	}
	require.Len(t, c.ends, o.Clients*o.Each)
	return c
}

// serve answers each line of one connection, and tells in the end how many there
// were.
func serve(t *testing.T, listener net.Listener) <-chan int64 {
	received := make(chan int64, 1)
	var n atomic.Int64
	go func() {
		defer func() { received <- n.Load() }()
		connection, err := listener.Accept()
		if err != nil {
			return // the test has failed
		}
		defer func() { _ = connection.Close() }()
		for lines := bufio.NewScanner(connection); lines.Scan(); n.Add(1) {
			if _, err := connection.Write([]byte("ok\n")); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
	return received
}

func sum(counts map[string]int) (n int) {
	for _, count := range counts {
		n += count
	}
	return n
}

// R1: begun, enlisted and preparing are durable before a Prepare leaves, the decision
// before a Commit or Rollback, completed before a Forget; and no client is told
// anything that a crash could take back.
func TestR1NothingLeavesBeforeItsFsync(t *testing.T) {
	for name, force := range map[string]bool{"as usual": false, "every transition forced": true} {
		t.Run(name, func(t *testing.T) {
			c := traced(t, orders{Clients: 16, Each: 8, Force: force})
			require.Empty(t, c.violations[:min(5, len(c.violations))])
			t.Logf("%d transactions, %d commits and %d fdatasyncs of the log; told: %v", len(c.ends), c.commits, c.syncs, c.told)
			for w, commit := range c.commitOf {
				require.Equal(t, 2, c.syncsOf[commit], "fdatasyncs of the commit with %v", w)
			}
			for tx, end := range c.ends {
				verbs := c.verbs[tx]
				switch end {
				case committed:
					require.Positive(t, verbs["commit"]+verbs["one-phase"], tx)
				case rolledBack:
					require.Positive(t, verbs["rollback"], tx)
				case unchanged:
					require.Equal(t, 2, verbs["prepare"], tx)
				}
			}
			for _, verb := range []string{"prepare", "commit", "rollback", "one-phase", "forget"} {
				require.Positive(t, c.told["TCP"][verb], verb)
			}
		})
	}
}

// The same checker finds a process out whose log says "durable" too early.
func TestR1AnEarlyAnswerOfTheLogIsFound(t *testing.T) {
	c := traced(t, orders{Clients: 1, Each: 16, Liar: true})
	for _, verb := range []string{"prepare", "one-phase", "commit", "rollback", "forget", committed, rolledBack} {
		found := 0
		for _, v := range c.violations {
			if strings.HasPrefix(v, verb+" ") {
				found++
			}
		}
		require.Positive(t, found, "%s before its fsync was not found among %q", verb, c.violations)
	}
}

// A forced write is one commit of bbolt, two fdatasyncs. A transaction that is
// committed alone takes two forced writes and so four fdatasyncs; its completion rides
// with the next one's. With ForceEveryTransition each record has a commit of its own.
func TestFdatasyncsOfALoneTransaction(t *testing.T) {
	for name, c := range map[string]struct {
		force  bool
		forced []record.Kind
	}{
		"as usual": {false, []record.Kind{record.KindPreparing, record.KindDecided}},
		"every transition forced": {true, []record.Kind{
			record.KindBegun, record.KindEnlisted, record.KindEnlisted, record.KindPreparing, record.KindDecided, record.KindCompleted,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			seen := traced(t, orders{Clients: 1, Each: 16, Force: c.force})
			require.Empty(t, seen.violations[:min(5, len(seen.violations))])
			lone := 0
			for tx, end := range seen.ends {
				if end != committed || seen.verbs[tx]["commit"] != 2 {
					continue
				}
				lone++
				require.Equal(t, 2*len(c.forced), seen.fdatasyncs(t, tx, c.forced), "transaction %s", tx)
			}
			require.Equal(t, 4, lone)
		})
	}
}

// fdatasyncs are those of the commits in which these records became durable.
func (c *checker) fdatasyncs(t *testing.T, tx participant.TxID, kinds []record.Kind) (n int) {
	commits := map[int]bool{}
	number := 0
	for _, kind := range kinds {
		w := what{tx: tx, kind: kind}
		switch kind {
		case record.KindEnlisted:
			w.number = number
			number++
		case record.KindDecided:
			w.decision = record.DecisionCommit
		default:
		}
		commit, ok := c.commitOf[w]
		require.True(t, ok, "%s", kind)
		commits[commit] = true
	}
	for commit := range commits {
		n += c.syncsOf[commit]
	}
	return n
}
