package syscalltest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// The checker sees each way in which a Prepare can leave too early. A call is
// written as one word, or as its beginning ( and its return ); ! is a failure.
func TestCheckerSeesEachWayToBeEarly(t *testing.T) {
	for _, c := range []struct {
		calls string
		sound bool
		why   string
	}{
		{"page sync meta sync send", true, "bbolt's order"},
		{"page sync meta sync( sync) send( send)", true, "the same"},
		{"page sync meta sync page sync meta sync send", true, "the page is written again"},
		{"page sync meta sync page send", true, "and is not durable anew yet"},
		{"send", false, "nothing was written"},
		{"sync meta sync send", false, "nothing was written"},
		{"page send sync meta sync", false, "only written"},
		{"page sync send meta sync", false, "no meta page names it"},
		{"page sync meta send sync", false, "the meta page is not synced"},
		{"page sync meta sync( send sync)", false, "the fdatasync has not returned"},
		{"page sync meta sync( send( sync) send)", false, "a byte may leave before it returns"},
		{"page meta sync send", false, "the meta page may be on disk without what it names"},
		{"page sync( meta sync) sync send", false, "the same"},
		{"meta page sync sync send", false, "the meta page is older"},
		{"page( sync page) meta sync send", false, "the fdatasync began before the write returned"},
		{"page sync meta( sync meta) send", false, "the same, of the meta page"},
		{"page sync meta other send", false, "of another file"},
		{"page! sync meta sync send", false, "the write was cut short"},
		{"page sync! meta sync send", false, "an fdatasync failed"},
		{"page sync meta! sync send", false, "the write of the meta page failed"},
		{"page sync meta sync! send", false, "an fdatasync failed"},
	} {
		t.Run(c.calls, func(t *testing.T) {
			all, err := events(strings.NewReader(traceOf(t, c.calls)))
			require.NoError(t, err)
			checker := newChecker("/log", false)
			require.NoError(t, checker.run(all))
			require.Equal(t, c.sound, len(checker.violations) == 0, "%s: %v", c.why, checker.violations)
			require.Equal(t, 1, checker.told["TCP"]["prepare"])
		})
	}
}

// A Prepare needs every one of its records, a decision the right one.
func TestCheckerNeedsEachRecord(t *testing.T) {
	b := participant.Branch{Domain: "test", Tx: participant.TxID{Term: participant.NewTerm(1, 1), UUID: uuid.UUID{1}}}
	c := newChecker("/log", true)
	for verb, n := range map[string]int{
		"prepare": 3, "one-phase": 3, "commit": 1, "rollback": 1, "forget": 1,
		began: 1, enlisted: 1, committed: 2, unchanged: 2, rolledBack: 1,
	} {
		require.Len(t, c.needed(verb, b), n, verb)
	}
	c.branches[b.Tx] = 4
	require.Len(t, c.needed("prepare", b), 6, "of every branch")
	require.NotEqual(t, c.needed("commit", b), c.needed("rollback", b))
}

func TestATraceThatIsNotUnderstoodIsRefused(t *testing.T) {
	for _, text := range []string{
		`no system call`,
		`1  <... write resumed>) = 5`,
		`1  write(1<pipe:[1]>, "\x41"..., 10) = 10`,
		`1  pwrite64(5<\x2f>, "\x41", 1`,
		`1  fdatasync(5<\x2f>) ?`,
	} {
		_, err := events(strings.NewReader(text + "\n"))
		require.Error(t, err, text)
	}
}

// traceOf writes a trace as strace does.
func traceOf(t *testing.T, calls string) string {
	tx := participant.TxID{Term: participant.NewTerm(1, 1), UUID: uuid.UUID{1}}
	page := []byte("what is before the first record")
	for _, r := range []record.Record{
		record.Begun{Tx: tx, At: time.Now()}, record.Enlisted{Tx: tx, Participant: "wire"}, record.Preparing{Tx: tx},
	} {
		var err error
		page, err = record.Append(page, r)
		require.NoError(t, err)
	}
	line := "prepare " + string(participant.Branch{Domain: "test", Tx: tx}.XID()) + "\n"
	pwrite := func(data string, offset int) string {
		return fmt.Sprintf(`pwrite64(5<%s>, "%s", %d, %d`, hex("/log"), hex(data), len(data), offset)
	}
	arguments := map[string]string{
		"page":  pwrite(string(page), 16384),
		"meta":  pwrite("meta", 4096),
		"sync":  fmt.Sprintf(`fdatasync(5<%s>`, hex("/log")),
		"other": fmt.Sprintf(`fdatasync(6<%s>`, hex("/other")),
		"send":  fmt.Sprintf(`write(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "%s", %d`, hex(line), len(line)),
	}
	results := map[string]int{"page": len(page), "meta": len("meta"), "send": len(line)}
	var trace strings.Builder
	for _, call := range strings.Fields(calls) {
		word := strings.TrimRight(call, "()!")
		name, _, _ := strings.Cut(arguments[word], "(")
		thread := 1 + strings.Index("page meta sync other send", word)
		switch call[len(word):] {
		case "(":
			fmt.Fprintf(&trace, "%d  %s <unfinished ...>\n", thread, arguments[word])
		case ")":
			fmt.Fprintf(&trace, "%d  <... %s resumed>) = %d\n", thread, name, results[word])
		case "!":
			fmt.Fprintf(&trace, "%d  %s) = -1 EIO (Input/output error)\n", thread, arguments[word])
		default:
			fmt.Fprintf(&trace, "%d  %s) = %d\n", thread, arguments[word], results[word])
		}
	}
	return trace.String()
}

func hex(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, `\x%02x`, s[i])
	}
	return b.String()
}
