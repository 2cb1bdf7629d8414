package logfile

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

var writeGolden = flag.Bool("write-golden", false, "write the golden files that are missing")

const (
	goldens = "../../../testdata/wal"
	// generation names the golden files of today's format of records. A change of it
	// raises it: the old files stay as they are. States have their own, see states.
	generation = "v4"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// addGolden writes a new file. One that is there is never written again.
func addGolden(t *testing.T, name string, content []byte) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(goldens, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	require.NotErrorIs(t, err, fs.ErrExist, "golden files are only ever added")
	require.NoError(t, err)
	_, err = f.Write(content)
	require.NoError(t, errors.Join(err, f.Close()))
}

// withoutReserve cuts off the space that a log's file has for what is to come.
func withoutReserve(content []byte) []byte {
	const unit = 32 << 10
	used := len(bytes.TrimRight(content, "\x00"))
	return content[:min(len(content), (used+unit-1)/unit*unit)]
}

func golden(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(goldens, name))
	require.NoError(t, err)
	return content
}

func exists(name string) bool {
	_, err := os.Stat(filepath.Join(goldens, name))
	return err == nil
}

// A log of any format that was ever written opens, and says what it always said.
func TestGoldenLogs(t *testing.T) {
	if *writeGolden {
		for name, write := range states {
			if name += ".db"; !exists(name) {
				path := filepath.Join(t.TempDir(), "log.db")
				write(t, path)
				content, err := os.ReadFile(path)
				require.NoError(t, err)
				addGolden(t, name, withoutReserve(content))
			}
		}
	}
	logs, err := filepath.Glob(filepath.Join(goldens, "*.db"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(logs), len(states))
	for _, file := range logs {
		name := strings.TrimSuffix(filepath.Base(file), ".db")
		t.Run(name, func(t *testing.T) {
			content := golden(t, name+".db")
			path := filepath.Join(t.TempDir(), "log.db")
			require.NoError(t, os.WriteFile(path, content, 0o600))
			report, err := Examine(t.Context(), path)
			require.NoError(t, err)
			for ending, says := range map[string]string{".dump": dumpOf(t, path), ".state": stateText(report.Contents)} {
				if *writeGolden && !exists(name+ending) {
					addGolden(t, name+ending, []byte(says))
				}
				require.Equal(t, string(golden(t, name+ending)), says)
			}
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, after), "reading changes nothing")
			requireOpens(t, path, report)
		})
	}
}

func dumpOf(t *testing.T, path string) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, Dump(t.Context(), path, &out, DumpOptions{Full: true}))
	return out.String()
}

// stateText is what a coordinator finds in a log.
func stateText(c *wal.Contents) string {
	var b strings.Builder
	fmt.Fprintf(&b, "domain %s\n", c.Domain)
	for _, m := range marksFields(c.Terms) {
		fmt.Fprintln(&b, m.text(true))
	}
	var words fields
	words.add("quarantine", wordFields(c.Words.Quarantine))
	words.add("acceptance", wordFields(c.Words.Acceptance))
	fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("quarantined=%t %s", c.Words.Quarantined(), words.text(true)), " "))
	for _, s := range c.Transactions {
		fmt.Fprintf(&b, "%s %s\n", s.Tx, stateFields(s).text(true))
	}
	return b.String()
}

// requireOpens opens the log for good, after restoring it if it is a snapshot.
func requireOpens(t *testing.T, path string, report *Report) {
	t.Helper()
	if report.File.Snapshot {
		_, err := bolt.Open(path, nil)
		require.ErrorIs(t, err, bolt.ErrSnapshot)
		restored := filepath.Join(t.TempDir(), "restored.db")
		_, err = bolt.Restore(t.Context(), path, restored, bolt.RestoreOptions{Reason: "golden"})
		require.NoError(t, err)
		path = restored
	}
	store, err := bolt.Open(path, &bolt.Options{MapSize: 1 << 20})
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	log, inherited, err := wal.Open(t.Context(), store, wal.Config{Domain: report.Contents.Domain, Retention: math.MaxInt64, RetainBytes: math.MaxInt64})
	require.NoError(t, err)
	defer func() { require.NoError(t, log.Close(t.Context())) }()
	require.Len(t, inherited, len(report.Contents.Transactions))
	for i, want := range report.Contents.Transactions {
		require.Equal(t, want, inherited[i].State)
	}
	require.Equal(t, report.Contents.Terms, log.Terms()[:len(report.Contents.Terms)])
	if !report.File.Snapshot {
		require.Equal(t, report.Contents.Words, log.Words())
	}
}

// A record of any version that was ever written is read as it was meant.
func TestGoldenRecords(t *testing.T) {
	name := generation + "-records.golden"
	if *writeGolden && !exists(name) {
		var b bytes.Buffer
		for _, r := range sampleRecords() {
			frame, err := record.Append(nil, r)
			require.NoError(t, err)
			fmt.Fprintf(&b, "%x %s\n", frame, recordText(r))
		}
		addGolden(t, name, b.Bytes())
	}
	files, err := filepath.Glob(filepath.Join(goldens, "*-records.golden"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	seen := map[record.Kind]bool{}
	for _, file := range files {
		for line := range strings.Lines(string(golden(t, filepath.Base(file)))) {
			digits, says, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			frame, err := hex.DecodeString(digits)
			require.NoError(t, err)
			r, rest, err := record.Next(frame)
			require.NoError(t, err, says)
			require.Empty(t, rest)
			require.Equal(t, says, recordText(r))
			seen[r.Kind()] = true
		}
	}
	for _, r := range sampleRecords() {
		require.True(t, seen[r.Kind()], "no %s record", r.Kind())
	}
}

func recordText(r record.Record) string {
	f := fields{{"kind", r.Kind().String()}}
	f.add("transaction", txText(r.TxID()))
	if h, ok := r.(record.Header); ok {
		f.add("term", h.Term.String())
		f.add("segment", h.Seq)
	}
	return append(f, fieldsOf(r)...).text(true)
}
