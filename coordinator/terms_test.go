package coordinator_test

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logobserver "go.uber.org/zap/zaptest/observer"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// R9, R12: a coordinator says that its log was opened very often, long before nothing
// begins any more because of it, and nothing begins long before it can't be opened.
func TestR12ALogThatWasOpenedTooOftenIsToldOf(t *testing.T) {
	for _, c := range []struct {
		opened        int
		warns, begins bool
	}{{1000, false, true}, {240_000, true, true}, {350_000, true, false}} {
		store := openedOften(t, c.opened).Open()
		core, logs := logobserver.New(zapcore.WarnLevel)
		dtm, err := coordinator.Open(t.Context(), coordinator.Config{Domain: "test", Store: store, Logger: zap.New(core)})
		require.NoError(t, err)
		require.Equal(t, c.warns, logs.FilterMessageSnippet("begin a new log").Len() == 1)
		_, err = dtm.Begin(t.Context())
		if c.begins {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, coordinator.ErrLogFull)
			require.ErrorIs(t, err, wal.ErrTermsExhausted)
		}
		require.NoError(t, dtm.Close(context.Background()))
		require.NoError(t, store.Close())
	}
}

// openedOften returns a log of so many terms, each with a highest id and a mark.
func openedOften(t *testing.T, terms int) *waltest.Memory {
	memory := waltest.NewMemory()
	store := memory.Open()
	first, err := store.Open(t.Context(), "by hand")
	require.NoError(t, err)
	require.NoError(t, first.Delete(t.Context()))
	stream, err := store.Open(t.Context(), "by hand")
	require.NoError(t, err)
	catalogue := &record.Catalogue{Domain: "test", Terms: make([]record.TermMarks, terms)}
	for i := range catalogue.Terms {
		catalogue.Terms[i] = record.TermMarks{Term: participant.NewTerm(1, uint32(i)), Highest: uuid.UUID{2}, Mark: uuid.UUID{1}}
	}
	segment, err := record.Append(nil, record.Header{Term: stream.Term(), Seq: 1, Catalogue: catalogue})
	require.NoError(t, err)
	require.NoError(t, stream.Append(t.Context(), 1, segment, nil))
	require.NoError(t, store.Close())
	return memory
}
