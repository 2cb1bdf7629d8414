package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a coordinator may be silent before the demo gives up.
const patience = 30 * time.Second

// Process is a coordinator as a child process, seen from the parent.
type Process struct {
	command *exec.Cmd
	stdin   io.WriteCloser
	encoder *json.Encoder
	events  chan Event // closed once the process says nothing more
	stderr  head
	started time.Time
	ended   bool
}

// Start starts a coordinator over the files in dir, which is added to the command.
// It is killed when ctx ends; End must be called in any case.
func Start(ctx context.Context, command []string, dir string) (*Process, error) {
	p := &Process{events: make(chan Event), started: time.Now()}
	p.command = exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)], dir)...)
	p.command.Stderr = &p.stderr
	// In a process group of its own, a Ctrl-C at the terminal reaches only the
	// parent, which then ends both in order.
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if p.stdin, err = p.command.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start the coordinator: %w", err)
	}
	stdout, err := p.command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the coordinator: %w", err)
	}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start the coordinator: %w", err)
	}
	p.encoder = json.NewEncoder(p.stdin)
	go func() {
		defer close(p.events)
		decoder := json.NewDecoder(stdout)
		for {
			var e Event
			// A line that the kill tore was not said.
			if decoder.Decode(&e) != nil {
				// The process must never wait for a reader.
				_, _ = io.Copy(io.Discard, stdout)
				return
			}
			p.events <- e
		}
	}()
	return p, nil
}

// PID returns its process id.
func (p *Process) PID() int { return p.command.Process.Pid }

// Up returns how long ago it was started.
func (p *Process) Up() time.Duration { return time.Since(p.started) }

// Send asks for something, with a Request. A process that has died takes nothing:
// the next event says so.
func (p *Process) Send(request any) { _ = p.encoder.Encode(request) }

// next waits for an event. timer, if not nil, may end the wait: ok is false then.
func (p *Process) next(ctx context.Context, timer <-chan time.Time) (e Event, ok bool, err error) {
	silence := time.NewTimer(patience)
	defer silence.Stop()
	select {
	case e, open := <-p.events:
		if !open {
			return Event{}, false, p.died(ctx)
		}
		if e.Answer == AnswerFailed {
			return Event{}, false, fmt.Errorf("coordinator (process %d): transaction %s: %s", p.PID(), e.Tx, e.Reason)
		}
		return e, true, nil
	case <-timer:
		return Event{}, false, nil
	case <-ctx.Done():
		return Event{}, false, context.Cause(ctx)
	case <-silence.C:
		return Event{}, false, fmt.Errorf("coordinator (process %d) was silent for %s%s", p.PID(), patience, p.stderr.quoted())
	}
}

// Until reads events until one of this kind comes, and returns it.
func (p *Process) Until(ctx context.Context, want Kind) (Event, error) {
	for {
		e, _, err := p.next(ctx, nil)
		if err != nil || e.Kind == want {
			return e, err
		}
	}
}

// died says why a process that nobody killed is gone.
func (p *Process) died(ctx context.Context) error {
	err := p.wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// wait reaps the process and says how it ended by itself.
func (p *Process) wait() error {
	p.ended = true
	err := p.command.Wait()
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("coordinator (process %d) ended by itself: %w%s", p.PID(), err, p.stderr.quoted())
}

// Kill ends the process as kill -9 does, and returns what it had still said. When
// Kill returns the process is gone: nobody else has the databases open.
func (p *Process) Kill() (said []Event, err error) {
	if p.ended {
		return nil, nil
	}
	if err := p.command.Process.Kill(); err != nil {
		return nil, fmt.Errorf("kill coordinator (process %d): %w", p.PID(), err)
	}
	for e := range p.events {
		said = append(said, e)
	}
	err = p.wait()
	if status, ok := p.command.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		return said, nil
	}
	return said, err // it was faster
}

// Close lets the process end in order.
func (p *Process) Close(ctx context.Context) error {
	_ = p.stdin.Close()
	for {
		_, _, err := p.next(ctx, nil)
		switch {
		case p.ended && p.command.ProcessState.Success():
			return nil
		case err != nil:
			return err
		}
	}
}

// End makes sure that the process and its reader are gone. p may be nil.
func (p *Process) End() {
	if p != nil {
		_, _ = p.Kill()
	}
}

// head keeps the beginning of what is written to it: a panic says first what is
// wrong. Safe for concurrent use.
type head struct {
	mu   sync.Mutex
	text []byte
}

const maxHead = 4 << 10

func (h *head) Write(text []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = append(h.text, text[:min(len(text), maxHead-len(h.text))]...)
	return len(text), nil
}

// quoted returns what was written, to be added to an error.
func (h *head) quoted() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := strings.TrimSpace(string(h.text))
	if text == "" {
		return ""
	}
	return "; it said:\n" + text
}
