package wal_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// openedOften returns a log that lists so many terms.
func openedOften(t *testing.T, terms int) *waltest.Memory {
	memory := waltest.NewMemory()
	store := memory.Open()
	for range 2 {
		stream, err := store.Open(t.Context(), "by hand")
		require.NoError(t, err)
		if stream.Term().Counter() == 1 {
			require.NoError(t, stream.Delete(t.Context()))
			continue
		}
		catalogue := &record.Catalogue{Domain: "orders", Terms: make([]record.TermMarks, terms)}
		for i := range catalogue.Terms {
			catalogue.Terms[i].Term = participant.NewTerm(1, uint32(i))
		}
		segment, err := record.Append(nil, record.Header{Term: stream.Term(), Seq: 1, Catalogue: catalogue})
		require.NoError(t, err)
		require.NoError(t, stream.Append(t.Context(), 1, segment, nil))
	}
	require.NoError(t, store.Close())
	return memory
}

// R9, R12: the list of terms costs every append little, however long it is.
func TestR12ALongListOfTermsIsRarelyWritten(t *testing.T) {
	for name, config := range map[string]wal.Config{
		"outcomes are kept":     {Domain: "orders"},
		"outcomes are not kept": {Domain: "orders", Retention: -1},
	} {
		t.Run(name, func(t *testing.T) {
			memory := openedOften(t, 200_000)
			before := memory.Bytes()
			written, catalogues := 0, 0
			log, _ := openStore(t, &hooked{Store: memory.Open(), hook: func(c call, do func() error) error {
				if c.name == "append" {
					written += len(c.segment)
					if header, _ := records(t, c.segment); header.Catalogue != nil {
						catalogues++
					}
				}
				return do()
			}}, config)
			for n := range uint64(1000) {
				tx := log.NewPlace(id(log.Term(), n+1))
				force(t, log, tx, large(tx, 1)...)
				force(t, log, tx, decided(tx), completed(tx))
			}
			t.Logf("%d bytes written, in %d catalogues of %d", written, catalogues, before)
			require.Less(t, catalogues, 10)
			if config.Retention < 0 {
				require.Less(t, memory.Bytes(), 4*before)
			}
			require.NoError(t, log.Close(t.Context()))
		})
	}
}

// R12: a long list of terms is nothing that re-writing would make shorter.
func TestR12ALongListOfTermsDoesNotMoveTransactions(t *testing.T) {
	log, _ := open(t, openedOften(t, 200_000), config.SmallWindow())
	for n := range uint64(1100) {
		tx := log.NewPlace(id(log.Term(), n+1))
		force(t, log, tx, begun(tx))
	}
	require.Less(t, log.Stats().LiveBytes, int64(256<<10))
	require.Zero(t, log.Stats().Carried)
	require.NoError(t, log.Close(t.Context()))
}

// R9, R10, R12: a log that was opened too often says so long before, and what is in doubt
// is recovered all the same. What must not be opened any more is left as it is.
func TestR12TermsAreExhaustedInSteps(t *testing.T) {
	const room = 1000
	config := config.FewTerms(room)
	memory := waltest.NewMemory()
	inDoubt := []*record.State{}
	used, refused, opens := 0.0, 0, 0
	for {
		store := memory.Open()
		var calls []string
		log, inherited, err := wal.Open(t.Context(), &hooked{Store: store, hook: func(c call, do func() error) error {
			calls = append(calls, c.name)
			return do()
		}}, config)
		if err != nil {
			require.ErrorIs(t, err, wal.ErrTermsExhausted)
			require.ErrorContains(t, err, "begin a new log")
			require.Equal(t, []string{"take over", "release"}, calls, "nothing was written")
			require.NoError(t, store.Close())
			break
		}
		opens++
		require.Equal(t, opens, log.Stats().Terms)
		used = log.Stats().TermsUsed
		require.Len(t, inherited, len(inDoubt))
		for i, in := range inherited {
			require.Equal(t, inDoubt[i], in.State)
		}
		tx := log.NewPlace(id(log.Term(), 1))
		b, err := log.Append(tx, true, begun(tx))
		if used <= 0.75 {
			require.NoError(t, err)
			<-b.Done()
			inDoubt = append(inDoubt, onlyState(t, memory, tx.ID()))
		} else {
			refused++
			require.ErrorIs(t, err, wal.ErrFull)
			require.ErrorIs(t, err, wal.ErrTermsExhausted)
			require.ErrorContains(t, err, "begin a new log")
			if n := len(inherited); n > 1 { // what has begun ends
				last := inherited[n-1]
				force(t, log, last.Place, decided(last.Place), record.Completed{Tx: last.State.Tx, At: time.Now().Add(-2 * time.Hour)})
				inDoubt = inDoubt[:n-1]
			}
		}
		require.NoError(t, log.Close(t.Context()))
		require.NoError(t, store.Close())
	}
	require.Greater(t, opens, 30)
	require.Greater(t, refused, 5)
	require.NotEmpty(t, inDoubt)
	source := memory.Clone().Open()
	terms, _, err := source.Orphans(t.Context())
	require.NoError(t, err)
	contents, err := wal.Read(t.Context(), readable{source, terms})
	require.NoError(t, err)
	require.Len(t, contents.Terms, opens)
	require.GreaterOrEqual(t, len(contents.Transactions), len(inDoubt))
	require.NoError(t, source.Close())
}

// readable is a store that is read as it is.
type readable struct {
	wal.Store
	terms []participant.Term
}

func (r readable) Terms() []participant.Term { return r.terms }
