// Package demo shows what Assent is for, and proves it: transfers between two
// banks stay atomic while the coordinator is killed.
//
// The coordinator is a child process (child.go) with two participants over two
// SQLite files (bank.go) and its log beside them. The parent gives it transfers,
// kills and restarts it (acts.go, storm.go), reads the databases itself (books.go),
// and checks every claim it prints (proof.go).
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
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
	// Out gets the story, Progress a line that is written over and over; it may be
	// nil.
	Out, Progress io.Writer
}

// MinTransfers is how many transfers it takes to kill often enough, MaxTransfers
// what ends within the hour.
const (
	MinTransfers = 50
	MaxTransfers = 100_000
)

// ErrNotProven says that a claim of the demo does not hold. The story says which.
var ErrNotProven = errors.New("the proof failed")

// Run tells the story. Errors: ErrNotProven, the end of ctx, and what kept a
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
	s := &story{Options: o, banks: banks, feed: &feed{transfers: o.Input}}
	s.print("Two banks, one coordinator, and kill -9.\n%s.\nEvery account begins with %s coins; none may be lost or made.\n", Accounts(), count(openingBalance))
	process, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer func() { process.end() }()
	if _, err := process.until(ctx, eventReady); err != nil {
		return err
	}
	if err := s.commit(ctx, process); err != nil {
		return err
	}
	if err := s.refusal(ctx, process); err != nil {
		return err
	}
	if process, err = s.crash(ctx, process); err != nil {
		return err
	}
	if err := process.close(ctx); err != nil {
		return err
	}
	storm, err := s.storm(ctx)
	if err != nil {
		return err
	}
	return s.prove(ctx, storm)
}

type story struct {
	Options
	banks    readers
	feed     *feed
	payments []*payment
	failed   bool
}

func (s *story) print(format string, args ...any) { fmt.Fprintf(s.Out, format, args...) }

func (s *story) line(label, format string, args ...any) {
	s.print("   %-10s %s\n", label, fmt.Sprintf(format, args...))
}

func (s *story) start(ctx context.Context) (*process, error) {
	return start(ctx, s.Coordinator, s.Dir)
}

// prove is the end.
func (s *story) prove(ctx context.Context, storm *storm) error {
	all, err := s.banks.read(ctx)
	if err != nil {
		return err
	}
	s.print("\nProof, read from both databases\n")
	for _, c := range append(proveBooks(all, s.payments), storm.prove()...) {
		s.claim("", c)
	}
	if s.failed {
		return ErrNotProven
	}
	return nil
}

// maxWrong bounds what is printed of one claim.
const maxWrong = 5

// claim prints a claim that was checked; at the end each has its own mark.
func (s *story) claim(label string, c claim) {
	mark := "ok"
	if len(c.wrong) > 0 {
		mark, s.failed = "FAILED", true
	}
	if label == "" {
		s.print("   %-10s %s\n", mark, c.text)
	} else {
		s.line(label, "%s  [%s]", c.text, mark)
	}
	for i, wrong := range c.wrong {
		if i == maxWrong {
			s.line("", "and %d more", len(c.wrong)-maxWrong)
			break
		}
		s.line("", "%s", wrong)
	}
}

func (s *story) progress(finished, kills int) {
	if s.Progress != nil {
		fmt.Fprintf(s.Progress, "\r   %s of %s transfers, %d kills ", count(finished), count(s.Transfers), kills)
	}
}

func (s *story) clearProgress() {
	if s.Progress != nil {
		fmt.Fprintf(s.Progress, "\r%s\r", strings.Repeat(" ", 60))
	}
}

func describeVotes(votes []vote) string {
	var s []string
	for _, bank := range bankNames {
		for _, v := range votes {
			if v.Bank != bank {
				continue
			}
			reason := ""
			if v.Reason != "" {
				reason = " (" + v.Reason + ")"
			}
			s = append(s, fmt.Sprintf("%s %s%s %s", v.Bank, v.Vote, reason, ms(v.Took)))
		}
	}
	return strings.Join(s, ", ")
}

func ms(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
