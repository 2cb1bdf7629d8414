// Package banks is the demo that needs no server: transfers between two banks stay
// atomic while the coordinator is killed.
//
// The coordinator is a child process (child.go) with two participants over two
// SQLite files (bank.go) and its log beside them. The parent gives it transfers and
// kills it (acts.go), reads the databases itself (books.go), and checks every claim
// it prints (proof.go).
package banks

import (
	"context"
	"errors"
	"io"

	"github.com/assent-tm/assent/cmd/assent/demo"
)

// Options say what Run does.
type Options struct {
	// Dir is an empty folder for the databases and the log. They stay there.
	Dir string
	// Coordinator is the command line that runs Coordinate; the folder is added
	// to it.
	Coordinator []string
	// Input are the transfers: those of the story are chosen from it, then it is
	// paid from the beginning for as often as Transfers wants.
	Input []Transfer
	// Transfers is how many are paid while the coordinator is killed at random,
	// at least MinTransfers.
	Transfers int
	// Seed makes the plan of the kills.
	Seed uint64
	// Out gets the story, Watch a line that is written over and over; it may be
	// nil.
	Out, Watch io.Writer
}

// MinTransfers is how many transfers it takes to kill often enough, MaxTransfers
// what ends within the hour.
const (
	MinTransfers = 50
	MaxTransfers = 100_000
)

// Run tells the story. Errors: demo.ErrNotProven, the end of ctx, and what kept a
// coordinator from running.
func Run(ctx context.Context, o Options) (err error) {
	for _, bank := range bankNames {
		if err := createBank(ctx, o.Dir, bank); err != nil {
			return err
		}
	}
	banks, err := openReaders(o.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, banks.close()) }()
	s := newStory(o, banks)
	s.Print("Two banks, one coordinator, and kill -9.\n%s.\nEvery account begins with %s coins; none may be lost or made.\n", Accounts(), demo.Count(openingBalance))
	if err := s.Show(ctx, demo.Unharmed(s.commit), demo.Unharmed(s.refusal), s.crash); err != nil {
		return err
	}
	storm, err := s.storm(ctx)
	if err != nil {
		return err
	}
	return s.prove(ctx, storm)
}

type story struct {
	demo.Acts[Transfer]
	Options
	banks readers
	feed  *feed
}

func newStory(o Options, banks readers) *story {
	return &story{
		Acts: demo.Acts[Transfer]{
			Teller:       &demo.Teller{Out: o.Out, Watch: o.Watch},
			Start:        func(ctx context.Context) (*demo.Process, error) { return demo.Start(ctx, o.Coordinator, o.Dir) },
			Participants: bankNames,
			Places:       "banks", Everywhere: "in both banks",
		},
		Options: o, banks: banks, feed: &feed{transfers: o.Input},
	}
}

// prove is the end.
func (s *story) prove(ctx context.Context, storm *demo.Storm[Transfer]) error {
	all, err := s.banks.read(ctx)
	if err != nil {
		return err
	}
	return s.Prove("both databases", append(proveBooks(all, s.Deals), proveStorm(storm)...))
}
