package coordinator_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

// forgotten is what a participant was told to forget: a number of branches for each
// call.
type forgotten struct {
	mu    sync.Mutex
	calls []int
}

func (f *forgotten) all() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *forgotten) branches() (n int) {
	for _, c := range f.all() {
		n += c
	}
	return n
}

// forgets returns a participant, and what it was told to forget so far.
func (s *stage) forgets(name string) (*forgetter, *forgotten) {
	f, told := s.forgetter(name), &forgotten{}
	f.forget = func(_ context.Context, branches []participant.Branch) error {
		told.mu.Lock()
		defer told.mu.Unlock()
		told.calls = append(told.calls, len(branches))
		return nil
	}
	return f, told
}

// A call of Forget may cost as much as a transaction: they share it.
func TestForgetIsCalledForManyBranches(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		f, told := s.forgets("f")
		for range 1000 {
			_, err := s.commits(f)
			require.NoError(t, err)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		require.Equal(t, 1000, told.branches())
		require.LessOrEqual(t, len(told.all()), 12, "in one second")
	})
}

// Rows that nobody forgets stay for long: a coordinator that ends leaves none behind,
// and does not let anybody wait.
func TestCloseTellsWhatIsToBeForgotten(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		f, told := s.forgets("f")
		for range 10 {
			_, err := s.commits(f)
			require.NoError(t, err)
			time.Sleep(time.Millisecond)
		}
		start := time.Now()
		require.NoError(t, s.Close(t.Context()))
		require.Less(t, time.Since(start), 50*time.Millisecond, "no longer than the log takes for what is lazy")
		require.Equal(t, 10, told.branches())
	})
}

// R12: what waits to be forgotten has a bound, and is not lost to it while the
// participant answers.
func TestR12ForgetIsCalledEarlyRatherThanNotAtAll(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		f, told := s.forgets("f")
		_, err := s.commits(f)
		require.NoError(t, err)
		time.Sleep(30 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, []int{1}, told.all(), "at once")
		for range 6000 {
			_, err := s.commits(f)
			require.NoError(t, err)
		}
		time.Sleep(30 * time.Millisecond)
		synctest.Wait()
		require.GreaterOrEqual(t, told.branches(), 5000)
		time.Sleep(time.Second)
		require.Equal(t, 6001, told.branches())
	})
}

// A participant that hangs holds Close up for one call's time.
func TestCloseWaitsForForget(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		f := s.forgetter("f")
		f.forget = func(ctx context.Context, _ []participant.Branch) error {
			<-ctx.Done()
			return ctx.Err()
		}
		_, err := s.commits(f)
		require.NoError(t, err)
		time.Sleep(time.Second)
		start := time.Now()
		require.NoError(t, s.Close(t.Context()))
		require.LessOrEqual(t, time.Since(start), 10*time.Second)
	})
}
