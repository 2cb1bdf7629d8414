package banks

import (
	"database/sql"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/cmd/assent/demo"
	"github.com/assent-tm/assent/participant"
)

// town is two banks in which transfers were made, one committed and one rolled
// back, as the proof finds them.
type town struct {
	banks    readers
	payments []*payment
}

var committedTx, rolledBackTx, strangeTx = testTx(1), testTx(2), testTx(3)

func testTx(n byte) participant.TxID {
	return participant.TxID{Term: participant.NewTerm(1, 1), UUID: uuid.UUID{15: n}}
}

func newTown(t *testing.T) *town {
	t.Helper()
	dir := t.TempDir()
	for _, bank := range bankNames {
		require.NoError(t, createBank(t.Context(), dir, bank))
	}
	banks, err := openReaders(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, banks.close()) })
	town := &town{banks: banks, payments: []*payment{
		{Number: 1, What: Transfer{"alice", "bob", 30}, Txs: []participant.TxID{rolledBackTx, committedTx}, Answer: demo.AnswerCommitted},
		{Number: 2, What: Transfer{"bruno", "anna", 2000}, Txs: []participant.TxID{testTx(4)}, Answer: demo.AnswerRefused},
	}}
	for _, bank := range bankNames {
		p, err := newBank(t.Context(), bank, banks[bank])
		require.NoError(t, err)
		for _, tx := range []participant.TxID{rolledBackTx, committedTx} {
			data, err := sides(town.payments[0].What)[bank].data()
			require.NoError(t, err)
			b := participant.Branch{Domain: "demo", Tx: tx, Epoch: 1, Participant: bank, Data: data}
			v, err := p.Prepare(t.Context(), b)
			require.NoError(t, err)
			require.Equal(t, participant.VotePrepared, v)
			if tx == committedTx {
				require.NoError(t, p.Commit(t.Context(), b))
			} else {
				require.NoError(t, p.Rollback(t.Context(), b))
			}
		}
	}
	return town
}

func (town *town) exec(t *testing.T, bank, statement string, args ...any) {
	t.Helper()
	result, err := town.banks[bank].ExecContext(t.Context(), statement, args...)
	require.NoError(t, err)
	n, err := result.RowsAffected()
	require.NoError(t, err)
	require.Positive(t, n, "the damage was not done")
}

// failed returns which claims do not hold.
func (town *town) failed(t *testing.T) (found []string) {
	t.Helper()
	all, err := town.banks.read(t.Context())
	require.NoError(t, err)
	names := []string{"conserved", "prepared", "mixed", "answers"}
	for i, c := range proveBooks(all, town.payments) {
		if len(c.Wrong) > 0 {
			found = append(found, names[i])
		}
	}
	return found
}

func TestProofAcceptsWhatIsRight(t *testing.T) {
	require.Empty(t, newTown(t).failed(t))
}

// damages are what can go wrong in the databases, and the claims that say so.
var damages = map[string]struct {
	damage func(*testing.T, *town)
	finds  []string
}{
	"money lost": {func(t *testing.T, town *town) {
		town.exec(t, bankA, "UPDATE account SET balance = balance - 1 WHERE name = 'agnes'")
	}, []string{"conserved"}},
	"money moved unseen": {func(t *testing.T, town *town) {
		town.exec(t, bankA, "UPDATE account SET balance = balance - 1 WHERE name = 'agnes'")
		town.exec(t, bankB, "UPDATE account SET balance = balance + 1 WHERE name = 'bruno'")
	}, []string{"conserved"}},
	"account gone": {func(t *testing.T, town *town) {
		town.exec(t, bankB, "DELETE FROM account WHERE name = 'bruno'")
	}, []string{"conserved"}},
	"left prepared": {func(t *testing.T, town *town) {
		town.exec(t, bankB, "UPDATE assent_branch SET state = 'prepared', expires = 0 WHERE id LIKE ?", "%"+xidPart(rolledBackTx)+"%")
	}, []string{"prepared"}},
	"left reserved": {func(t *testing.T, town *town) {
		town.exec(t, bankA, "UPDATE account SET reserved = 1 WHERE name = 'alice'")
	}, []string{"prepared"}},
	"debit without credit": {func(t *testing.T, town *town) {
		town.exec(t, bankB, "DELETE FROM entry")
		town.exec(t, bankB, "UPDATE account SET balance = balance - 30 WHERE name = 'bob'")
	}, []string{"conserved", "mixed", "answers"}},
	"credit without debit": {func(t *testing.T, town *town) {
		town.exec(t, bankA, "DELETE FROM entry")
		town.exec(t, bankA, "UPDATE account SET balance = balance + 30 WHERE name = 'alice'")
	}, []string{"conserved", "mixed", "answers"}},
	"split, and money made up for it": {func(t *testing.T, town *town) {
		town.exec(t, bankB, "UPDATE entry SET tx = ?", strangeTx.String())
	}, []string{"mixed", "answers"}},
	"committed here, rolled back there": {func(t *testing.T, town *town) {
		town.exec(t, bankB, "UPDATE assent_branch SET state = 'rolled back' WHERE state = 'committed'")
	}, []string{"mixed"}},
	"paid twice": {func(t *testing.T, town *town) {
		for bank, account := range map[string]string{bankA: "alice", bankB: "bob"} {
			town.exec(t, bank, "INSERT INTO entry (tx, account, amount) SELECT ?, account, amount FROM entry", rolledBackTx.String())
			town.exec(t, bank, "UPDATE assent_branch SET state = 'committed'")
			town.exec(t, bank, "UPDATE account SET balance = balance + (SELECT min(amount) FROM entry) WHERE name = ?", account)
		}
	}, []string{"answers"}},
	"confirmed twice": {func(t *testing.T, town *town) {
		for bank, account := range map[string]string{bankA: "alice", bankB: "bob"} {
			town.exec(t, bank, "INSERT INTO entry (tx, account, amount) SELECT tx, account, amount FROM entry")
			town.exec(t, bank, "UPDATE account SET balance = balance + (SELECT min(amount) FROM entry) WHERE name = ?", account)
		}
	}, []string{"mixed", "answers"}},
	"moved, but rolled back": {func(t *testing.T, town *town) {
		for _, bank := range bankNames {
			town.exec(t, bank, "UPDATE assent_branch SET state = 'rolled back'")
		}
	}, []string{"mixed"}},
	"to the wrong account": {func(t *testing.T, town *town) {
		town.exec(t, bankB, "UPDATE entry SET account = 'bella'")
		town.exec(t, bankB, "UPDATE account SET balance = balance - 30 WHERE name = 'bob'")
		town.exec(t, bankB, "UPDATE account SET balance = balance + 30 WHERE name = 'bella'")
	}, []string{"answers"}},
	"committed, but refused by the answer": {func(_ *testing.T, town *town) {
		town.payments[0].Answer = demo.AnswerRefused
	}, []string{"answers"}},
	"refused, but committed by the answer": {func(_ *testing.T, town *town) {
		town.payments[1].Answer = demo.AnswerCommitted
	}, []string{"answers"}},
	"never answered": {func(_ *testing.T, town *town) {
		town.payments[1].Answer = demo.AnswerNone
	}, []string{"answers"}},
	"nobody asked": {func(_ *testing.T, town *town) {
		town.payments = town.payments[1:]
	}, []string{"answers"}},
}

// The proof itself: it can fail, and says where.
func TestProofFindsEveryDamage(t *testing.T) {
	for name, c := range damages {
		t.Run(name, func(t *testing.T) {
			town := newTown(t)
			c.damage(t, town)
			require.Equal(t, c.finds, town.failed(t))
		})
	}
}

func TestStormClaimsFail(t *testing.T) {
	s := &demo.Storm[Transfer]{Deals: []*payment{{Answer: demo.AnswerCommitted}, {Answer: demo.AnswerRefused}}, Toll: demo.Toll{Kills: 30, MetInDoubt: minMetInDoubt}}
	for _, c := range proveStorm(s) {
		require.Empty(t, c.Wrong)
	}
	s.Deals = append(s.Deals, &payment{Answer: demo.AnswerRefused})
	s.Toll.MetInDoubt--
	s.Toll.Broken = []string{"a transaction was found prepared"}
	for _, c := range proveStorm(s) {
		require.Len(t, c.Wrong, 1)
	}
}

func xidPart(tx participant.TxID) string {
	return string(participant.Branch{Domain: "demo", Tx: tx}.XID())
}

func TestReadersSeeWhatIsInDoubt(t *testing.T) {
	town := newTown(t)
	inDoubt, err := town.banks.inDoubt(t.Context())
	require.NoError(t, err)
	require.Empty(t, inDoubt[bankA])
	bank, err := newBank(t.Context(), bankA, town.banks[bankA])
	require.NoError(t, err)
	data, err := side{"alice", -5}.data()
	require.NoError(t, err)
	_, err = bank.Prepare(t.Context(), participant.Branch{Domain: "demo", Tx: strangeTx, Epoch: 1, Participant: bankA, Data: data})
	require.NoError(t, err)
	inDoubt, err = town.banks.inDoubt(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[participant.TxID]string{strangeTx: prepared}, inDoubt[bankA])
	require.Empty(t, inDoubt[bankB])
}

// What a debit sets aside can't be spent again, and is back after a rollback.
func TestReserveKeepsMoneyFromBeingSpentTwice(t *testing.T) {
	town := newTown(t)
	bank, err := newBank(t.Context(), bankB, town.banks[bankB])
	require.NoError(t, err)
	data, err := side{"bella", -openingBalance}.data()
	require.NoError(t, err)
	first := participant.Branch{Domain: "demo", Tx: testTx(10), Epoch: 1, Participant: bankB, Data: data}
	second, third := first, first
	second.Tx, third.Tx = testTx(11), testTx(12)
	v, err := bank.Prepare(t.Context(), first)
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, v)
	v, err = bank.Prepare(t.Context(), second)
	require.ErrorIs(t, err, errInsufficientFunds)
	require.Equal(t, participant.VoteRefused, v)
	require.NoError(t, bank.Rollback(t.Context(), first))
	v, err = bank.Prepare(t.Context(), third)
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, v)
	var reserved sql.NullInt64
	require.NoError(t, town.banks[bankB].QueryRowContext(t.Context(), "SELECT reserved FROM account WHERE name = 'bella'").Scan(&reserved))
	require.EqualValues(t, openingBalance, reserved.Int64)
}
