package remote

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
)

// A participant that keeps the contract keeps it over a stream, whatever the stream's
// fate: each case may find it killed.
func TestContractOverAStream(t *testing.T) {
	store := participanttest.NewStore()
	s := newHubSite(t)
	subject := store.Subject("service")
	served, err := s.hub.Participant("service", true, true)
	require.NoError(t, err)
	s.serve(t, store.Participant("service"), "one")
	subject.New = func(context.Context) (participant.Participant, error) {
		s.killAll()
		return served, nil
	}
	participanttest.Test(t, subject)
}
