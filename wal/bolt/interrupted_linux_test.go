package bolt

import (
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/waltest"
)

// R9, R12: starts that are killed after they have re-written all of a full log or some of
// it, and before they could delete what they had read, leave room for the next one on a
// full disk.
func TestR12InterruptedOpensFitOnAFullDisk(t *testing.T) {
	onDisks(t, 128<<20, func(t *testing.T, d disk) {
		s := open(t, d.path())
		c, _ := openClient(t, s)
		for range 10_000 {
			for err := c.begin(300); err != nil; err = c.begin(300) {
				require.ErrorIs(t, err, wal.ErrFull)
				runtime.Gosched() // full of what is being written
			}
		}
		free := d.fill(t)
		defer free()
		c.fillUp(t, 300)
		t.Logf("%d transactions have begun", len(c.live))
		require.NoError(t, c.log.Close(t.Context()))
		crash(t, s)

		killed, starts := errors.New("killed"), 12
		if testing.Short() {
			starts = 4
		}
		for round := range starts {
			s := open(t, d.path())
			_, _, err := wal.Open(t.Context(), waltest.Faulty(s, func(call waltest.Call) waltest.Fault {
				last := call.Op == waltest.OpDelete && call.Term == c.log.Term()
				if !last && (round%4 != 3 || call.Op != waltest.OpAppend || call.N != 10) {
					return waltest.Fault{}
				}
				crash(t, s)
				return waltest.Fault{Err: killed}
			}), wal.Config{Domain: "test", Owner: "test"})
			require.ErrorIs(t, err, killed, "round %d", round)
		}

		s = open(t, d.path())
		again, inherited := openClient(t, s)
		require.Len(t, inherited, len(c.live))
		for _, in := range inherited {
			again.live = append(again.live, in.Place)
		}
		again.end(t)
		require.NoError(t, again.log.Close(t.Context()))
		require.NoError(t, s.Close())
	})
}
