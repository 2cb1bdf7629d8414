package main

import (
	"bufio"
	"encoding/json"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Who watches sees the whole life of a transaction, and ends when he likes.
func TestWatchShowsTransactions(t *testing.T) {
	t.Parallel()
	printed, end := startDev(t, t.TempDir())
	api, _, _ := urls(t, printed)
	watch := program(t, t.TempDir(), "tx", "watch", "--server", api, "-o", "json")
	watch.Stderr = os.Stderr
	output, err := watch.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, watch.Start())
	type event struct {
		Kind        string
		Transaction string `json:"transaction_id"`
		Decision    string
	}
	events := make(chan event)
	go func() {
		defer close(events)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				events <- e
			}
		}
	}()
	submit := func() string {
		stdout, stderr, code := assent(t, t.TempDir(), "tx", "submit", "bank_a=-1", "bank_b=1", "--server", api, "-o", "json")
		require.Equal(t, exitOK, code, stderr)
		var answer event
		require.NoError(t, json.Unmarshal([]byte(stdout), &answer))
		return answer.Transaction
	}
	// Until it watches there is nothing to be seen.
	for watching := false; !watching; {
		submit()
		select {
		case <-events:
			watching = true
		default:
		}
	}
	id := submit()
	seen := map[string]int{}
	for seen["finished"] == 0 {
		e, ok := <-events
		require.True(t, ok, "it ended")
		if e.Transaction == id {
			seen[e.Kind]++
		}
	}
	require.Equal(t, 1, seen["begun"], seen)
	require.Equal(t, 2, seen["enlisted"], seen)
	require.Equal(t, 2, seen["voted"], seen)
	require.Equal(t, 1, seen["decided"], seen)
	require.NoError(t, watch.Process.Signal(syscall.SIGINT))
	for range events { // until it has ended
	}
	require.Error(t, watch.Wait())
	require.Equal(t, exitInterrupted, watch.ProcessState.ExitCode())
	end()
}
