package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/waltest"
)

// childEnv makes the test binary a process that uses a log: what it does, then the
// log's path as the only argument.
const childEnv = "ASSENT_BOLT_TEST_CHILD"

func child() int {
	s, err := Open(os.Args[1], smallMap)
	if err != nil {
		fmt.Println("open:", err)
		return 1
	}
	switch os.Getenv(childEnv) {
	case "hold":
		fmt.Println("open")
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is gone
		err = s.Close()
	case "append":
		err = appendForever(s)
	case "full":
		err = appendUntilFull(s)
	case "some":
		err = appendSome(s)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// keep is how many segments the child leaves in its term.
const keep = 10

// appendForever prints what is durable.
func appendForever(s *Store) error {
	stream, err := s.Open(context.Background(), "child")
	for seq := uint64(1); err == nil; seq++ {
		var drop []uint64
		if seq > keep {
			drop = []uint64{seq - keep}
		}
		if err = stream.Append(context.Background(), seq, waltest.Segment(int(seq), 3000, 100), drop); err == nil {
			fmt.Println(uint64(stream.Term()), seq)
		}
	}
	return err
}

// appendUntilFull appends until the file can't grow, and then checks that the store
// has failed for good although there is space again.
func appendUntilFull(s *Store) error {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	soft := limit.Cur
	limit.Cur = 2 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	stream, err := s.Open(context.Background(), "child")
	seq := uint64(0)
	for err == nil {
		seq++
		if err = stream.Append(context.Background(), seq, waltest.Segment(int(seq), 3000, 100), nil); err == nil {
			fmt.Println(uint64(stream.Term()), seq)
		}
	}
	if !tooLarge(err) || errors.Is(err, wal.ErrFenced) || errors.Is(err, wal.ErrRepeat) {
		return fmt.Errorf("want EFBIG: %w", err)
	}
	limit.Cur = soft
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	again := stream.Append(context.Background(), seq, waltest.Segment(int(seq), 3000, 100), nil)
	if !tooLarge(again) {
		return fmt.Errorf("append after the failure: %w", again)
	}
	_, opened := s.Open(context.Background(), "child")
	if !tooLarge(opened) {
		return fmt.Errorf("open after the failure: %w", opened)
	}
	return s.Close()
}

// tooLarge looks at the text because bbolt does not wrap the error.
func tooLarge(err error) bool {
	return err != nil && strings.Contains(err.Error(), syscall.EFBIG.Error())
}

type process struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

func startChild(t *testing.T, what, path string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	_, err = cmd.StdinPipe() // open as long as we live
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // most are gone by then
	return &process{cmd: cmd, out: bufio.NewScanner(out)}
}

// line returns what the child prints next; "" when it has ended.
func (p *process) line(t *testing.T) string {
	t.Helper()
	p.out.Scan()
	require.NoError(t, p.out.Err())
	return p.out.Text()
}

// kill kills the child as kill -9 does and waits for its end.
func (p *process) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	var exit *exec.ExitError
	require.ErrorAs(t, p.cmd.Wait(), &exit)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal())
}

// acknowledged reads the lines of appendForever into acks.
func (p *process) acknowledged(t *testing.T, acks map[participant.Term]uint64, atMost int) {
	t.Helper()
	for ; atMost > 0 && p.out.Scan(); atMost-- {
		var term, seq uint64
		_, err := fmt.Sscan(p.out.Text(), &term, &seq)
		require.NoErrorf(t, err, "child: %s", p.out.Text())
		acks[participant.Term(term)] = seq
	}
	require.NoError(t, p.out.Err())
}

// R1, R5: whatever an append acknowledged is there after kill -9, at any moment,
// also while a log is opened and copied.
func TestR1R5AcknowledgedAppendsSurviveKill(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "log")
	acks := map[participant.Term]uint64{}
	for range 20 {
		for range 1 + random.IntN(3) {
			c := startChild(t, "append", path)
			c.acknowledged(t, acks, random.IntN(30))
			require.NoError(t, c.cmd.Process.Signal(syscall.SIGKILL))
			c.acknowledged(t, acks, 1<<30) // what it printed before it died
			_ = c.cmd.Wait()               // killed
		}
		s := open(t, path)
		for term, ack := range acks {
			seqs := segments(t, s, term)
			require.NotEmpty(t, seqs)
			newest := seqs[len(seqs)-1]
			require.Contains(t, []uint64{ack, ack + 1}, newest, "of the last append nobody knows")
			require.Len(t, seqs, int(min(newest, keep)))
		}
		if random.IntN(2) == 0 {
			crash(t, s)
		}
		require.NoError(t, s.Close())
	}
	require.Greater(t, len(acks), 10)
}

// R5: a disk that is full, as the child sees it.
func TestR5AFullDiskEndsAllWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	c := startChild(t, "full", path)
	acks := map[participant.Term]uint64{}
	c.acknowledged(t, acks, 1<<30)
	require.NoError(t, c.cmd.Wait())
	require.Len(t, acks, 1)
	before := inode(t, path)
	s := open(t, path)
	require.NotEqual(t, before, inode(t, path))
	for term, ack := range acks {
		seqs := segments(t, s, term)
		require.Greater(t, ack, uint64(10))
		require.Contains(t, []uint64{ack, ack + 1}, seqs[len(seqs)-1])
	}
}

// R5: a failed write ends the store, for all its streams.
func TestR5AFailedWriteEndsAllWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	stream, other := openTerm(t, s), openTerm(t, s)
	appendTo(t, stream, 1)
	require.NoError(t, s.db.file.Close()) // under bbolt's feet

	err := stream.Append(t.Context(), 2, waltest.Segment(2), nil)
	require.ErrorIs(t, err, os.ErrClosed)
	require.NotErrorIs(t, err, wal.ErrFenced)
	require.NotErrorIs(t, err, wal.ErrRepeat)
	require.EqualError(t, stream.Append(t.Context(), 2, waltest.Segment(2), nil), err.Error())
	require.EqualError(t, other.Append(t.Context(), 1, waltest.Segment(1), nil), err.Error())
	_, openErr := s.Open(t.Context(), "owner")
	require.EqualError(t, openErr, err.Error())
	_, _, orphansErr := s.Orphans(t.Context())
	require.EqualError(t, orphansErr, err.Error())
	_ = s.Close() // bbolt misses its file

	before := inode(t, path)
	s = open(t, path)
	require.NotEqual(t, before, inode(t, path))
	require.Equal(t, []uint64{1}, segments(t, s, stream.Term()))
}

// R5: a page of the file that can't be read is an error, not the end of the
// process.
func TestR5AFaultUnderTheMapIsAnError(t *testing.T) {
	for name, call := range map[string]func(*Store, wal.Stream) error{
		"append": func(_ *Store, p wal.Stream) error {
			return p.Append(context.Background(), 31, waltest.Segment(31), []uint64{1})
		},
		"scan": func(s *Store, p wal.Stream) error {
			return s.Scan(context.Background(), p.Term(), func(uint64, []byte) error { return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			s := open(t, path)
			stream := openTerm(t, s)
			for seq := uint64(1); seq <= 30; seq++ {
				appendTo(t, stream, seq)
			}
			require.NoError(t, os.Truncate(path, 2*int64(os.Getpagesize())))
			err := call(s, stream)
			var fault *faultError
			require.ErrorAs(t, err, &fault)
			_, openErr := s.Open(t.Context(), "owner")
			require.EqualError(t, openErr, err.Error())
			require.NoError(t, s.Close())
			_, err = Open(path, smallMap)
			require.ErrorIs(t, err, wal.ErrDamaged)
		})
	}
}
