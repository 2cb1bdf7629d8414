// Package participanttest checks that a participant keeps the contract of
// [participant.Participant], also when its service or its own process is killed.
//
// [Test] runs every case as a test; [Cases] gives them to anything else, a
// command for instance. A [Subject] says how to reach the participant:
//
//	func bank(url string) (participanttest.Subject, error) { // in any process
//		return participanttest.Subject{Where: url, New: …, Visible: …, Begin: …}, nil
//	}
//	func TestMain(m *testing.M) {
//		participanttest.Main(bank) // for the processes that the kit starts and kills
//		os.Exit(m.Run())
//	}
//	func TestBank(t *testing.T) {
//		subject, err := bank(server.URL("postgres")) // server, err := servers.StartPostgres(ctx)
//		subject.Restart = server.Restart             // kills the service and starts it again
//		participanttest.Test(t, subject)
//	}
//
// Package servers starts services that can be killed. Without Where no process is
// killed, without Restart no service: [Test] logs which cases were not applicable.
//
// [Memory] is the reference: the smallest participant that passes every case for
// which no process is killed, in one file, for those who write another one and for
// tests that need one.
package participanttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assent-tm/assent/participant"
)

// ErrNotApplicable is what a case returns that the participant or its Subject
// lacks something for: an optional interface, a Restart, a Where, a Refuse.
var ErrNotApplicable = errors.New("not applicable")

// ErrUnseen is what a Subject's Visible returns if it can't tell. The case goes on, and
// if nothing else is wrong, returns an error that Is ErrUnseen: the answers keep the rule,
// and nobody looked at the effects.
var ErrUnseen = errors.New("effects not looked at")

const (
	// caseTime bounds one case, so that a silent service can't hold it for ever.
	caseTime = time.Minute
	// defaultDomain is the Subject's domain if it names none.
	defaultDomain = "ptest"
	// maxSubjectDomain leaves room for the look-alikes of a domain.
	maxSubjectDomain = participant.MaxDomain - 2
)

// Subject is a participant under test and the means to look behind it. New and
// Visible are required. The functions may be called concurrently. In a process that
// Main serves, only New, once, and Begin are called.
type Subject struct {
	// New returns a fresh instance over the same durable state, as a process has
	// it that just started. Former instances stay in use beside it. One that is
	// an io.Closer is closed when its case is over.
	New func(ctx context.Context) (participant.Participant, error)

	// Visible reports whether the branch's effects are permanent and visible to
	// others. Where they can be counted, finding them more than once is an error.
	// ErrUnseen says that this can't be told.
	Visible func(ctx context.Context, b participant.Branch) (bool, error)

	// Begin does the branch's work before Prepare at p, an instance that New
	// returned in the same process, and enlists it with tx as an application does.
	// Only the Data it enlists with is taken from that call. Nil if Prepare does all
	// the work and needs no Data.
	Begin func(ctx context.Context, p participant.Participant, tx participant.Enlister) error

	// Refuse is Begin for work that Prepare has to refuse. Nil if there is none.
	Refuse func(ctx context.Context, p participant.Participant, tx participant.Enlister) error

	// Restart kills the service behind the participant, as kill -9 does, starts it
	// again and returns when it answers. Calls may be under way. Nil if there is no
	// such service.
	Restart func(ctx context.Context) error

	// Where tells the function that Main got how another process reaches the same
	// durable state: a URL, a path. Empty if no process is to be killed.
	Where string

	// Domain is the domain of the test's branches: at most 14 bytes, "ptest" if
	// empty, and no coordinator's. Branches of domains that resemble it are made,
	// too.
	Domain string

	// KeepsEpoch says that the participant keeps the highest epoch of a term.
	KeepsEpoch bool
}

// Case checks one promise of the contract.
type Case struct {
	// Name is unique and constant: lower case words with hyphens.
	Name string
	// Rule is the sentence of the contract that the case checks.
	Rule string
	// Run returns nil if the participant keeps the rule, an error that Is
	// ErrNotApplicable if there is nothing to check, or ErrUnseen if its answers do, else
	// what it did instead.
	// It takes at most a minute, and 10 seconds for cleaning up, if the subject's
	// functions heed their context.
	//
	// Every run takes terms of its own, by their random bits, and a new UUID for
	// every transaction: runs neither meet each other nor what a former one left
	// in the same service. Branches that it prepared and left unfinished are rolled
	// back at its end; effects it committed stay.
	Run func(ctx context.Context, s Subject) error
}

// Cases returns all cases, in the order in which they are best mended: the later
// ones rely on what the earlier ones check. They may run concurrently, except
// those whose names end in "restart".
func Cases() []Case {
	return slices.Concat(basicCases, repeatCases, elsewhereCases, overlapCases, optionalCases, crashCases)
}

// scripted returns the case that the steps make up.
func scripted(name, rule string, steps func(*script)) Case {
	return Case{Name: name, Rule: rule, Run: func(ctx context.Context, subject Subject) error {
		ctx, cancel := context.WithTimeout(ctx, caseTime)
		defer cancel()
		s, err := newScript(ctx, subject)
		if err != nil {
			return fmt.Errorf("participanttest: %w", err)
		}
		steps(s)
		s.cleanUp()
		if s.err == nil && s.unseen {
			return ErrUnseen
		}
		return s.err
	}}
}
