package bench

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

func TestRecoveryIsMeasured(t *testing.T) {
	o := Options{inDoubt: 3000, Progress: func(string) {}}
	figures, err := measureRecovery(t.Context(), o, t.TempDir())
	require.NoError(t, err)
	requireListed(t, "recovery", figures)
}

// What is measured must be what is claimed: a log that was not closed, with as many
// transactions in doubt, every second one decided.
func TestLeftoverIsWhatACrashLeaves(t *testing.T) {
	const n, share = 2500, 3 // more than share one append
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, leaveInDoubt(t.Context(), path, n, share))
	left, err := os.Stat(path)
	require.NoError(t, err)
	store, err := bolt.Open(path, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	opened, err := os.Stat(path)
	require.NoError(t, err)
	require.False(t, os.SameFile(left, opened), "a log that was not closed is copied")
	log, inherited, err := wal.Open(t.Context(), store, logConfig)
	require.NoError(t, err)
	defer func() { require.NoError(t, log.Close(t.Context())) }()
	require.Len(t, inherited, n)
	decided, withThird := 0, 0
	for _, in := range inherited {
		s := in.State
		require.True(t, s.Preparing)
		require.Zero(t, s.Completed)
		for _, b := range s.Branches {
			require.Equal(t, s.Decision == record.DecisionCommit, b.Vote == participant.VotePrepared)
		}
		if s.Decision.Valid() {
			decided++
		}
		names := []string{s.Branches[0].Participant, s.Branches[1].Participant}
		require.Equal(t, []string{"bank_a", "bank_b"}, names)
		if len(s.Branches) == 3 {
			require.Equal(t, hanging, s.Branches[2].Participant)
			withThird++
		}
	}
	require.Equal(t, n/2, decided)
	require.Equal(t, (n+share-1)/share, withThird)
}
