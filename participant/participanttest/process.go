package participanttest

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/assent-tm/assent/participant"
)

// errGone is the answer of a process that was killed.
var errGone = errors.New("the process is gone")

// process is an instance in a process of its own, to be killed: the participant that
// Main serves there.
type process struct {
	name    string
	command *exec.Cmd
	said    tail
	gone    chan struct{} // closed once the process is reaped and its last answer passed on

	mu      sync.Mutex
	encoder *gob.Encoder
	last    uint64
	waiting map[uint64]chan<- answer
}

// startProcess starts a process and returns it once its participant is there.
func startProcess(ctx context.Context, where string) (*participant.Registered, error) {
	if !willServe.Load() {
		return nil, errors.New("the subject has a Where, but the program does not call participanttest.Main before anything else")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{command: exec.Command(self), gone: make(chan struct{}), waiting: map[uint64]chan<- answer{}}
	p.command.Env = append(os.Environ(), whereEnv+"="+where)
	p.command.Stdout, p.command.Stderr = &p.said, &p.said
	first := make(chan answer, 1)
	p.waiting[0] = first
	if err := p.start(); err != nil {
		return nil, err
	}
	a, err := p.wait(ctx, first)
	if err == nil {
		err = a.Failure.err()
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.name = a.Name
	reg := &participant.Registered{Participant: p}
	if a.OnePhaser {
		reg.OnePhaser = p
	}
	return reg, nil
}

func (p *process) start() error {
	answers, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	p.command.ExtraFiles = []*os.File{theirs}
	requests, err := p.command.StdinPipe()
	if err == nil {
		err = p.command.Start()
	}
	// With this copy open, the answers would not end with the process.
	err = errors.Join(err, theirs.Close())
	if err != nil {
		return errors.Join(err, answers.Close())
	}
	p.encoder = gob.NewEncoder(requests)
	go p.listen(answers)
	return nil
}

// listen passes answers on until there are no more.
func (p *process) listen(answers *os.File) {
	defer close(p.gone)
	for decoder := gob.NewDecoder(answers); ; {
		var a answer
		// What the kill tore was not said.
		if decoder.Decode(&a) != nil {
			_ = answers.Close()
			_ = p.command.Wait() // ProcessState tells
			return
		}
		p.mu.Lock()
		if asker := p.waiting[a.Number]; asker != nil {
			asker <- a
			delete(p.waiting, a.Number)
		}
		p.mu.Unlock()
	}
}

// wait waits for an answer.
func (p *process) wait(ctx context.Context, answers <-chan answer) (answer, error) {
	select {
	case a := <-answers:
		return a, nil
	case <-ctx.Done():
		return answer{}, context.Cause(ctx)
	case <-p.gone:
	}
	select {
	case a := <-answers: // it was the last one
		return a, nil
	default:
		return answer{}, fmt.Errorf("%w: %s%s", errGone, p.command.ProcessState, p.said.quoted())
	}
}

// ask has the process make a call, and returns its answer.
func (p *process) ask(ctx context.Context, what call, b participant.Branch) (answer, error) {
	answers := make(chan answer, 1)
	p.mu.Lock()
	p.last++
	number := p.last
	p.waiting[number] = answers
	_ = p.encoder.Encode(request{Number: number, Call: what, Branch: b}) // a process that is gone says so below
	p.mu.Unlock()
	a, err := p.wait(ctx, answers)
	if err != nil {
		p.mu.Lock()
		delete(p.waiting, number)
		p.mu.Unlock()
		return answer{}, err
	}
	return a, a.Failure.err()
}

func (p *process) Name() string { return p.name }

func (p *process) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	a, err := p.ask(ctx, callPrepare, b)
	return a.Vote, err
}

func (p *process) Commit(ctx context.Context, b participant.Branch) error {
	_, err := p.ask(ctx, callCommit, b)
	return err
}

func (p *process) Rollback(ctx context.Context, b participant.Branch) error {
	_, err := p.ask(ctx, callRollback, b)
	return err
}

func (p *process) CommitOnePhase(ctx context.Context, b participant.Branch) error {
	_, err := p.ask(ctx, callOnePhase, b)
	return err
}

// begin is the subject's Begin in that process.
func (p *process) begin(ctx context.Context, _ participant.Participant, tx participant.Enlister) error {
	e, ok := tx.(*enlister)
	if !ok {
		return fmt.Errorf("enlister is a %T", tx)
	}
	a, err := p.ask(ctx, callBegin, e.b)
	e.b.Participant, e.b.Data = a.Branch.Participant, a.Branch.Data
	return err
}

// kill ends the process by SIGKILL and returns when it is gone, and with it its
// memory and its connections.
func (p *process) kill() error {
	err := p.command.Process.Kill()
	<-p.gone
	if errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("it ended before it was killed: %s%s", p.command.ProcessState, p.said.quoted())
	}
	return err
}

// Close makes sure that the process is gone.
func (p *process) Close() error {
	_ = p.kill()
	return nil
}

// tail keeps the end of what is written to it. Safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// maxTail is how much of it is kept, in bytes.
const maxTail = 4 << 10

func (t *tail) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, text...)
	t.text = t.text[max(0, len(t.text)-maxTail):]
	return len(text), nil
}

// quoted returns what was written, to be added to an error.
func (t *tail) quoted() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text := strings.TrimSpace(string(t.text)); text != "" {
		return "; it said:\n" + text
	}
	return ""
}
