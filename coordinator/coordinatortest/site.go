package coordinatortest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/wal/bolt"
)

const (
	retryMax  = 100 * time.Millisecond
	closeTime = time.Minute
	bankName  = "coordinatortest.bank" // no subject's
)

// site is a coordinator with its log in a file, the participant, and a bank.
type site struct {
	subject     participanttest.Subject
	dir, domain string
	bank        *participanttest.Memory

	store       *bolt.Store
	participant participant.Participant
	dtm         *coordinator.DTM
}

// atSite runs a case at a new site, with its log in dir.
func atSite(ctx context.Context, dir string, subject participanttest.Subject, run func(context.Context, *site) error) error {
	s := &site{subject: subject, dir: dir, domain: newDomain(), bank: participanttest.NewStore().Participant(bankName)}
	err := s.open(ctx)
	if err == nil {
		err = run(ctx, s)
	}
	return errors.Join(err, s.close()) //nolint:contextcheck // it is closed also when the test's time is over
}

// newDomain keeps what one case leaves from the lists of others.
func newDomain() string { return "site-" + strings.ToLower(rand.Text()[:8]) }

// open opens the log with an instance as a process has it that just started.
func (s *site) open(ctx context.Context) (err error) {
	if s.store, err = bolt.Open(filepath.Join(s.dir, "assent.db"), nil); err != nil {
		return err
	}
	if s.participant, err = s.subject.New(ctx); err != nil {
		return fmt.Errorf("new instance: %w", err)
	}
	s.dtm, err = coordinator.Open(ctx, coordinator.Config{
		Domain: s.domain, Store: s.store, Participants: []participant.Participant{s.participant, s.bank}, RetryMax: retryMax,
	})
	return err
}

// close closes what open opened, as far as it came.
func (s *site) close() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if s.dtm != nil {
		err = s.dtm.Close(ctx)
	}
	if closer, ok := s.participant.(io.Closer); ok {
		err = errors.Join(err, closer.Close())
	}
	if s.store != nil {
		err = errors.Join(err, s.store.Close())
	}
	s.dtm, s.participant, s.store = nil, nil, nil
	return err
}

// reopen is a restart of the coordinator's process, which finishes what was left.
func (s *site) reopen(ctx context.Context) error {
	if err := s.close(); err != nil { //nolint:contextcheck // it bounds its own time
		return err
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	return s.dtm.WaitRecovered(ctx)
}

// begin does the subject's work, if it has any before Prepare.
func (s *site) begin(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
	if s.subject.Begin != nil {
		return s.subject.Begin(ctx, p, tx)
	}
	_, err := tx.Enlist(ctx, p, nil)
	return err
}

// deal is a transaction's branches, as far as they were enlisted.
type deal struct{ bank, branch participant.Branch }

// transact runs a transaction of the bank and of the participant, which does the work.
func (s *site) transact(
	ctx context.Context, work func(context.Context, participant.Participant, participant.Enlister) error,
) (d deal, err error) {
	if work == nil {
		work = s.begin
	}
	err = s.dtm.Run(ctx, func(ctx context.Context, tx *coordinator.Tx) (err error) {
		if d.bank, err = tx.Enlist(ctx, s.bank, nil); err != nil {
			return err
		}
		return work(ctx, s.participant, &noting{tx, s.participant, &d.branch})
	})
	return d, err
}

// noting enlists the instance that the coordinator has, which may stand before the one
// that enlists itself, and notes the branch.
type noting struct {
	*coordinator.Tx
	p      participant.Participant
	branch *participant.Branch
}

// Enlist implements participant.Enlister.
func (n *noting) Enlist(ctx context.Context, _ participant.Participant, data []byte) (participant.Branch, error) {
	b, err := n.Tx.Enlist(ctx, n.p, data)
	*n.branch = b
	return b, err
}

func (s *site) requireVisible(ctx context.Context, b participant.Branch, want bool) error {
	visible, err := s.subject.Visible(ctx, b)
	if err == nil && visible != want {
		err = fmt.Errorf("they are visible: %t, want %t", visible, want)
	}
	if err != nil {
		return fmt.Errorf("effects of %s: %w", b.XID(), err)
	}
	return nil
}

// requireEffects fails unless bank and participant both have theirs, or both have none.
func (s *site) requireEffects(ctx context.Context, d deal, want bool) error {
	if got := s.bank.Effects(d.bank) == 1; got != want {
		return fmt.Errorf("effects at the bank: %t, want %t", got, want)
	}
	return s.requireVisible(ctx, d.branch, want)
}

// requireNonePrepared fails if the participant lists a branch as prepared.
func (s *site) requireNonePrepared(ctx context.Context) error {
	lister, ok := s.participant.(participant.Lister)
	if !ok {
		return nil
	}
	listing, err := lister.List(ctx, s.domain)
	if err == nil && len(listing.Prepared) > 0 {
		err = fmt.Errorf("%d branches are left prepared, of them %s", len(listing.Prepared), listing.Prepared[0].XID())
	}
	return err
}
