package record_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// R9, R10: words merge like everything else in the log.
func TestR10WordsMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := genWords(t), genWords(t), genWords(t)
		require.Equal(t, a.Merge(b), b.Merge(a), "commutative")
		require.Equal(t, a.Merge(b).Merge(c), a.Merge(b.Merge(c)), "associative")
		require.Equal(t, a, a.Merge(a), "idempotent")
		require.Equal(t, a, a.Merge(record.Words{}), "nothing said changes nothing")
		require.Greater(t, a.Merge(b).Next(), max(a.Next(), b.Next())-1, "what is said next is newer than both")
	})
}

// R10: the newer word wins, wherever a crash left the older one.
func TestR10TheNewerWordCounts(t *testing.T) {
	said := func(n uint64) record.Word {
		return record.Word{Number: n, At: time.UnixMilli(1), Term: participant.NewTerm(uint32(n), 0), Reason: "r"}
	}
	restored := record.Words{Quarantine: said(1)}
	accepted := record.Words{Quarantine: said(1), Acceptance: said(2)}
	again := record.Words{Quarantine: said(3), Acceptance: said(2)}
	require.False(t, record.Words{}.Quarantined())
	require.True(t, restored.Quarantined())
	require.False(t, accepted.Quarantined())
	require.True(t, again.Quarantined())
	require.False(t, restored.Merge(accepted).Quarantined())
	require.True(t, accepted.Merge(again).Quarantined())
	require.False(t, record.Words{Acceptance: said(1)}.Quarantined())
	require.True(t, record.Words{Quarantine: said(1), Acceptance: said(1)}.Quarantined(), "said at once")
	require.Equal(t, said(2).Term, again.Accepted(), "a later quarantine takes no acceptance back")
	require.Zero(t, restored.Accepted())
}

// A log in which no operator said anything is written as it was before words were
// known; one with words is not read by programs that don't know them.
func TestOnlyWordsRaiseTheVersion(t *testing.T) {
	h := record.Header{Term: participant.NewTerm(1, 1), Seq: 1, Catalogue: &record.Catalogue{Domain: "orders"}}
	plain, err := record.Append(nil, h)
	require.NoError(t, err)
	h.Catalogue.Words.Quarantine = record.Word{Number: 1, At: time.UnixMilli(1), Reason: "restored"}
	worded, err := record.Append(nil, h)
	require.NoError(t, err)
	const version = 3 // length, array, kind, version
	require.Equal(t, byte(1), plain[version])
	require.Equal(t, byte(2), worded[version])
}

// A version that only looks like that of words when it is cut to a byte.
func TestAnImpossibleVersionIsDamage(t *testing.T) {
	for _, kind := range kinds {
		body, err := msgpack.Marshal([]any{uint64(kind), uint64(256 + 2), uint64(participant.NewTerm(1, 1)), make([]byte, 16), nil, nil})
		require.NoError(t, err)
		_, _, err = record.Next(frame(body))
		require.ErrorIs(t, err, record.ErrCorrupt)
	}
}
