package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// process is a running server: a process and its descendants.
type process struct {
	command *exec.Cmd
	gone    chan struct{} // closed once the process is reaped
}

// startProcess starts the command. The process gets the signal orphaned if the
// caller's process dies. It is waited for in any case, so that no dead process
// stays in the process table, which PostgreSQL would take for a running server.
func startProcess(command *exec.Cmd, orphaned syscall.Signal) (*process, error) {
	p := &process{command: command, gone: make(chan struct{})}
	command.SysProcAttr.Pdeathsig = orphaned
	// In a process group of its own it does not get the terminal's Ctrl-C.
	command.SysProcAttr.Setpgid = true
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread that forked ends, even if its
		// process lives. Go ends a thread with the goroutine that was locked to it, so
		// this goroutine keeps its thread from all others until the server is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait() // ProcessState tells how it ended
			close(p.gone)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) pid() int { return p.command.Process.Pid }

// signal sends a signal to the process alone. One that is gone needs none: nil.
func (p *process) signal(signal syscall.Signal) error {
	if err := p.command.Process.Signal(signal); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// kill ends the process and its descendants at once and returns when they are gone.
// The process group would not do: each child of a PostgreSQL server makes one of
// its own.
func (p *process) kill(ctx context.Context) error {
	// A stopped process starts no more children, and it reaps none, so that the list
	// of them is whole and each number stays its child's.
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if err := until(ctx, func() bool { return state(p.pid()).stands() }); err != nil {
		return fmt.Errorf("stop process %d: %w", p.pid(), err)
	}
	children, err := descendants(p.pid())
	if err != nil {
		return err
	}
	for _, pid := range children {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	select {
	case <-p.gone:
	case <-ctx.Done():
		return fmt.Errorf("wait for process %d to end: %w", p.pid(), context.Cause(ctx))
	}
	for _, pid := range children {
		// Process 1 has to reap it, and may be slow; dead it holds nothing already.
		if err := until(ctx, func() bool { return state(pid).dead() }); err != nil {
			return fmt.Errorf("wait for process %d to end: %w", pid, err)
		}
	}
	return nil
}

// until returns nil once the condition holds.
func until(ctx context.Context, holds func() bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// processState is the letter that proc(5) has for it; 0 for a process that is not
// there.
type processState byte

func (s processState) dead() bool   { return s == 0 || s == 'Z' || s == 'X' }
func (s processState) stands() bool { return s.dead() || s == 'T' || s == 't' }

func state(pid int) processState {
	state, _, err := stat(pid)
	if err != nil {
		return 0
	}
	return state
}

// stat returns a process's state and parent.
func stat(pid int) (state processState, parent int, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, err
	}
	// The second field is a name in parentheses, which may hold anything.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0, 0, fmt.Errorf("process %d: unknown format of its stat file: %q", pid, text)
	}
	parent, err = strconv.Atoi(string(fields[1]))
	return processState(fields[0][0]), parent, err
}

// descendants returns the children of a process, theirs, and so on.
func descendants(of int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	children := map[int][]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		_, parent, err := stat(pid)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH):
			// It ended meanwhile.
		case err != nil:
			return nil, err
		default:
			children[parent] = append(children[parent], pid)
		}
	}
	found := children[of]
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found, nil
}
