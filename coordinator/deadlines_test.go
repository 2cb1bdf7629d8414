package coordinator

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// clockwork is a wheel that notes when it wakes whom.
type clockwork struct {
	deadlines
	mu    sync.Mutex
	start time.Time
	woken map[*transaction]time.Duration
}

func newClockwork() *clockwork {
	c := &clockwork{start: time.Now(), woken: map[*transaction]time.Duration{}}
	c.deadlines.start = c.start
	c.wake = func(t *transaction) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.woken[t] = time.Since(c.start)
	}
	return c
}

// take returns when who was woken since it was asked last.
func (c *clockwork) take() map[*transaction]time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	woken := c.woken
	c.woken = map[*transaction]time.Duration{}
	return woken
}

func (c *clockwork) after(t *transaction, d time.Duration) {
	c.noLaterThan(t, c.tick(c.start.Add(d)))
}

// inBubble runs a property in bubbles: rapid's checks don't end the test of one.
func inBubble(t *rapid.T, fn func()) {
	var failed any
	synctest.Test(bubbled, func(*testing.T) {
		defer func() { failed = recover() }()
		fn()
	})
	if failed != nil {
		panic(failed)
	}
}

var bubbled *testing.T

// Whatever is put in, moved and taken out: each is woken once, not before its time,
// and at most a quantum after it.
func TestDeadlinesWakeInTime(t *testing.T) {
	bubbled = t
	rapid.Check(t, func(r *rapid.T) {
		inBubble(r, func() {
			c := newClockwork()
			defer c.stop()
			want := map[*transaction]time.Duration{}
			for _, step := range rapid.SliceOfN(rapid.IntRange(0, 9), 1, 60).Draw(r, "steps") {
				waiting := slices.SortedFunc(maps.Keys(want), func(a, b *transaction) int { return int(want[a] - want[b]) })
				// Up to three turns of the wheel.
				in := time.Duration(rapid.IntRange(0, 3*slots*int(quantum/time.Millisecond)).Draw(r, "ms")) * time.Millisecond
				switch {
				case step < 5:
					tx := &transaction{}
					want[tx] = time.Since(c.start) + in
					c.after(tx, want[tx])
				case step < 7 && len(waiting) > 0:
					tx := waiting[len(waiting)-1]
					c.after(tx, time.Since(c.start)+in)
					want[tx] = min(want[tx], time.Since(c.start)+in)
				case step < 8 && len(waiting) > 0:
					c.remove(waiting[0])
					delete(want, waiting[0])
				default:
					time.Sleep(in)
					synctest.Wait()
					for tx, at := range c.take() {
						if due, ok := want[tx]; !ok || at < due || at > due+2*quantum {
							r.Fatalf("woken after %s: wanted %t, due after %s", at, ok, due)
						}
						delete(want, tx)
					}
					for _, due := range want {
						if due <= time.Since(c.start)-quantum {
							r.Fatalf("due after %s, not woken after %s", due, time.Since(c.start))
						}
					}
				}
			}
		})
	})
}

// With nothing in it the wheel stands still.
func TestDeadlinesStandStillWhenEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClockwork()
		tx := &transaction{}
		c.after(tx, time.Minute)
		c.remove(tx)
		require.Equal(t, due{}, tx.due)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Empty(t, c.take())
		c.deadlines.mu.Lock()
		defer c.deadlines.mu.Unlock()
		require.Zero(t, c.armed)
	})
}

// A transaction that is put in while the wheel is stopped is not woken.
func TestStoppedDeadlinesWakeNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClockwork()
		a, b := &transaction{}, &transaction{}
		c.after(a, time.Second)
		c.stop()
		c.after(b, 0)
		time.Sleep(time.Hour)
		require.Empty(t, c.take())
	})
}
