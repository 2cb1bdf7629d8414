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

// process is a coordinator as a child process, seen from the parent.
type process struct {
	command *exec.Cmd
	stdin   io.WriteCloser
	encoder *json.Encoder
	events  chan event // closed once the process says nothing more
	stderr  tail
	started time.Time
	ended   bool
}

// start starts a coordinator over the files in dir. It is killed when ctx ends;
// end must be called in any case.
func start(ctx context.Context, command []string, dir string) (*process, error) {
	p := &process{events: make(chan event), started: time.Now()}
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
			var e event
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

func (p *process) pid() int { return p.command.Process.Pid }

// send asks for something. A process that has died takes nothing: the next event
// says so.
func (p *process) send(r request) { _ = p.encoder.Encode(r) }

// next waits for an event. timer, if not nil, may end the wait: ok is false then.
func (p *process) next(ctx context.Context, timer <-chan time.Time) (e event, ok bool, err error) {
	silence := time.NewTimer(patience)
	defer silence.Stop()
	select {
	case e, open := <-p.events:
		if !open {
			return event{}, false, p.died(ctx)
		}
		if e.Answer == answerFailed {
			return event{}, false, fmt.Errorf("coordinator (process %d): transaction %s: %s", p.pid(), e.Tx, e.Reason)
		}
		return e, true, nil
	case <-timer:
		return event{}, false, nil
	case <-ctx.Done():
		return event{}, false, context.Cause(ctx)
	case <-silence.C:
		return event{}, false, fmt.Errorf("coordinator (process %d) was silent for %s%s", p.pid(), patience, p.stderr.quoted())
	}
}

// until reads events until one of this kind comes, and returns it.
func (p *process) until(ctx context.Context, want kind) (event, error) {
	for {
		e, _, err := p.next(ctx, nil)
		if err != nil || e.Kind == want {
			return e, err
		}
	}
}

// died says why a process that nobody killed is gone.
func (p *process) died(ctx context.Context) error {
	p.ended = true
	err := p.command.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	state := "exit status 0"
	if err != nil {
		state = err.Error()
	}
	return fmt.Errorf("coordinator (process %d) ended by itself: %s%s", p.pid(), state, p.stderr.quoted())
}

// kill ends the process as kill -9 does, and returns what it had still said. When
// kill returns the process is gone: nobody else has the databases open.
func (p *process) kill() (said []event, err error) {
	if p.ended {
		return nil, nil
	}
	p.ended = true
	if err := p.command.Process.Kill(); err != nil {
		return nil, fmt.Errorf("kill coordinator (process %d): %w", p.pid(), err)
	}
	for e := range p.events {
		said = append(said, e)
	}
	var exit *exec.ExitError
	err = p.command.Wait()
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return said, nil
	}
	return said, fmt.Errorf("coordinator (process %d) was not ended by the kill but by itself: %v%s", p.pid(), err, p.stderr.quoted())
}

// close lets the process end in order.
func (p *process) close(ctx context.Context) error {
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

// end makes sure that the process and its reader are gone.
func (p *process) end() { _, _ = p.kill() }

// tail keeps the end of what is written to it. Safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const maxTail = 4 << 10

func (t *tail) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, text...)
	if extra := len(t.text) - maxTail; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(text), nil
}

// quoted returns what was written, to be added to an error.
func (t *tail) quoted() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.text))
	if text == "" {
		return ""
	}
	return "; it said:\n" + text
}
