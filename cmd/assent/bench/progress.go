package bench

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// timed returns the options for the first of the areas that are left: to what it
// reports it adds its name, how long the run has taken, and about how long it will.
func (o Options) timed(left []area, began time.Time) Options {
	report := o.Progress
	if report == nil {
		o.Progress = func(string) {}
		return o
	}
	own, later := left[0].about(o), time.Duration(0)
	for _, a := range left[1:] {
		later += a.about(o)
	}
	areaBegan := time.Now()
	o.Progress = func(what string) {
		ahead := later + max(own-time.Since(areaBegan), 0)
		report(fmt.Sprintf("%s: %s (%s, about %s left)",
			left[0].name, what, time.Since(began).Round(time.Second), ahead.Round(time.Second)))
	}
	return o
}

// Line shows progress: on a terminal as one line that is rewritten in place,
// elsewhere as a line for each area and now and then one between.
type Line struct {
	w        io.Writer
	terminal bool
	area     string
	shown    time.Time
}

const (
	lineWidth = 79
	// linePause is how long at least between two lines of an area that stay.
	linePause = 10 * time.Second
)

// NewLine returns the line at w. Not safe for concurrent use.
func NewLine(w io.Writer, terminal bool) *Line { return &Line{w: w, terminal: terminal} }

// Show is what Options.Progress can be.
func (l *Line) Show(what string) {
	if l.terminal {
		fmt.Fprintf(l.w, "\r%-*.*s", lineWidth, lineWidth, what)
		return
	}
	area, _, _ := strings.Cut(what, ":")
	if area != l.area || time.Since(l.shown) >= linePause {
		l.area, l.shown = area, time.Now()
		fmt.Fprintln(l.w, what)
	}
}

// Clear makes room for what is not progress.
func (l *Line) Clear() {
	if l.terminal {
		fmt.Fprintf(l.w, "\r%*s\r", lineWidth, "")
	}
}
