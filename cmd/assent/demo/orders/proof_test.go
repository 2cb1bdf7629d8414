package orders

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/cmd/assent/demo"
	"github.com/assent-tm/assent/participant"
)

var committedTx, rolledBackTx, strangeTx = testTx(1), testTx(2), testTx(3)

func testTx(n byte) participant.TxID {
	return participant.TxID{Term: participant.NewTerm(1, 1), UUID: uuid.UUID{15: n}}
}

var carriedOut = order{Item: "lamp", Pieces: 3, From: postgresName, To: mariadbName}

// depot is what the proof finds where one order was carried out, at its second try, and
// one was refused.
type depot struct{ *story }

func newDepot(t *testing.T) depot {
	t.Helper()
	site := theSite(t)
	s := &story{run: newRun(), site: site, reached: map[string]bool{}}
	s.Acts = demo.Acts[order]{Teller: &demo.Teller{Out: io.Discard}}
	var err error
	s.crew, err = openCrew(t.Context(), &site.addresses, s.run, s.warnings(), false)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.crew.close()) })
	s.databases, err = openDatabases(&site.addresses, s.run)
	require.NoError(t, err)
	s.outbox = &outbox{s.crew.js, s.run}
	for _, name := range participantNames {
		require.NoError(t, s.setUp(t.Context(), name))
	}
	t.Cleanup(func() {
		for _, name := range participantNames {
			require.NoError(t, s.removeFrom(context.Background(), name))
		}
		for _, d := range s.databases {
			require.NoError(t, d.db.Close())
		}
	})
	d := depot{s}
	d.carryOut(t, committedTx, carriedOut)
	d.publish(t, committedTx, carriedOut)
	s.Deals = []*demo.Deal[order]{
		{Number: 1, What: carriedOut, Txs: []participant.TxID{rolledBackTx, committedTx}, Answer: demo.AnswerCommitted},
		{Number: 2, What: order{Item: "rug", Pieces: tooMany, From: mariadbName, To: postgresName}, Txs: []participant.TxID{testTx(4)}, Answer: demo.AnswerRefused},
	}
	return d
}

// exec runs a statement in which %[1]s is the table of stock and %[2]s that of lines.
func (d depot) exec(t *testing.T, warehouse, statement string, args ...any) {
	t.Helper()
	args = append([]any{d.run.table("stock"), d.run.table("line")}, args...)
	result, err := d.databases[warehouse].db.ExecContext(t.Context(), fmt.Sprintf(statement, args...))
	require.NoError(t, err)
	n, err := result.RowsAffected()
	require.NoError(t, err)
	require.Positive(t, n, "the damage was not done")
}

func (d depot) carryOut(t *testing.T, tx participant.TxID, o order) {
	t.Helper()
	for _, name := range warehouseNames {
		d.exec(t, name, "UPDATE %[1]s SET pieces = pieces + %[3]d WHERE item = '%[4]s'", o.moved(name), o.Item)
		d.exec(t, name, "INSERT INTO %[2]s (tx, item, pieces) SELECT '%[3]s', item, %[4]d FROM %[1]s WHERE item = '%[5]s'", tx, o.moved(name), o.Item)
	}
}

func (d depot) publish(t *testing.T, tx participant.TxID, o order) {
	t.Helper()
	data, err := json.Marshal(message{tx, o})
	require.NoError(t, err)
	_, err = d.outbox.js.Publish(t.Context(), d.run.subject(), data)
	require.NoError(t, err)
}

func (d depot) unpublish(t *testing.T) {
	t.Helper()
	stream, err := d.outbox.js.Stream(t.Context(), d.run.stream())
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject(d.run.subject())))
}

// move moves pieces out of a warehouse's stock, or into it, without a line.
func (d depot) move(t *testing.T, warehouse string, pieces int) {
	t.Helper()
	d.exec(t, warehouse, "UPDATE %[1]s SET pieces = pieces + %[3]d WHERE item = 'lamp'", pieces)
}

// hold begins a transaction at a warehouse that lives as long as the test.
func (d depot) hold(t *testing.T, warehouse, statement string) {
	t.Helper()
	tx, err := d.databases[warehouse].db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback() })
	_, err = tx.ExecContext(t.Context(), fmt.Sprintf(statement, d.run.table("stock"), d.run.table("line")))
	require.NoError(t, err)
}

// prepare leaves a branch of the domain prepared at a warehouse, by hand.
func (d depot) prepare(t *testing.T, warehouse, domain string) {
	t.Helper()
	conn, err := d.databases[warehouse].db.Conn(t.Context())
	require.NoError(t, err)
	xid := string(participant.Branch{Domain: domain, Tx: strangeTx}.XID())
	statements := []string{"BEGIN", "CREATE TABLE IF NOT EXISTS unused ()", "PREPARE TRANSACTION '" + xid + "'"}
	undo := "ROLLBACK PREPARED '" + xid + "'"
	if warehouse == mariadbName {
		statements = []string{"XA START '" + xid + "'", "XA END '" + xid + "'", "XA PREPARE '" + xid + "'"}
		undo = "XA ROLLBACK '" + xid + "'"
	}
	for _, s := range statements {
		_, err := conn.ExecContext(t.Context(), s)
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		_, err := conn.ExecContext(context.Background(), undo)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	})
}

// enlister is a transaction of which a participant is a branch.
type enlister participant.Branch

func (e enlister) ID() participant.TxID { return e.Tx }

func (e enlister) Enlist(context.Context, participant.Participant, []byte) (participant.Branch, error) {
	return participant.Branch(e), nil
}

func (d depot) prepareMessage(t *testing.T) {
	t.Helper()
	b := participant.Branch{Domain: d.run.domain(), Tx: strangeTx, Epoch: 1, Participant: natsName}
	session, err := d.crew.nats.Join(t.Context(), enlister(b))
	require.NoError(t, err)
	require.NoError(t, session.Publish(d.run.subject(), nil, nil))
	v, err := d.crew.nats.Prepare(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, v)
}

// failed returns which claims do not hold.
func (d depot) failed(t *testing.T) (found []string) {
	t.Helper()
	a, err := d.readAll(t.Context())
	require.NoError(t, err)
	names := []string{"conserved", "prepared", "locked", "mixed", "messages", "answers"}
	for i, c := range proveAccount(a, d.Deals) {
		if len(c.Wrong) > 0 {
			found = append(found, names[i])
		}
	}
	return found
}

func TestProofAcceptsWhatIsRight(t *testing.T) {
	require.Empty(t, newDepot(t).failed(t))
}

// damages are what can go wrong at the servers, and the claims that say so.
var damages = map[string]struct {
	damage func(*testing.T, depot)
	finds  []string
}{
	"piece lost": {func(t *testing.T, d depot) {
		d.move(t, postgresName, -1)
	}, []string{"conserved"}},
	"pieces moved unseen": {func(t *testing.T, d depot) {
		d.move(t, postgresName, -1)
		d.move(t, mariadbName, 1)
	}, []string{"conserved"}},
	"item gone": {func(t *testing.T, d depot) {
		d.exec(t, mariadbName, "DELETE FROM %[1]s WHERE item = 'vase'")
	}, []string{"conserved"}},
	"left prepared at postgres": {func(t *testing.T, d depot) {
		d.prepare(t, postgresName, d.run.domain())
	}, []string{"prepared"}},
	"left prepared at mariadb": {func(t *testing.T, d depot) {
		d.prepare(t, mariadbName, d.run.domain())
	}, []string{"prepared"}},
	"left prepared at nats": {func(t *testing.T, d depot) {
		d.prepareMessage(t)
	}, []string{"prepared"}},
	"prepared by others": {func(t *testing.T, d depot) {
		d.prepare(t, postgresName, "others")
		d.prepare(t, mariadbName, "others")
	}, nil},
	"stock locked at postgres": {func(t *testing.T, d depot) {
		d.hold(t, postgresName, "UPDATE %[1]s SET pieces = pieces WHERE item = 'vase'")
	}, []string{"locked"}},
	"stock locked at mariadb": {func(t *testing.T, d depot) {
		d.hold(t, mariadbName, "UPDATE %[1]s SET pieces = pieces WHERE item = 'vase'")
	}, []string{"locked"}},
	"lines locked at postgres": {func(t *testing.T, d depot) {
		d.hold(t, postgresName, "DELETE FROM %[2]s")
	}, []string{"locked"}},
	"lines locked at mariadb": {func(t *testing.T, d depot) {
		d.hold(t, mariadbName, "DELETE FROM %[2]s")
	}, []string{"locked"}},
	"left one, did not come to the other": {func(t *testing.T, d depot) {
		d.exec(t, mariadbName, "DELETE FROM %[2]s")
		d.move(t, mariadbName, -3)
	}, []string{"conserved", "mixed", "messages", "answers"}},
	"came to one, did not leave the other": {func(t *testing.T, d depot) {
		d.exec(t, postgresName, "DELETE FROM %[2]s")
		d.move(t, postgresName, 3)
	}, []string{"conserved", "mixed", "messages", "answers"}},
	"split, and pieces made up for it": {func(t *testing.T, d depot) {
		d.exec(t, mariadbName, "UPDATE %[2]s SET tx = '%[3]s'", strangeTx)
	}, []string{"mixed", "messages", "answers"}},
	"carried out twice in one transaction": {func(t *testing.T, d depot) {
		d.carryOut(t, committedTx, carriedOut)
	}, []string{"mixed", "messages", "answers"}},
	"carried out twice": {func(t *testing.T, d depot) {
		d.carryOut(t, rolledBackTx, carriedOut)
		d.publish(t, rolledBackTx, carriedOut)
	}, []string{"answers"}},
	"message lost": {func(t *testing.T, d depot) {
		d.unpublish(t)
	}, []string{"messages"}},
	"message twice": {func(t *testing.T, d depot) {
		d.publish(t, committedTx, carriedOut)
	}, []string{"messages"}},
	"message of a transaction that was rolled back": {func(t *testing.T, d depot) {
		d.publish(t, rolledBackTx, carriedOut)
	}, []string{"messages"}},
	"message of another order": {func(t *testing.T, d depot) {
		d.unpublish(t)
		d.publish(t, committedTx, order{Item: "lamp", Pieces: 3, From: mariadbName, To: postgresName})
	}, []string{"messages"}},
	"another order": {func(_ *testing.T, d depot) {
		d.Deals[0].What.Pieces++
	}, []string{"answers"}},
	"committed, but refused by the answer": {func(_ *testing.T, d depot) {
		d.Deals[0].Answer = demo.AnswerRefused
	}, []string{"answers"}},
	"refused, but committed by the answer": {func(_ *testing.T, d depot) {
		d.Deals[1].Answer = demo.AnswerCommitted
	}, []string{"answers"}},
	"never answered": {func(_ *testing.T, d depot) {
		d.Deals[1].Answer = demo.AnswerNone
	}, []string{"answers"}},
	"nobody asked": {func(_ *testing.T, d depot) {
		d.Deals = d.Deals[1:]
	}, []string{"answers"}},
}

// The proof itself: it can fail, and says where.
func TestProofFindsEveryDamage(t *testing.T) {
	for name, c := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			c.damage(t, d)
			require.Equal(t, c.finds, d.failed(t))
		})
	}
}

// What failed is named with its transaction, and the demo's error says that it failed.
func TestFailedProofIsTold(t *testing.T) {
	d := newDepot(t)
	d.exec(t, mariadbName, "UPDATE %[2]s SET tx = '%[3]s'", strangeTx)
	var out bytes.Buffer
	d.Teller = &demo.Teller{Out: &out}
	storm := &demo.Storm[order]{Deals: d.Deals, Toll: demo.Toll{Kills: 1, MetInDoubt: 1}}
	require.ErrorIs(t, d.prove(t.Context(), storm), demo.ErrNotProven)
	require.Contains(t, out.String(), "transaction "+strangeTx.String()+" moved nothing at postgres and lamp by 3 at mariadb")
	require.Regexp(t, `(?m)^   FAILED +no mixed outcome`, out.String())
	require.Regexp(t, `(?m)^   ok +pieces are conserved: 1,600 before, 1,600 after$`, out.String())
}

func TestStormClaimsFail(t *testing.T) {
	s := &demo.Storm[order]{Deals: []*demo.Deal[order]{{Answer: demo.AnswerCommitted}, {Answer: demo.AnswerRefused}}, Toll: demo.Toll{Kills: 20, MetInDoubt: 10}}
	for _, c := range proveStorm(s) {
		require.Empty(t, c.Wrong)
	}
	s.Deals = append(s.Deals, &demo.Deal[order]{Answer: demo.AnswerRefused})
	s.Toll.MetInDoubt--
	s.Toll.Broken = []string{"a transaction was found prepared"}
	for _, c := range proveStorm(s) {
		require.Len(t, c.Wrong, 1)
	}
}
