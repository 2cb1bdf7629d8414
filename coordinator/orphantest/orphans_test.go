// Package orphantest leaves prepared branches behind in real servers, of every origin
// there is, and shows what becomes of them: the sweep finishes those of its own ended
// terms and touches no other, and an operator finishes the others with what
// DTM.Orphans gives him.
package orphantest

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/bolt"
)

// testOrphans shows R10 and R13 from outside.
func testOrphans(t *testing.T, db database) {
	logs := t.TempDir()
	log := filepath.Join(logs, "orders.db")
	forgotten, unknown := endedTerms(t, db, log)

	// This one has done its only sweep when the branches are left: it explains.
	o := openOffice(t, db, log, coordinator.Config{SweepInterval: -1})
	o.awaitLists(t, 2-o.db.lists.Load()) // once before anything else, and once for the sweep
	id := map[recovery.Verdict]participant.TxID{
		recovery.TellPresumed: unknown,
		recovery.Forgotten:    forgotten,
		recovery.ForeignTerm:  elsewhere(t, filepath.Join(logs, "another.db"), domain),
		recovery.OtherDomain:  elsewhere(t, filepath.Join(logs, "billing.db"), "billing"),
	}
	want := map[recovery.Verdict]participant.XID{recovery.NoBranch: participant.Branch{}.XID()}
	for verdict, id := range id {
		of, number := domain, 7 // the forgotten one has finished branch 0
		if verdict == recovery.OtherDomain {
			of = "billing"
		}
		want[verdict] = leave(t, db, of, id, number).XID()
	}
	db.foreign(t)
	require.Equal(t, want, verdicts(t, o.orphans(t)))
	require.Len(t, db.prepared(t), len(want))
	o.close(t)

	// This one sweeps, again and again.
	o = openOffice(t, db, log, coordinator.Config{SweepInterval: time.Millisecond})
	live, commit := o.prepareLive(t)
	require.Eventually(t, func() bool { return !db.prepared(t)[string(want[recovery.TellPresumed])] }, waitTime, waitTick)
	delete(want, recovery.TellPresumed)
	o.awaitLists(t, 2*4) // two for each sweep
	require.Len(t, db.prepared(t), len(want)+1)
	require.Zero(t, db.effects(t, unknown))
	orphans := o.orphans(t)
	require.Equal(t, want, verdicts(t, orphans))
	info, err := o.dtm.Get(t.Context(), live)
	require.NoError(t, err)
	require.Equal(t, protocol.Preparing, info.Phase)

	byHand(t, db, o, orphans)
	require.Zero(t, db.effects(t, id[recovery.ForeignTerm]))
	require.Equal(t, 1, db.effects(t, id[recovery.OtherDomain]))
	require.Equal(t, 2, db.effects(t, forgotten), "one by each of its branches")
	require.Empty(t, o.orphans(t))
	require.Len(t, db.prepared(t), 1)
	require.NoError(t, commit())
	require.Equal(t, 1, db.effects(t, live))
	require.Empty(t, db.prepared(t))
	o.close(t)
}

// endedTerms returns two transactions of coordinators that have ended: one whose
// outcome is forgotten, and one that the log never heard of, though of later ones.
func endedTerms(t *testing.T, db database, log string) (forgotten, unknown participant.TxID) {
	t.Helper()
	o := openOffice(t, db, log, coordinator.Config{})
	forgotten = o.transact(t)
	o.close(t)
	openOffice(t, db, log, coordinator.Config{Retention: -1}).close(t)
	o = openOffice(t, db, log, coordinator.Config{})
	unknown = preceding(o.transact(t))
	o.close(t)
	return forgotten, unknown
}

// preceding returns the id just below.
func preceding(id participant.TxID) participant.TxID {
	for i := len(id.UUID) - 1; ; i-- {
		id.UUID[i]--
		if id.UUID[i] != 0xff {
			return id
		}
	}
}

// elsewhere returns a transaction of another log.
func elsewhere(t *testing.T, log, domain string) participant.TxID {
	t.Helper()
	store, err := bolt.Open(log, nil)
	require.NoError(t, err)
	dtm, err := coordinator.Open(t.Context(), coordinator.Config{Domain: domain, Store: store})
	require.NoError(t, err)
	id, err := dtm.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, dtm.Close(t.Context()))
	require.NoError(t, store.Close())
	return id
}

// leave prepares a branch, with one effect, in a process that ends then; another
// domain's lives on.
func leave(t *testing.T, db database, of string, id participant.TxID, number int) participant.Branch {
	t.Helper()
	p := db.open(t)
	tx := &transaction{participant.Branch{Domain: of, Tx: id, Number: number, Epoch: 1, Deadline: time.Now().Add(time.Hour)}}
	require.NoError(t, db.work(t.Context(), p, tx))
	vote, err := p.Prepare(t.Context(), tx.branch)
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	if of != domain {
		t.Cleanup(func() { require.NoError(t, p.Close()) })
		return tx.branch
	}
	require.NoError(t, p.Close())
	return tx.branch
}

// transaction is one that no coordinator drives.
type transaction struct{ branch participant.Branch }

func (tx *transaction) ID() participant.TxID { return tx.branch.Tx }

func (tx *transaction) Enlist(_ context.Context, p participant.Participant, data []byte) (participant.Branch, error) {
	tx.branch.Participant, tx.branch.Data = p.Name(), data
	return tx.branch, nil
}

// byHand finishes what is left with the service's own client, and has its participant
// say of it afterwards what its coordinator has to know.
func byHand(t *testing.T, db database, o *office, left []recovery.Orphan) {
	t.Helper()
	for _, orphan := range left {
		b, commit := orphan.Branch, orphan.Verdict == recovery.Forgotten || orphan.Verdict == recovery.OtherDomain
		b.Epoch = 1
		if commit {
			db.client(t, orphan.Explanation.Commit)
		} else {
			db.client(t, orphan.Explanation.Rollback)
		}
		if orphan.Verdict == recovery.NoBranch {
			require.Empty(t, b.Domain)
			continue
		}
		var heuristic *participant.HeuristicError
		if commit {
			require.NoError(t, o.db.Commit(t.Context(), b))
			require.ErrorAs(t, o.db.Rollback(t.Context(), b), &heuristic)
			require.Equal(t, participant.OutcomeCommitted, heuristic.Outcome)
		} else {
			require.ErrorAs(t, o.db.Commit(t.Context(), b), &heuristic)
			require.Equal(t, participant.OutcomeRolledBack, heuristic.Outcome)
			require.NoError(t, o.db.Rollback(t.Context(), b))
		}
	}
}

// verdicts are different ones.
func verdicts(t *testing.T, orphans []recovery.Orphan) map[recovery.Verdict]participant.XID {
	t.Helper()
	found := make(map[recovery.Verdict]participant.XID)
	for _, o := range orphans {
		found[o.Verdict] = o.Branch.XID()
	}
	require.Len(t, found, len(orphans))
	return found
}
