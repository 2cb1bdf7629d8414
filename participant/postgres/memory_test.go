package postgres_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

// Anybody may prepare under any name, and another domain may look like ours (R10).
func TestR10ListIsOfExactlyOurBranches(t *testing.T) {
	f := newFixture(t)
	other := newFixture(t)
	mine := f.prepared()
	other.prepared() // in another database
	for _, name := range []string{"orders", "orders:", "orders:1:x:0", "order_:" + string(mine.XID())[7:], "ORDERS" + string(mine.XID())[6:]} {
		execute(t, f.url, "BEGIN; INSERT INTO effect VALUES ('x'); PREPARE TRANSACTION '"+name+"'")
		defer execute(t, f.url, "ROLLBACK PREPARED '"+name+"'")
	}
	for _, p := range []*process{f.process, f.start()} {
		listing, err := p.List(t.Context(), "orders")
		require.NoError(t, err)
		require.Len(t, listing.Prepared, 1)
		require.Equal(t, mine.XID(), listing.Prepared[0].XID())
		require.Equal(t, []participant.TxID{mine.Tx}, listing.Highest)
		for _, domain := range []string{"order", "orders-", "order_", "%", "nobody"} {
			listing, err = p.List(t.Context(), domain)
			require.NoError(t, err)
			require.Empty(t, listing)
		}
	}
	require.NoError(t, f.Rollback(t.Context(), mine.Branch))
	require.NoError(t, other.Rollback(t.Context(), other.prepared().Branch))
}

// The highest of each term, whether its row says committed or rolled back, or it is in
// doubt; terms are no numbers to the table.
func TestHighestOfEachTerm(t *testing.T) {
	f := newFixture(t)
	var want []participant.TxID
	for _, counter := range []uint32{1, 2, 35, 36, 1 << 20} {
		var txs []*transaction
		for range 3 {
			tx := newTransaction()
			tx.Tx.Term = participant.NewTerm(counter, 7)
			txs = append(txs, tx)
		}
		want = append(want, txs[2].Tx)
		for i, tx := range []*transaction{txs[2], txs[0], txs[1]} {
			session, err := f.Join(t.Context(), tx)
			require.NoError(t, err)
			_, err = session.Exec(t.Context(), "INSERT INTO effect VALUES ($1)", tx.Tx.String())
			require.NoError(t, err)
			f.votes(tx, participant.VotePrepared)
			switch (i + int(counter)) % 3 {
			case 0:
				require.NoError(t, f.Commit(t.Context(), tx.Branch))
			case 1:
				require.NoError(t, f.Rollback(t.Context(), tx.Branch))
			}
		}
	}
	listing, err := f.start().List(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, want, listing.Highest)
	for _, b := range listing.Prepared {
		require.NoError(t, f.Rollback(t.Context(), b))
	}
}

// Expired rows go, the highest of its term later; what is not expired stays, however
// long the table, and wherever the last portion ended.
func TestForgetPrunesInPortions(t *testing.T) {
	f := newFixture(t)
	const perTerm = 700 // more than a portion together
	ids := func(counter uint32) (list []string) {
		for n := range perTerm {
			b := newTransaction().Branch
			b.Tx.Term = participant.NewTerm(counter, 1)
			b.Tx.UUID = uuid.UUID{15: byte(n), 14: byte(n >> 8)}
			list = append(list, string(b.XID()))
		}
		slices.SortFunc(list, cmp.Compare)
		return list
	}
	insert := "INSERT INTO assent_witness SELECT id, 'committed', now() + $2::interval FROM unnest($1::text[]) AS id"
	old, ancient, young := ids(1), ids(2), ids(3)
	for age, list := range map[string][]string{"-1 s": old, "-31 days": ancient, "1 h": young} {
		_, err := f.look.Exec(t.Context(), insert, list, age)
		require.NoError(t, err)
	}
	forget := func(n int) {
		var branches []participant.Branch
		for range n {
			branches = append(branches, newTransaction().Branch)
		}
		require.NoError(t, f.Forget(t.Context(), branches))
	}
	forget(63)
	require.Equal(t, 3*perTerm, f.number("SELECT count(*) FROM assent_witness"))
	forget(1)
	require.Equal(t, 3*perTerm-512, f.number("SELECT count(*) FROM assent_witness"))
	forget(10 * 64)
	require.Equal(t, perTerm+1, f.number("SELECT count(*) FROM assent_witness"))
	require.Equal(t, 1, f.number("SELECT count(*) FROM assent_witness WHERE id = $1", old[perTerm-1]))
	listing, err := f.List(t.Context(), "orders")
	require.NoError(t, err)
	require.Len(t, listing.Highest, 2)
}

func TestForgetBringsTheExpiryForward(t *testing.T) {
	f := newFixture(t)
	committed, undone, inDoubt, kept := f.prepared(), f.prepared(), f.prepared(), f.prepared()
	require.NoError(t, f.Commit(t.Context(), committed.Branch))
	require.NoError(t, f.Commit(t.Context(), kept.Branch))
	require.NoError(t, f.Rollback(t.Context(), undone.Branch))
	for range 2 {
		require.NoError(t, f.Forget(t.Context(), []participant.Branch{committed.Branch, undone.Branch, inDoubt.Branch, newTransaction().Branch}))
	}
	require.NoError(t, f.Commit(t.Context(), inDoubt.Branch))
	for tx, hours := range map[*transaction]int{committed: 1, undone: 1, inDoubt: 720, kept: 720} {
		left := f.number("SELECT round(extract(epoch FROM expires - now()) / 3600) FROM assent_witness WHERE id = $1", string(tx.XID()))
		require.Equal(t, hours, left, fmt.Sprint(tx.XID()))
	}
	require.NoError(t, f.Forget(t.Context(), nil))
}
