package bolt

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/waltest"
)

// appendSome uses a log twice, and says when something is durable.
func appendSome(s *Store) error {
	ctx, path := context.Background(), s.path
	var stream wal.Stream
	seq := uint64(0)
	for round := range 2 {
		fmt.Println("durable")
		var err error
		if round == 0 {
			stream, err = s.Open(ctx, "child")
		} else {
			stream, err = s.TakeOver(ctx, stream.Term(), "child")
		}
		for range 20 {
			if err != nil {
				return err
			}
			fmt.Println("durable")
			seq++
			var drop []uint64
			if seq > keep {
				drop = []uint64{seq - keep}
			}
			err = stream.Append(ctx, seq, waltest.Segment(int(seq), 3000, 100), drop)
		}
		if err == nil {
			err = s.Close()
		}
		fmt.Println("durable")
		if err == nil && round == 0 {
			s, err = Open(path, smallMap)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// R1, R5: the system calls of a real process, traced: each commit is one fdatasync
// after all its writes and before anyone is told; and whatever part of the writes
// that were not synced by then a power cut leaves, at any of them, the log is as
// after some commit between the last one told and the last one begun.
func TestR1R5ATornCommitOfATracedProcess(t *testing.T) {
	capability.Need(t, capability.Strace)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	path := filepath.Join(t.TempDir(), "log")
	s, err := Open(path, singleSync)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	r := &replayer{T: t, random: rand.New(rand.NewPCG(seed, 0)), durable: read(t, path)}
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command("strace", "-f", "-xx", "-s", "100000", "-o", trace,
		"-e", "trace=openat,close,pwrite64,fdatasync,fsync,ftruncate,write", os.Args[0], path)
	cmd.Env = append(os.Environ(), childEnv+"=some", singleSyncEnv+"=1")
	out, err := cmd.CombinedOutput()
	require.NoErrorf(t, err, "%s", out)

	r.look()
	f, err := os.Open(trace)
	require.NoError(t, err)
	r.replay(f, path)
	require.NoError(t, f.Close())
	require.Equal(t, read(t, path), r.durable, "what was replayed isn't what was written")
	t.Logf("%d images of %d commits with %d fdatasyncs: %d stepped back", r.images, len(r.states)-1, r.syncs, r.torn)
	// Two rounds: begin and two marks of the end with two syncs, 21 commits with one.
	require.Equal(t, 1+2*(3+21), len(r.states))
	require.Equal(t, 2*(3*2+21), r.syncs)
	require.Positive(t, r.torn)
}

// replayer does to an image what a process did to a file.
type replayer struct {
	*testing.T
	random  *rand.Rand
	fd      string
	durable []byte
	waiting []write // since the last sync

	states       []state // of each commit, in order
	told         int     // index of the last one that somebody was told of
	images, torn int
	syncs        int
}

type write struct {
	at   int64
	data []byte
}

// traced matches a call that is finished, at its end or at once.
var traced = regexp.MustCompile(`^(\d+) +(\w+)\((.*)\) += (-?\d+)`)

func (r *replayer) replay(trace *os.File, path string) {
	quoted := `"` + hexed([]byte(path)) + `"`
	unfinished := map[string]string{}
	lines := bufio.NewScanner(trace)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		pid, rest, _ := strings.Cut(line, " ")
		if before, ok := strings.CutSuffix(line, " <unfinished ...>"); ok {
			unfinished[pid] = before
			continue
		}
		if _, after, ok := strings.Cut(rest, " resumed>"); ok {
			line = unfinished[pid] + after
		}
		if call := traced.FindStringSubmatch(line); call != nil {
			r.call(call[2], strings.Split(call[3], ", "), call[4], quoted)
		}
	}
	require.NoError(r, lines.Err())
}

func (r *replayer) call(name string, args []string, result, path string) {
	switch {
	case name == "openat" && len(args) > 2 && args[1] == path && strings.Contains(args[2], "O_RDWR"):
		r.fd = result
	case name == "write" && args[0] == "1":
		require.Equal(r, hexed([]byte("durable\n")), strings.Trim(args[1], `"`))
		r.told = len(r.states) - 1
		require.Empty(r, r.waiting, "told before all was synced")
	case r.fd == "" || args[0] != r.fd:
	case name == "close":
		r.fd = ""
	case name == "ftruncate":
		size, err := strconv.Atoi(args[1])
		require.NoError(r, err)
		require.Empty(r, r.waiting) // a file grows before a commit writes
		r.durable = append(r.durable, make([]byte, size-len(r.durable))...)
	case name == "fdatasync", name == "fsync":
		require.Equal(r, "0", result)
		_ = r.apply(r.waiting)
		r.waiting = nil
		if name == "fdatasync" {
			r.syncs++
		}
	case name == "pwrite64":
		at, err := strconv.ParseInt(args[3], 10, 64)
		require.NoError(r, err)
		data, err := hex.DecodeString(strings.ReplaceAll(strings.Trim(args[1], `"`), `\x`, ""))
		require.NoError(r, err)
		require.Equal(r, result, strconv.Itoa(len(data)))
		r.waiting = append(r.waiting, write{at, data})
		if at < 2*int64(os.Getpagesize()) {
			r.look()
		}
		for range 8 {
			r.cutPower()
		}
	}
}

func hexed(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, `\x%02x`, c)
	}
	return s.String()
}

// apply makes writes durable. undo takes that back.
func (r *replayer) apply(writes []write) (undo func()) {
	overwritten := make([]write, len(writes))
	for i, w := range writes {
		at := r.durable[w.at:][:len(w.data)]
		overwritten[i] = write{w.at, bytes.Clone(at)}
		copy(at, w.data)
	}
	return func() {
		for _, w := range slices.Backward(overwritten) {
			copy(r.durable[w.at:], w.data)
		}
	}
}

// look reads the state that a commit ends in, when its meta page is written.
func (r *replayer) look() {
	got, s, err := r.examineWith(r.waiting)
	require.NoError(r, err)
	require.False(r, s.torn)
	r.states = append(r.states, got)
}

// examineWith examines the file as it is after some writes.
func (r *replayer) examineWith(writes []write) (state, summary, error) {
	defer r.apply(writes)()
	im, s, err := examine(bytes.NewReader(r.durable), int64(len(r.durable)), checkProof)
	if err != nil {
		return state{}, s, err
	}
	got, err := sumUp(im)
	return got, s, err
}

func (r *replayer) cutPower() {
	r.images++
	share := r.random.Float64()
	var reached []write
	for _, i := range r.random.Perm(len(r.waiting)) {
		w := r.waiting[i]
		if r.random.IntN(4) == 0 { // torn
			for at := 0; at < len(w.data); at += sectorSize {
				if r.random.Float64() < share {
					reached = append(reached, write{w.at + int64(at), w.data[at : at+sectorSize]})
				}
			}
		} else if r.random.Float64() < share {
			reached = append(reached, w)
		}
	}
	got, s, err := r.examineWith(reached)
	require.NoError(r, err)
	if s.torn {
		r.torn++
	}
	require.Contains(r, r.states[r.told:], got)
}
