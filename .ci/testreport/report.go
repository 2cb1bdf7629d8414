package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/assent-tm/assent/participant/participanttest/capability"
)

// event is a line of go test -json; see `go doc test2json`.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// report collects the outcome of every case over all runs, and prints failures.
type report struct {
	out         io.Writer
	withoutRace bool // the current run should have had -race

	cases  map[id]*result
	output map[id][]string     // of what has not ended yet
	failed map[string][]string // by package: the output of its failed cases
}

// id names a case; the empty test stands for the package itself.
type id struct{ pkg, test string }

// result is what is known of a case after the runs so far. One run may skip what
// another one runs, so the marks are not exclusive.
type result struct {
	passed, failed, skipped bool
	withoutRace             bool
	isParent, childFailed   bool // a parent counts only when it failed by itself
	reasons                 []string
}

func newReport(out io.Writer) *report {
	return &report{
		out:    out,
		cases:  map[id]*result{},
		output: map[id][]string{},
		failed: map[string][]string{},
	}
}

func (r *report) print(lines ...string) {
	for _, line := range lines {
		fmt.Fprint(r.out, line)
	}
}

func (r *report) add(e event) {
	at := id{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		r.print(e.Output)
	case "output":
		r.output[at] = append(r.output[at], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e.Package, e.Action)
		} else {
			r.endCase(at, e.Action)
		}
	}
}

func (r *report) endCase(at id, action string) {
	c := r.caseOf(at)
	c.withoutRace = c.withoutRace || r.withoutRace
	if i := strings.LastIndex(at.test, "/"); i >= 0 {
		p := r.caseOf(id{at.pkg, at.test[:i]})
		p.isParent = true
		p.childFailed = p.childFailed || action == "fail"
	}
	own := ownLines(r.output[at])
	delete(r.output, at)
	switch action {
	case "pass":
		c.passed = true
	case "fail":
		c.failed = true
		r.failed[at.pkg] = append(r.failed[at.pkg], verdictFirst(own)...)
	case "skip":
		c.skipped = true
		c.reasons = own
	}
}

func (r *report) caseOf(at id) *result {
	c, ok := r.cases[at]
	if !ok {
		c = &result{}
		r.cases[at] = c
	}
	return c
}

// endPackage prints what go test prints of a package without -v: of one that
// passed its closing line and its figures, of one that failed everything that failed, what a
// panic or a timeout left unfinished, and what the package itself said.
func (r *report) endPackage(pkg, action string) {
	own := r.output[id{pkg, ""}]
	if action == "fail" {
		if len(r.failed[pkg]) == 0 { // it did not build, or a case took the process down
			r.caseOf(id{pkg, ""}).failed = true
		}
		r.print(r.failed[pkg]...)
		for _, at := range slices.SortedFunc(maps.Keys(r.output), byName) {
			if at.pkg == pkg && at.test != "" {
				r.print(ownLines(r.output[at])...)
			}
		}
		r.print(own...)
	} else {
		r.print(slices.DeleteFunc(own, func(line string) bool {
			return !strings.HasPrefix(line, "ok ") && !strings.HasPrefix(line, "? ") && !strings.HasPrefix(line, "figures: ")
		})...)
	}
	delete(r.failed, pkg)
	maps.DeleteFunc(r.output, func(at id, _ []string) bool { return at.pkg == pkg })
}

// close prints the sums and what did not run, and returns how many cases ran.
func (r *report) close() int {
	var passed, failed, skipped, withoutRace int
	lacking, leftOut := map[capability.Capability]int{}, map[capability.Capability]int{}
	var other []string
	for _, at := range slices.SortedFunc(maps.Keys(r.cases), byName) {
		c := r.cases[at]
		switch {
		case c.isParent && (!c.failed || c.childFailed):
			continue
		case c.failed:
			failed++
		case c.passed:
			passed++
		case c.skipped:
			skipped++
			if !count(c.reasons, lacking, leftOut) {
				other = append(other, fmt.Sprintf("skipped: %s %s: %s\n", at.pkg, at.test, reason(c.reasons)))
			}
		}
		if c.withoutRace && (c.passed || c.failed) {
			withoutRace++
		}
	}
	r.print(other...)
	r.print(fmt.Sprintf("%d passed, %d failed, %d skipped\n", passed, failed, skipped))
	for _, c := range slices.Sorted(maps.Keys(leftOut)) {
		r.print(fmt.Sprintf("left out for %s: %s not run\n", c, cases(leftOut[c])))
	}
	for _, c := range capability.All() {
		switch {
		case c == capability.Gcc && withoutRace > 0:
			r.print(fmt.Sprintf("missing capability gcc: %s not run, %d run without -race\n", cases(lacking[c]), withoutRace))
		case lacking[c] > 0:
			r.print(fmt.Sprintf("missing capability %s: %s not run\n", c, cases(lacking[c])))
		}
	}
	return passed + failed
}

// count adds a skipped case to every capability its output names, and reports
// whether it names one.
func count(lines []string, lacking, leftOut map[capability.Capability]int) bool {
	named := false
	for _, line := range lines {
		c, lacks := capability.SkipReason(line)
		switch {
		case c == "":
			continue
		case lacks:
			lacking[c]++
		default:
			leftOut[c]++
		}
		named = true
	}
	return named
}

func cases(n int) string {
	if n == 1 {
		return "1 case"
	}
	return fmt.Sprintf("%d cases", n)
}

// reason is the first line a skipped test wrote itself.
func reason(lines []string) string {
	for _, line := range lines {
		if !isVerdict(line) {
			return strings.TrimSpace(line)
		}
	}
	return "no reason given"
}

// ownLines leaves out the lines that frame a case in -json output and are not
// printed without -v.
func ownLines(lines []string) []string {
	return slices.DeleteFunc(lines, func(line string) bool {
		return strings.HasPrefix(line, "=== ")
	})
}

// verdictFirst puts the line "--- FAIL: …" before the output it belongs to, as
// go test does without -v.
func verdictFirst(lines []string) []string {
	slices.SortStableFunc(lines, func(a, b string) int {
		switch {
		case isVerdict(a) == isVerdict(b):
			return 0
		case isVerdict(a):
			return -1
		default:
			return 1
		}
	})
	return lines
}

func isVerdict(line string) bool {
	return strings.HasPrefix(strings.TrimSpace(line), "--- ")
}

func byName(a, b id) int {
	return strings.Compare(a.pkg+"\x00"+a.test, b.pkg+"\x00"+b.test)
}
