package mysql_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/mysql"
)

// R10: what others have prepared on the server is not on the list, however it looks.
func TestListIsOfThisParticipantAlone(t *testing.T) {
	d := newDatabase(t)
	p, other := d.open(t), d.open(t, func(c *mysql.Config) { c.Name = "audit" })
	b, theirs := prepared(t, p), prepared(t, other)
	xid := func() string { return string(newTransaction().b.XID()) }
	foreign := []string{
		"'" + xid() + "'",                             // another format
		"'" + xid() + "', '', 1095978580",             // no qualifier
		"'" + xid() + "', 'bank', 1095978580",         // another qualifier
		"'test:1:2:3', 'assent', 1",                   // another application
		"'tes', 't:" + xid()[len("test:"):] + "', 99", // glued together it looks like one
		"0x" + "00ff27" + ", 0x00, 2147483647",        // bytes
		"0x" + "00ff28" + ", '', 0",                   // and no qualifier
	}
	for _, literal := range foreign {
		d.apart(t, "XA START "+literal, "INSERT INTO effect VALUES ('foreign')", "XA END "+literal, "XA PREPARE "+literal)
	}
	require.Len(t, d.prepared(t), 2)
	for instance, want := range map[*mysql.Participant]participant.Branch{p: b, other: theirs} {
		listing, err := instance.List(t.Context(), "test")
		require.NoError(t, err)
		require.Len(t, listing.Prepared, 1)
		require.Equal(t, want.XID(), listing.Prepared[0].XID())
		require.Equal(t, []participant.TxID{want.Tx}, listing.Highest)
	}
	_, err := p.List(t.Context(), "te%")
	require.Error(t, err)

	// Explain shows them all, but not what the other database has.
	elsewhere := newDatabase(t)
	q := elsewhere.open(t)
	apart := prepared(t, q)
	shown, err := p.Explain(t.Context())
	require.NoError(t, err)
	require.Len(t, shown, len(foreign)+2)
	for _, e := range shown {
		d.byHand(t, e.Rollback)
	}
	requireHeuristic(t, p.Commit(t.Context(), b), participant.OutcomeRolledBack)
	require.NoError(t, other.Rollback(t.Context(), theirs))
	require.NoError(t, q.Commit(t.Context(), apart))
	shown, err = p.Explain(t.Context())
	require.NoError(t, err)
	require.Empty(t, shown)
}

// byHand executes what Explain says.
func (d *database) byHand(t *testing.T, script string) {
	t.Helper()
	for line := range strings.SplitSeq(script, "\n") {
		if !strings.HasPrefix(line, "--") {
			d.exec(t, line)
		}
	}
}

// What Explain says to commit a branch does, and who is told later finds it done.
func TestExplainCommits(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	b := prepared(t, p)
	shown, err := p.Explain(t.Context())
	require.NoError(t, err)
	require.Len(t, shown, 1)
	require.Equal(t, b.XID(), shown[0].Branch.XID())
	require.Contains(t, shown[0].Name, string(b.XID()))
	require.Contains(t, shown[0].Commit, "KILL ", "its session lives")
	d.byHand(t, shown[0].Commit)
	d.requireEffects(t, b, 1)
	require.NoError(t, p.Commit(t.Context(), b))
}

// R10: the highest transaction of a term outlives what is forgotten, and a restart.
func TestListRemembersTheHighest(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	newer := participant.NewTerm(2, 1)
	low, high, last := newTransaction(), newTransaction(), newTransaction()
	last.b.Tx.Term = newer
	for _, tx := range []*transaction{high, low, last} {
		_, err := work(t.Context(), p, tx)
		require.NoError(t, err)
		vote, err := p.Prepare(t.Context(), tx.b)
		require.NoError(t, err)
		require.Equal(t, participant.VotePrepared, vote)
		require.NoError(t, p.Commit(t.Context(), tx.b))
	}
	require.NoError(t, p.Forget(t.Context(), []participant.Branch{low.b, high.b, last.b}))
	require.NoError(t, d.Restart(t.Context()))
	listing, err := d.open(t).List(t.Context(), "test")
	require.NoError(t, err)
	require.Empty(t, listing.Prepared)
	require.ElementsMatch(t, []participant.TxID{high.b.Tx, last.b.Tx}, listing.Highest)
	for _, domain := range []string{"tes", "test-b", "t"} {
		listing, err = p.List(t.Context(), domain)
		require.NoError(t, err)
		require.Empty(t, listing.Highest)
	}
}

// Rows go when their time is over: soon after Forget, late without it, and the highest
// of a term last.
func TestRowsExpire(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t, func(c *mysql.Config) { c.Retention, c.MaxRetention = time.Minute, time.Hour })
	var branches []participant.Branch
	for range 4 {
		b := prepared(t, p)
		require.NoError(t, p.Commit(t.Context(), b))
		branches = append(branches, b)
	}
	inDoubt := prepared(t, p)
	tombstone := newTransaction().b
	require.NoError(t, p.Rollback(t.Context(), tombstone))
	rows := func() string { return d.text(t, "SELECT COUNT(*) FROM assent_witness WHERE id <> ''") }
	later := func(seconds int) {
		for _, b := range append(branches, tombstone) {
			d.exec(t, "UPDATE assent_witness SET expires = expires - ? WHERE id = ?", seconds, string(b.XID()))
		}
		_, err := p.List(t.Context(), "test")
		require.NoError(t, err)
	}
	require.NoError(t, p.Forget(t.Context(), branches[:2]))
	require.Equal(t, "5", rows())
	require.NoError(t, p.Commit(t.Context(), branches[0]), "it is remembered for Retention")

	later(61)
	require.Equal(t, "3", rows())
	require.ErrorIs(t, p.Commit(t.Context(), branches[0]), participant.ErrUnknownBranch)
	require.NoError(t, p.Commit(t.Context(), branches[3]))
	later(3600 - 61 + 1) // what was asked for again stays a second more
	require.Equal(t, "1", rows(), "the tombstone is the highest of its term")
	require.ErrorContains(t, mustRefuse(t, p, tombstone), "rolled back already")
	later(3600 + 1)
	require.Equal(t, "0", rows())

	require.NoError(t, p.Commit(t.Context(), inDoubt), "what is in doubt has no age")
	d.requireEffects(t, inDoubt, 1)
	require.Equal(t, "1", rows())
	require.Equal(t, "1", d.text(t, "SELECT COUNT(*) FROM assent_witness WHERE id = ''"), "the identity stays")
}

func mustRefuse(t *testing.T, p *mysql.Participant, b participant.Branch) error {
	t.Helper()
	vote, err := p.Prepare(t.Context(), b)
	require.Equal(t, participant.VoteRefused, vote)
	return err
}

// Forget and the passes through the table do not wait for branches in doubt.
func TestForgetManyBranches(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t, func(c *mysql.Config) { c.Retention = time.Second })
	inDoubt := prepared(t, p)
	var branches []participant.Branch
	for range 700 {
		branches = append(branches, newTransaction().b)
	}
	for _, b := range branches {
		require.NoError(t, p.Rollback(t.Context(), b))
	}
	require.NoError(t, p.Forget(t.Context(), branches))
	require.NoError(t, p.Forget(t.Context(), nil))
	var n int
	require.NoError(t, d.admin.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM assent_witness WHERE expires > UNIX_TIMESTAMP() + 1 AND id <> ?",
		string(inDoubt.XID())).Scan(&n))
	require.Zero(t, n)
	require.NoError(t, p.Commit(t.Context(), inDoubt))
	d.exec(t, "UPDATE assent_witness SET expires = expires - 5 WHERE state = 'rolled back'")
	inDoubt = prepared(t, p)
	for range 8 {
		require.NoError(t, p.Forget(t.Context(), branches[:1]))
	}
	require.Equal(t, string(branches[len(branches)-1].XID()), d.text(t, "SELECT id FROM assent_witness WHERE state = 'rolled back'"))
	require.NoError(t, p.Commit(t.Context(), inDoubt))
}
