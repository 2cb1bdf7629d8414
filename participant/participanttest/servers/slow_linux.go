package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// SlowSyncs makes each fsync of the server take so much longer, until the returned
// function is called: a test can then be at work between a commit and its durability. It
// needs strace, and the right to trace. The server's child processes are left as they
// are.
func (s *Server) SlowSyncs(ctx context.Context, delay time.Duration) (restore func() error, err error) {
	err = s.do(ctx, "slow down", func(context.Context) error {
		if !s.up() {
			return errors.New("it is down")
		}
		restore, err = slowSyncs(s.process.pid(), delay) //nolint:contextcheck // it outlives the call
		return err
	})
	return restore, err
}

func slowSyncs(pid int, delay time.Duration) (restore func() error, err error) {
	const syncs = "fsync,fdatasync"
	command := exec.Command("strace", "-f", "-p", strconv.Itoa(pid), "-o", os.DevNull, "-e", "trace="+syncs,
		"-e", fmt.Sprintf("inject=%s:delay_enter=%d", syncs, delay.Microseconds()))
	said, err := command.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	restore = func() error {
		err := command.Process.Signal(os.Interrupt)
		_, _ = io.Copy(io.Discard, said)
		_ = command.Wait() // it ends by the signal, once it has let go of the server
		return err
	}
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil || !strings.Contains(line, "attached") {
		return nil, errors.Join(fmt.Errorf("strace says %q", line), err, restore())
	}
	return restore, nil
}
