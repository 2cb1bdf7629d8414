package mysql_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/mysql"
	"github.com/assent-tm/assent/wal/bolt"
)

// The environment variables that make the test binary a process which transfers money
// until it is killed: its log, and its two databases.
const (
	logEnv  = "ASSENT_TEST_MYSQL_LOG"
	fromEnv = "ASSENT_TEST_MYSQL_FROM"
	toEnv   = "ASSENT_TEST_MYSQL_TO"
)

// bank is a coordinator with two databases.
type bank struct {
	store    *bolt.Store
	dtm      *coordinator.DTM
	from, to *mysql.Participant
}

func openBank(ctx context.Context, log, from, to string) (b *bank, err error) {
	b = &bank{}
	if b.from, err = mysql.New(mysql.Config{Name: "from", DSN: from}); err != nil {
		return nil, err
	}
	if b.to, err = mysql.New(mysql.Config{Name: "to", DSN: to}); err != nil {
		return nil, err
	}
	if b.store, err = bolt.Open(log, nil); err != nil {
		return nil, err
	}
	b.dtm, err = coordinator.Open(ctx, coordinator.Config{Domain: "test", Store: b.store, Participants: []participant.Participant{b.from, b.to}})
	return b, err
}

func (b *bank) close(ctx context.Context) error {
	//nolint:contextcheck // Close has none
	return errors.Join(b.dtm.Close(ctx), b.from.Close(), b.to.Close(), b.store.Close())
}

// transfer moves one cent between the accounts of this name and returns its transaction.
func (b *bank) transfer(ctx context.Context, name string) (id participant.TxID, err error) {
	err = b.dtm.Run(ctx, func(ctx context.Context, tx *coordinator.Tx) error {
		id = tx.ID()
		// In the same order for all: no database sees a deadlock across both.
		if err := move(ctx, b.from, tx, name, -1); err != nil {
			return err
		}
		return move(ctx, b.to, tx, name, 1)
	})
	return id, err
}

func move(ctx context.Context, p *mysql.Participant, tx *coordinator.Tx, name string, cents int) error {
	s, err := work(ctx, p, tx)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(ctx, "UPDATE account SET balance = balance + ? WHERE name = ?", cents, name)
	return err
}

// transferUntilKilled prints the transactions that committed.
func transferUntilKilled() {
	ctx := context.Background()
	b, err := openBank(ctx, os.Getenv(logEnv), os.Getenv(fromEnv), os.Getenv(toEnv))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, name := range []string{"ann", "bob", "eve", "kim"} {
		go func() {
			for {
				if id, err := b.transfer(ctx, name); err == nil {
					fmt.Println(id)
				}
			}
		}()
	}
	select {}
}

// The coordinator's process is killed in the middle of transfers between two
// databases. The next one finishes what was in doubt: no money is lost or made, and
// whatever was acknowledged is there.
func TestCoordinatorIsKilled(t *testing.T) {
	from, to := newDatabase(t), newDatabase(t)
	log := filepath.Join(t.TempDir(), "assent.db")
	var acknowledged []participant.TxID
	inDoubt := 0
	for round := range 5 {
		acknowledged = append(acknowledged, transferInChild(t, log, from, to, 20+10*round)...)
		inDoubt += len(from.prepared(t))

		b, err := openBank(t.Context(), log, from.DSN(from.name), to.DSN(to.name))
		require.NoError(t, err)
		require.NoError(t, b.dtm.WaitRecovered(t.Context()))
		for _, name := range []string{"ann", "bob", "eve", "kim"} {
			id, err := b.transfer(t.Context(), name)
			require.NoError(t, err, "no lock is left")
			acknowledged = append(acknowledged, id)
		}
		require.NoError(t, b.close(t.Context()))
		require.Empty(t, from.prepared(t))

		for _, id := range acknowledged {
			for _, d := range []*database{from, to} {
				n, err := d.effects(t.Context(), id)
				require.NoError(t, err)
				require.Equal(t, 1, n, "acknowledged: %s", id)
			}
		}
		effects := "SELECT GROUP_CONCAT(tx ORDER BY tx) FROM effect"
		from.exec(t, "SET GLOBAL group_concat_max_len = 10000000")
		require.Equal(t, from.text(t, effects), to.text(t, effects))
		count := from.text(t, "SELECT COUNT(*) FROM effect")
		require.Equal(t, count, from.text(t, "SELECT 100 - SUM(balance) FROM account"))
		require.Equal(t, count, to.text(t, "SELECT SUM(balance) - 100 FROM account"))
	}
	t.Logf("%d transfers were acknowledged, %d branches were in doubt", len(acknowledged), inDoubt)
}

// transferInChild lets a process transfer until it has told of n transfers, kills it,
// and returns those it told of.
func transferInChild(t *testing.T, log string, from, to *database, n int) (acknowledged []participant.TxID) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), logEnv+"="+log, fromEnv+"="+from.DSN(from.name), toEnv+"="+to.DSN(to.name))
	child.Stderr = os.Stderr
	output, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		id, err := participant.ParseTxID(lines.Text())
		require.NoError(t, err)
		if acknowledged = append(acknowledged, id); len(acknowledged) == n {
			require.NoError(t, child.Process.Kill())
		}
	}
	require.Error(t, child.Wait(), "it was killed")
	require.GreaterOrEqual(t, len(acknowledged), n)
	return acknowledged
}

// silent is a participant whose acknowledgement is lost, or that does not get the word.
type silent struct {
	*mysql.Participant
	deaf bool
}

var errSilent = errors.New("no word")

func (s *silent) Commit(ctx context.Context, b participant.Branch) error {
	if s.deaf {
		return errSilent
	}
	return errors.Join(s.Participant.Commit(ctx, b), errSilent)
}

// A coordinator is closed with branches in doubt, in one process; the next one commits
// them by their XIDs.
func TestCoordinatorRestartsWithBranchesInDoubt(t *testing.T) {
	a, b := newDatabase(t), newDatabase(t)
	log := filepath.Join(t.TempDir(), "assent.db")
	store, err := bolt.Open(log, nil)
	require.NoError(t, err)
	deaf := &silent{Participant: a.open(t, func(c *mysql.Config) { c.Name = "from" }), deaf: true}
	mute := &silent{Participant: b.open(t, func(c *mysql.Config) { c.Name = "to" })}
	dtm, err := coordinator.Open(t.Context(), coordinator.Config{
		Domain: "test", Store: store, CommitWait: -1, Participants: []participant.Participant{deaf, mute},
	})
	require.NoError(t, err)
	var ids []participant.TxID
	for range 8 {
		err := dtm.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
			ids = append(ids, tx.ID())
			for _, p := range []*silent{deaf, mute} {
				s, err := p.Join(ctx, through{tx, p})
				if err != nil {
					return err
				}
				if _, err := s.ExecContext(ctx, "INSERT INTO effect VALUES (?)", tx.ID().String()); err != nil {
					return err
				}
			}
			return nil
		})
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
	}
	require.NoError(t, dtm.Close(t.Context()))
	require.NoError(t, store.Close())
	require.NoError(t, deaf.Close())
	require.NoError(t, mute.Close())
	require.Len(t, a.prepared(t), len(ids))

	next, err := openBank(t.Context(), log, a.DSN(a.name), b.DSN(b.name))
	require.NoError(t, err)
	require.NoError(t, next.dtm.WaitRecovered(t.Context()))
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() { _ = next.dtm.Commit(t.Context(), id) })
	}
	wg.Wait()
	for _, id := range ids {
		require.NoError(t, next.dtm.Commit(t.Context(), id))
		for _, d := range []*database{a, b} {
			n, err := d.effects(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, 1, n)
		}
	}
	require.NoError(t, next.close(t.Context()))
	require.Empty(t, a.prepared(t))
}

// through enlists the participant that stands before the adapter.
type through struct {
	*coordinator.Tx
	p participant.Participant
}

func (e through) Enlist(ctx context.Context, _ participant.Participant, data []byte) (participant.Branch, error) {
	return e.Tx.Enlist(ctx, e.p, data)
}
