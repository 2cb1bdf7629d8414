package bench

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProgressTellsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		o := Options{Progress: func(what string) { told = append(told, what) }}
		takes := func(d time.Duration) func(Options) time.Duration { return func(Options) time.Duration { return d } }
		left := []area{{name: "disk", about: takes(10 * time.Second)}, {name: "tx", about: takes(time.Minute)}}
		began := time.Now()
		time.Sleep(5 * time.Second)
		o = o.timed(left, began)
		o.Progress("round 1")
		time.Sleep(4 * time.Second)
		o.Progress("round 2")
		time.Sleep(time.Minute) // longer than thought
		o.Progress("round 3")
		require.Equal(t, []string{
			"disk: round 1 (5s, about 1m10s left)",
			"disk: round 2 (9s, about 1m6s left)",
			"disk: round 3 (1m9s, about 1m0s left)",
		}, told)
		Options{}.timed(left, began).Progress("nobody listens")
	})
}

func TestLineThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := NewLine(&out, false)
		l.Show("disk: 1")
		time.Sleep(linePause - time.Second)
		l.Show("disk: 2")
		time.Sleep(time.Second)
		l.Show("disk: 3")
		l.Show("tx: 1")
		l.Show("tx: 2")
		l.Clear()
		require.Equal(t, "disk: 1\ndisk: 3\ntx: 1\n", out.String())
	})
}

// screen is what a terminal shows of the text.
func screen(text string) string {
	var line []byte
	column := 0
	for _, c := range []byte(text) {
		if c == '\r' {
			column = 0
			continue
		}
		line = append(line[:column], append([]byte{c}, line[min(column+1, len(line)):]...)...)
		column++
	}
	return string(bytes.TrimRight(line, " "))
}

func TestLineOnATerminal(t *testing.T) {
	var out bytes.Buffer
	l := NewLine(&out, true)
	l.Show("disk: a long one")
	l.Show("tx: 1")
	require.Equal(t, "tx: 1", screen(out.String()))
	l.Show(string(bytes.Repeat([]byte("x"), 200)))
	require.Len(t, screen(out.String()), lineWidth, "a line that breaks is not rewritten")
	l.Clear()
	require.Empty(t, screen(out.String()))
	require.NotContains(t, out.String(), "\n")
}
