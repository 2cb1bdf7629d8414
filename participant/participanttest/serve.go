package participanttest

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/assent-tm/assent/participant"
)

// whereEnv is the environment variable that makes Main serve; its value is the
// subject's Where.
const whereEnv = "ASSENT_PARTICIPANTTEST_WHERE"

// answersFile is the descriptor of a serving process that answers go to: standard
// output is the participant's.
const answersFile = 3

// willServe tells whether a copy of this program's process would come to Main.
var willServe atomic.Bool

// Main gives the kit processes to kill. Those are copies of the calling program's
// process: in one of them Main makes the subject, serves a participant of it until
// the process is killed, and never returns; elsewhere Main returns at once. The
// program's TestMain or main calls it before anything else.
//
// The function gets the Where of the subject that is tested, and returns the subject
// as this process reaches it. Its New and Begin are used.
func Main(subject func(where string) (Subject, error)) {
	where, serving := os.LookupEnv(whereEnv)
	if !serving {
		willServe.Store(true)
		return
	}
	// What this process starts is no such copy.
	err := os.Unsetenv(whereEnv)
	if err == nil {
		err = serve(context.Background(), subject, where, os.Stdin, os.NewFile(answersFile, "answers"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// What is asked of a serving process.
type call uint8

const (
	callBegin call = 1 + iota
	callPrepare
	callCommit
	callRollback
	callOnePhase
)

type request struct {
	Number uint64
	Call   call
	Branch participant.Branch
}

// answer is that to a request, or the first one: which participant is served.
type answer struct {
	Number  uint64
	Branch  participant.Branch // as begun
	Vote    participant.Vote
	Failure *failure

	Name      string
	OnePhaser bool
}

// failure is an error on its way between processes.
type failure struct {
	Text    string
	Outcome participant.Outcome // of a HeuristicError
	Is      []int               // indexes of meanings
}

// meanings are the errors that a case tells apart.
var meanings = []error{
	participant.ErrRefused, participant.ErrUnknownBranch, participant.ErrStaleEpoch, participant.ErrConfig,
	context.Canceled, context.DeadlineExceeded,
}

func newFailure(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Text: err.Error()}
	var heuristic *participant.HeuristicError
	if errors.As(err, &heuristic) {
		f.Outcome = heuristic.Outcome
	}
	for i, meaning := range meanings {
		if errors.Is(err, meaning) {
			f.Is = append(f.Is, i)
		}
	}
	return f
}

// remoteError is an error of another process.
type remoteError struct {
	text  string
	means []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.means }

func (f *failure) err() error {
	if f == nil {
		return nil
	}
	e := &remoteError{text: f.Text}
	if f.Outcome != 0 {
		e.means = append(e.means, &participant.HeuristicError{Outcome: f.Outcome})
	}
	for _, i := range f.Is {
		e.means = append(e.means, meanings[i])
	}
	return e
}

// served is the participant of a serving process.
type served struct {
	subject Subject
	*participant.Registered
}

// serve carries out requests, as they come, until they end.
func serve(
	ctx context.Context, subject func(where string) (Subject, error), where string, requests io.Reader, answers io.Writer,
) error {
	s, err := newServed(ctx, subject, where)
	first := answer{Failure: newFailure(err)}
	if err == nil {
		first.Name, first.OnePhaser = s.Name(), s.OnePhaser != nil
	}
	var mu sync.Mutex
	encoder := gob.NewEncoder(answers)
	tell := func(a answer) {
		mu.Lock()
		defer mu.Unlock()
		_ = encoder.Encode(a) // who asked may be gone
	}
	tell(first)
	if err != nil {
		return err
	}
	for decoder := gob.NewDecoder(requests); ; {
		var r request
		switch err := decoder.Decode(&r); {
		case errors.Is(err, io.EOF):
			return nil // who asks is gone; calls under way end with the process
		case err != nil:
			return fmt.Errorf("read a request: %w", err)
		}
		go func() { tell(s.answer(ctx, r)) }()
	}
}

func newServed(ctx context.Context, subject func(string) (Subject, error), where string) (*served, error) {
	made, err := subject(where)
	if err != nil {
		return nil, fmt.Errorf("make the subject: %w", err)
	}
	if made.New == nil {
		return nil, errors.New("a Subject needs New")
	}
	p, err := made.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("new instance: %w", err)
	}
	reg, _, err := new(participant.Registry).Register(p)
	return &served{made, reg}, err
}

func (s *served) answer(ctx context.Context, r request) answer {
	a := answer{Number: r.Number}
	var err error
	switch r.Call {
	case callBegin:
		tx := &enlister{b: r.Branch}
		if s.subject.Begin != nil {
			err = s.subject.Begin(ctx, s.Participant, tx)
		}
		a.Branch = tx.b
	case callPrepare:
		a.Vote, err = s.Prepare(ctx, r.Branch)
	case callCommit:
		err = s.Commit(ctx, r.Branch)
	case callRollback:
		err = s.Rollback(ctx, r.Branch)
	case callOnePhase:
		err = s.OnePhaser.CommitOnePhase(ctx, r.Branch)
	default:
		err = fmt.Errorf("unknown call %d", r.Call)
	}
	a.Failure = newFailure(err)
	return a
}
