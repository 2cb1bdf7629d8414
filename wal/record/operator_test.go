package record_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// R12: of words that can be said again and again a state keeps the newest, and never loses
// whether the transaction is paused, or a word that ended a branch.
func TestR12AStateKeepsTheWordsThatCount(t *testing.T) {
	tx := participant.TxID{Term: participant.NewTerm(1, 1)}
	s := record.NewState(tx)
	say := func(verb record.Verb, branch int) {
		require.NoError(t, s.Apply(record.Operator{Tx: tx, Number: s.NextWord(), At: time.UnixMilli(1), Verb: verb, Branch: branch}))
	}
	require.False(t, s.Paused())
	say(record.VerbForgetBranch, 0)
	say(record.VerbPause, record.NoBranch)
	say(record.VerbResume, record.NoBranch)
	require.False(t, s.Paused())
	say(record.VerbPause, record.NoBranch)
	say(record.VerbResolve, 1)
	for range 1000 {
		say(record.VerbRetry, record.NoBranch)
	}
	require.True(t, s.Paused())
	require.Len(t, s.Words, 67)
	require.Equal(t, []record.Verb{record.VerbForgetBranch, record.VerbPause, record.VerbResolve, record.VerbRetry},
		[]record.Verb{s.Words[0].Verb, s.Words[1].Verb, s.Words[2].Verb, s.Words[3].Verb})
	require.Equal(t, uint64(4), s.Words[1].Number)
	require.Equal(t, uint64(1006), s.NextWord())
	say(record.VerbResume, record.NoBranch)
	require.False(t, s.Paused())
}
