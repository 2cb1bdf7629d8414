package coordinator

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

type runs func()

func (r runs) run() { r() }

// R6: whatever hangs, what is started after it runs.
func TestPoolRunsWhatComesAfterWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pool
		let, ran := make(chan struct{}), atomic.Int32{}
		p.start(runs(func() {
			// Started in one go, while nobody has come for them.
			for i := range 100 {
				p.start(runs(func() {
					ran.Add(1)
					if i%3 != 0 {
						<-let
					}
				}))
			}
			<-let
		}))
		synctest.Wait()
		require.EqualValues(t, 100, ran.Load())
		close(let)
		p.stop()
	})
}

// A participant may end the goroutine that calls it.
func TestPoolGoesOnWhenGoroutinesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pool
		var ran atomic.Int32
		for range 50 {
			p.start(runs(func() {
				ran.Add(1)
				runtime.Goexit()
			}))
		}
		synctest.Wait()
		require.EqualValues(t, 50, ran.Load())
		p.stop()
	})
}

// R12: goroutines that have nothing to do are bounded, and so is the room for work
// that was taken.
func TestPoolKeepsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pool
		let := make(chan struct{})
		for range 2 * maxResting {
			p.start(runs(func() { <-let }))
		}
		synctest.Wait()
		close(let)
		synctest.Wait()
		require.Len(t, p.resting, maxResting)

		// A queue that is never empty.
		var done atomic.Int32
		var again runs
		again = func() {
			if done.Add(1) < 20*queueSlack {
				p.start(again)
			}
		}
		p.start(runs(func() { p.start(again); p.start(again) }))
		synctest.Wait()
		require.LessOrEqual(t, cap(p.queue), 4*queueSlack)
		p.stop()
	})
}

// One goroutine does all of it if nothing hangs: nobody is woken for each piece.
func TestPoolTakesInTurn(t *testing.T) {
	var p pool
	var wg sync.WaitGroup
	var order []int
	wg.Add(1)
	p.start(runs(func() {
		defer wg.Done()
		p.mu.Lock()
		p.onTheWay = true // nobody else comes
		p.mu.Unlock()
		for i := range 10 {
			wg.Add(1)
			p.start(runs(func() { defer wg.Done(); order = append(order, i) }))
		}
	}))
	wg.Wait()
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, order)
	p.mu.Lock()
	p.onTheWay = false
	p.mu.Unlock()
	p.stop()
}
