package nats

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

func TestTheHighestWantedIsKept(t *testing.T) {
	all, at := newTerms(), term{"shop", participant.NewTerm(1, 1)}
	low := participant.TxID{Term: at.number, UUID: uuid.UUID{1}}
	high := participant.TxID{Term: at.number, UUID: uuid.UUID{2}}
	require.True(t, all.want(at, high))
	require.True(t, all.want(at, low))
	kept, wanted := all.find(at)
	require.True(t, kept.IsZero())
	require.Equal(t, high, wanted)
	all.keep(at, high)
	require.False(t, all.want(at, low))
	require.False(t, all.want(at, high))
	_, wanted = all.find(at)
	require.True(t, wanted.IsZero())
	require.True(t, all.want(term{"shop-2", at.number}, low))
}

// R12: what is remembered of terms here is bounded; the server has the rest.
func TestR12TermsAreBounded(t *testing.T) {
	all := newTerms()
	for i := range maxTerms + 5 {
		at := term{"shop", participant.NewTerm(uint32(i+1), 1)}
		all.keep(at, participant.TxID{Term: at.number, UUID: uuid.UUID{1}})
	}
	require.LessOrEqual(t, len(all.kept), maxTerms)
}
