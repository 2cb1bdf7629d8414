package servers

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant/participanttest/capability"
)

func TestSlowSyncs(t *testing.T) {
	capability.Need(t, capability.Redis, capability.Strace)
	redis := kinds["redis"]
	s, err := redis.start(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	const delay = 200 * time.Millisecond
	restore, err := s.SlowSyncs(t.Context(), delay)
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, redis.write(s).Run())
	require.GreaterOrEqual(t, time.Since(began), delay, "it answers when the write is durable")
	require.NoError(t, restore())
	require.NoError(t, redis.read(s).Run())

	require.NoError(t, s.Kill(t.Context()))
	_, err = s.SlowSyncs(t.Context(), delay)
	require.ErrorContains(t, err, "it is down")
}
