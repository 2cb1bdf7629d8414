package record_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// requireSameFromReader fails unless a Reader finds in the frame the record that Next
// found, or the error.
func requireSameFromReader(t require.TestingT, frame []byte, want record.Record, wantErr error) {
	reader := record.NewReader()
	_, err := reader.Next(frame)
	if err == nil {
		if reader.Kind() == record.KindHeader {
			var h record.Header
			if h, err = reader.Header(); err == nil {
				require.Equal(t, want, h)
			}
		} else {
			requireSameState(t, reader, want, &err)
		}
	}
	if wantErr != nil {
		require.EqualError(t, err, wantErr.Error())
		return
	}
	require.NoError(t, err)
}

func requireSameState(t require.TestingT, reader *record.Reader, want record.Record, err *error) {
	s := record.NewState(reader.TxID())
	if *err = reader.ApplyTo(s); *err != nil {
		require.Equal(t, record.NewState(reader.TxID()), s, "a record is merged whole or not at all")
		return
	}
	require.NotNil(t, want)
	same := record.NewState(want.TxID())
	require.NoError(t, same.Apply(want))
	require.Equal(t, same, s)
}

func TestReaderRefusesWhatDoesNotBelongTogether(t *testing.T) {
	a, b := participant.TxID{Term: participant.NewTerm(1, 1)}, participant.TxID{Term: participant.NewTerm(2, 1)}
	reader := record.NewReader()
	next := func(r record.Record) {
		frame, err := record.Append(nil, r)
		require.NoError(t, err)
		_, err = reader.Next(frame)
		require.NoError(t, err)
	}
	next(record.Preparing{Tx: a})
	require.Equal(t, record.KindPreparing, reader.Kind())
	require.Equal(t, a, reader.TxID())
	require.ErrorIs(t, reader.ApplyTo(record.NewState(b)), record.ErrConflict)
	_, err := reader.Header()
	require.ErrorIs(t, err, record.ErrCorrupt)

	next(record.Header{Term: a.Term})
	require.ErrorIs(t, reader.ApplyTo(record.NewState(a)), record.ErrConflict)

	s := record.NewState(a)
	next(record.Decided{Tx: a, Decision: record.DecisionCommit, By: record.NoBranch})
	require.NoError(t, reader.ApplyTo(s))
	next(record.Decided{Tx: a, Decision: record.DecisionRollback, By: record.NoBranch})
	require.ErrorIs(t, reader.ApplyTo(s), record.ErrConflict, "R2")
}

// R12: a reader keeps the names it has read, but not all of them.
func TestNamesBeyondThoseKeptAreRead(t *testing.T) {
	tx := participant.TxID{Term: participant.NewTerm(1, 1)}
	reader := record.NewReader()
	for i := range 2500 {
		name := fmt.Sprint("bank_", i%1250)
		frame, err := record.Append(nil, record.Enlisted{Tx: tx, Participant: name})
		require.NoError(t, err)
		_, err = reader.Next(frame)
		require.NoError(t, err)
		s := record.NewState(tx)
		require.NoError(t, reader.ApplyTo(s))
		require.Equal(t, name, s.Branches[0].Participant)
		require.LessOrEqual(t, reader.NamesKept(), record.MaxNames)
	}
}

// What makes a replay of millions fast: merging allocates nothing but what the state
// keeps.
func TestMergingAllocatesOnlyWhatIsKept(t *testing.T) {
	tx := participant.TxID{Term: participant.NewTerm(1, 1)}
	var frames []byte
	for _, r := range []record.Record{
		record.Begun{Tx: tx, At: at},
		record.Enlisted{Tx: tx, Participant: "bank_a"},
		record.Preparing{Tx: tx},
		record.Decided{Tx: tx, Decision: record.DecisionCommit, Votes: []participant.Vote{participant.VotePrepared}, By: record.NoBranch},
		record.Completed{Tx: tx, At: at},
	} {
		var err error
		frames, err = record.Append(frames, r)
		require.NoError(t, err)
	}
	reader, s := record.NewReader(), record.NewState(tx)
	s.Branches = make([]record.Branch, 1)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for rest := frames; len(rest) > 0; {
			var err error
			if rest, err = reader.Next(rest); err == nil {
				err = reader.ApplyTo(s)
			}
			if err != nil {
				panic(err)
			}
		}
	}))
}

var at = time.UnixMilli(1)
