package coordinator_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

func requireInquiry(t *testing.T, dtm *coordinator.DTM, id participant.TxID, want coordinator.Inquiry) {
	t.Helper()
	got, err := dtm.Outcome(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, want, got, "%s instead of %s", got, want)
}

// R13: a participant in doubt is told what is certain, and nothing else.
func TestR13InquiryTellsWhatIsCertain(t *testing.T) {
	playWith(t, coordinator.Config{Retention: -1}, nil, func(t *testing.T, s *stage) {
		a, b, vote := s.actor("a"), s.actor("b"), make(chan struct{})
		a.prepare = hangs(vote)
		a.commit, a.rollback = answers(errDown), answers(errDown)
		committed := s.begin(a)
		requireInquiry(t, s.DTM, committed, coordinator.InquiryUndecided)
		go func() { _ = s.Commit(t.Context(), committed) }()
		synctest.Wait()
		requireInquiry(t, s.DTM, committed, coordinator.InquiryUndecided)
		close(vote)
		synctest.Wait()
		requireInquiry(t, s.DTM, committed, coordinator.InquiryCommitted)
		rolledBack := s.begin(a)
		require.NoError(t, s.Rollback(t.Context(), rolledBack))
		requireInquiry(t, s.DTM, rolledBack, coordinator.InquiryRolledBack)

		a.recast(func() { a.commit, a.rollback = nil, nil })
		time.Sleep(time.Hour)
		for range 200 { // outcomes go in groups, with later appends
			_, err := s.commits(b)
			require.NoError(t, err)
			time.Sleep(time.Second)
		}
		requireInquiry(t, s.DTM, committed, coordinator.InquiryUnknown)
		requireInquiry(t, s.DTM, rolledBack, coordinator.InquiryUnknown)
		requireInquiry(t, s.DTM, participant.TxID{Term: participant.NewTerm(9, 9), UUID: committed.UUID}, coordinator.InquiryUnknown)
		requireInquiry(t, s.DTM, participant.TxID{Term: committed.Term, UUID: uuid.Max}, coordinator.InquiryUnknown)
	})
}

// R13, R3: above the mark of a former coordinator's term absence is a rollback, once
// the participants' lists were read; before that it is undecided.
func TestR13InquiryOfFormerTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		decided := l.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		inherited := l.leave(t, undecided, "bank_a", "bank_b")
		l.kill()
		read := make(chan struct{})
		bank := &hooked{Memory: s.banks.Participant("bank_a"), listed: func() { <-read }}
		dtm := s.open(t, coordinator.Config{Timeout: time.Second, Participants: []participant.Participant{bank, s.banks.Participant("bank_b")}})
		requireInquiry(t, dtm, decided, coordinator.InquiryCommitted)
		requireInquiry(t, dtm, inherited, coordinator.InquiryUndecided)
		absent := preceding(inherited)
		requireInquiry(t, dtm, absent, coordinator.InquiryUndecided)
		close(read)
		require.NoError(t, dtm.WaitRecovered(t.Context()))
		requireInquiry(t, dtm, absent, coordinator.InquiryRolledBack)
		requireInquiry(t, dtm, inherited, coordinator.InquiryRolledBack)
	})
}

// R10: in safe mode nobody is told of a rollback: the decision may be what was lost.
func TestR10InquiryInSafeMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		committed := l.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		inherited := l.leave(t, undecided, "bank_a", "bank_b")
		rolledBack, err := l.dtm.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, l.dtm.Rollback(t.Context(), rolledBack))
		time.Sleep(time.Second) // fake time: completed is durable
		backup := s.log.Clone()
		newer := l.leave(t, undecided, "bank_a", "bank_b")
		l.kill()
		s.log = backup
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{s.banks.Participant("bank_a"), s.banks.Participant("bank_b")}})
		require.ErrorIs(t, dtm.WaitRecovered(t.Context()), coordinator.ErrSafeMode)
		requireInquiry(t, dtm, committed, coordinator.InquiryCommitted)
		requireInquiry(t, dtm, inherited, coordinator.InquiryUndecided)
		requireInquiry(t, dtm, rolledBack, coordinator.InquiryUnknown)
		requireInquiry(t, dtm, newer, coordinator.InquiryUnknown)
	})
}
