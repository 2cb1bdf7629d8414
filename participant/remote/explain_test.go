package remote

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

// explainer is a lister that can tell what finishes its branches by hand.
type explainer struct {
	lister
	shown []participant.Explanation
}

func (e *explainer) Explain(context.Context) ([]participant.Explanation, error) {
	return e.shown, e.err
}

// Operators are shown what an attached instance shows, if it can.
func TestAttachedInstancesExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p, err := s.hub.Participant("bank", true, true)
		require.NoError(t, err)
		b := newBranch("bank")
		bank := &explainer{lister: lister{recorder: recorder{name: "bank"}}, shown: []participant.Explanation{
			{Name: "x", Branch: participant.Branch{Domain: b.Domain, Tx: b.Tx, Number: b.Number}, Commit: "COMMIT;", Rollback: "ROLLBACK;\nINSERT;"},
			{Name: "another's", Commit: "COMMIT;", Rollback: "ROLLBACK;"},
		}}
		s.serve(t, bank, "one")
		explain := p.(participant.Explainer).Explain
		shown, err := explain(t.Context())
		require.NoError(t, err)
		require.Equal(t, bank.shown, shown)
		bank.err = errors.New("no disk")
		_, err = explain(t.Context())
		require.ErrorContains(t, err, "no disk")
		bank.err = nil
		bank.shown[0].Commit = strings.Repeat("x", maxListBytes)
		_, err = explain(t.Context())
		require.ErrorContains(t, err, "a stream takes", "R12")

		other, err := s.hub.Participant("other", true, true)
		require.NoError(t, err)
		s.serve(t, &lister{recorder: recorder{name: "other"}}, "two")
		_, err = other.(participant.Explainer).Explain(t.Context())
		require.ErrorIs(t, err, errors.ErrUnsupported)
	})
}
