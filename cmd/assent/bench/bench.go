// Package bench measures Assent on the machine it runs on. Speed depends on the
// disk, and a shared machine's disk changes from minute to minute: so what matters
// is a ratio to something measured in the same rounds, side by side.
package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Options say what to measure, where, and how long.
type Options struct {
	// Dir is where the logs are made, in a directory of their own that is removed
	// afterwards; "" for the system's directory for temporary files. It decides
	// which disk is measured.
	Dir string
	// Only has the beginnings of the names of the figures that are wanted; none for
	// all.
	Only []string
	// Clients asks for what Plot draws as well.
	Clients bool
	// Rounds is the number of slices each figure is the median of, Slice how long
	// one takes.
	Rounds int
	Slice  time.Duration
	// Databases asks for what needs database servers as well. They run while it is
	// measured, with their files in the system's directory for temporary files.
	Databases bool
	// Server asks for the figures of the standalone server as well.
	Server bool
	// Quick asks for smaller sets where a figure needs many transactions: all
	// figures together in less than a minute.
	Quick bool
	// Progress is told what is being measured; may be nil.
	Progress func(what string)

	// idle is how many transactions tx.idle_bytes holds open; 0 for as many as its
	// aim was set for.
	idle int
	// inDoubt is how many transactions recovery finds in doubt; 0 for as many as its
	// aims were set for.
	inDoubt int
}

// BadOption says that an option can't be followed: nothing was measured.
type BadOption struct{ error }

func (e BadOption) Unwrap() error { return e.error }

// Report is what Run measured.
type Report struct {
	Machine Machine  `json:"machine"`
	Figures []Figure `json:"figures"`
	// Clients is empty unless Options.Clients asked for it.
	Clients []Point `json:"clients,omitempty"`
}

// area is a part of the measurement that can be run alone.
type area struct {
	name string
	// figures are the names of what it measures, in the order of the table.
	figures []string
	// measure may use dir as it likes; it is removed afterwards.
	measure func(ctx context.Context, o Options, dir string) ([]Figure, error)
	// about says how long that takes, roughly.
	about func(Options) time.Duration
	// asked reports whether an area is measured that takes a flag; nil for one that always
	// is. flag is its name.
	asked func(Options) bool
	flag  string
	// lacks says what an area needs that is missing; may be nil.
	lacks func(Options) error
}

// areas is every area, in the order of the table.
var areas = []area{diskArea, logArea, singleSyncArea, txArea, idleArea, recoveryArea, pairArea, serverArea}

// perRound is the time that so many slices in each round take.
func perRound(n int) func(Options) time.Duration {
	return func(o Options) time.Duration { return time.Duration(n*o.Rounds) * o.Slice }
}

// Run measures what the options ask for. An error is a BadOption where nothing was
// begun. Whatever happens, nothing of it stays in Options.Dir.
func Run(ctx context.Context, o Options) (report Report, err error) {
	chosen, err := choose(o)
	if err != nil {
		return Report{}, BadOption{err}
	}
	if report.Machine, err = Describe(o.Dir); err != nil {
		return Report{}, err
	}
	if o.Clients {
		measure := func(ctx context.Context, o Options, dir string) (_ []Figure, err error) {
			report.Clients, err = measureClients(ctx, o, dir, clientCounts)
			return nil, err
		}
		chosen = append(chosen, area{name: "clients", measure: measure, about: aboutClients})
	}
	dir, err := os.MkdirTemp(o.Dir, "assent-bench-")
	if err != nil {
		return Report{}, BadOption{fmt.Errorf("--dir: make a directory for the logs: %w", err)}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	began := time.Now()
	for i, a := range chosen {
		figures, err := a.run(ctx, o.timed(chosen[i:], began), dir)
		if err != nil {
			return Report{}, fmt.Errorf("measure %s: %w", a.name, err)
		}
		for _, f := range figures {
			if o.wants(f.Name) {
				report.Figures = append(report.Figures, f)
			}
		}
	}
	return report, nil
}

// choose returns the areas that measure a figure that is wanted.
func choose(o Options) (chosen []area, err error) {
	if o.Rounds < 1 || o.Slice <= 0 {
		return nil, fmt.Errorf("--rounds %d and --slice %s must be positive", o.Rounds, o.Slice)
	}
	known, flags := map[string]bool{}, map[string]string{}
	for _, a := range areas {
		measured, wanted := a.asked == nil || a.asked(o), false
		for _, figure := range a.figures {
			wanted = wanted || o.wants(figure)
			for _, beginning := range o.Only {
				if strings.HasPrefix(figure, beginning) {
					known[beginning], flags[beginning] = known[beginning] || measured, a.flag
				}
			}
		}
		if !measured || !wanted {
			continue
		}
		if a.lacks != nil {
			if err := a.lacks(o); err != nil {
				return nil, fmt.Errorf("%s: %w", a.flag, err)
			}
		}
		chosen = append(chosen, a)
	}
	for _, beginning := range o.Only {
		switch {
		case known[beginning]:
		case flags[beginning] != "":
			return nil, fmt.Errorf("--only %q: what begins so is measured with %s only", beginning, flags[beginning])
		default:
			return nil, fmt.Errorf("--only %q: no figure's name begins so; there are %s", beginning, strings.Join(Names(), ", "))
		}
	}
	return chosen, nil
}

// Names returns the names of all figures, in the order of the table.
func Names() (names []string) {
	for _, a := range areas {
		names = append(names, a.figures...)
	}
	return names
}

func (o Options) wants(figure string) bool {
	for _, beginning := range o.Only {
		if strings.HasPrefix(figure, beginning) {
			return true
		}
	}
	return len(o.Only) == 0
}

// run gives the area a directory of its own: what an earlier one left on the disk is
// gone when the next begins.
func (a area) run(ctx context.Context, o Options, parent string) (figures []Figure, err error) {
	dir, err := os.MkdirTemp(parent, a.name+"-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for its logs: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return a.measure(ctx, o, dir)
}
