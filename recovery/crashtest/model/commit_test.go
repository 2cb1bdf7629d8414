// Package model_test runs the model of the protocol, commit.pml, through the model
// checker spin. Its head comment says which rule is where, and what is left out.
package model_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant/participanttest/capability"
)

const source = "commit.pml"

// search is one run of spin's verifier.
type search struct {
	macros string
	cycles bool // look for runs that never end, not for violated assertions
	large  bool // worth a slower compiler
}

// found is what a search found.
type found struct {
	states int
	err    string // the first error; "" if there is none
}

var (
	stored  = regexp.MustCompile(`(?m)^ *(\d+) states, stored`)
	failed  = regexp.MustCompile(`(?m)errors: (\d+)$`)
	message = regexp.MustCompile(`(?m)^pan:\d*:? *(.*)$`)
)

// searched is for TestMain to print.
var searched struct {
	states int           // of the model with nothing broken
	used   time.Duration // by all searches
}

func (s search) run(t *testing.T) found {
	t.Helper()
	capability.Need(t, capability.Spin, capability.Gcc)
	model, err := filepath.Abs(source)
	require.NoError(t, err)
	dir := t.TempDir()
	var used time.Duration
	run := func(name string, args ...string) string {
		c := exec.CommandContext(t.Context(), name, args...)
		c.Dir = dir
		output, err := c.CombinedOutput()
		require.NoError(t, err, "%s %v: %s", name, args, output)
		used += c.ProcessState.UserTime() + c.ProcessState.SystemTime()
		return string(output)
	}
	compile, verify := []string{"-w", "-o", "pan", "pan.c"}, []string{"-m100000"}
	if s.cycles {
		compile, verify = append(compile, "-DNP", "-DNOFAIR"), append(verify, "-l")
	} else {
		compile = append(compile, "-DSAFETY")
	}
	if s.large {
		compile = append(compile, "-O1")
	}
	run("spin", append(append([]string{"-a"}, strings.Fields(s.macros)...), model)...)
	run("gcc", compile...)
	output := run("./pan", verify...)
	require.NotContains(t, output, "max search depth too small")
	require.NotContains(t, output, "out of memory")

	f := found{states: number(t, stored, output)}
	if number(t, failed, output) > 0 {
		f.err = message.FindStringSubmatch(output)[1]
	}
	t.Logf("%d states, %v of processor time: %q", f.states, used.Round(time.Millisecond), f.err)
	searched.used += used
	return f
}

func number(t *testing.T, pattern *regexp.Regexp, output string) int {
	t.Helper()
	match := pattern.FindStringSubmatch(output)
	require.NotNil(t, match, output)
	n, err := strconv.Atoi(match[1])
	require.NoError(t, err)
	return n
}

const onePhase = "-DBRANCHES=1 -DONEPHASE -DCOORDINATORS=3 -DCRASHES=2"

// No crash splits a transaction (R1 to R5, R7 to R11), and each ends once faults do (R6).
// The numbers of states are those of the last change: fewer mean that something is not
// reached any more.
func TestProtocolHolds(t *testing.T) {
	for _, x := range []struct {
		name   string
		search search
		states int
	}{
		{"no faults", search{macros: "-DQUIET -DCRASHES=0"}, 164},
		{"two branches", search{}, 77_275},
		{"three branches", search{macros: "-DBRANCHES=3 -DCRASHES=0", large: true}, 1_412_584},
		{"three coordinators", search{macros: "-DCOORDINATORS=3 -DCRASHES=2", large: true}, 1_723_207},
		{"one phase", search{macros: onePhase}, 9_234},
	} {
		if testing.Short() && x.search.large {
			continue
		}
		t.Run(x.name, func(t *testing.T) {
			f := x.search.run(t)
			require.Empty(t, f.err)
			require.GreaterOrEqual(t, f.states, x.states)
			searched.states += f.states
		})
	}
}

// Nothing goes on for ever: with the ends that TestProtocolHolds looks at, every run
// comes to a decision that everybody has.
func TestEveryRunEnds(t *testing.T) {
	for name, macros := range map[string]string{"two branches": "", "one phase": onePhase} {
		t.Run(name, func(t *testing.T) { require.Empty(t, search{macros: macros, cycles: true}.run(t).err) })
	}
}

// What is rare is reached: its denial is refuted.
func TestRareStatesAreReached(t *testing.T) {
	for _, denial := range []string{"NEVER_COMMITS", "NEVER_SAFE_MODE"} {
		t.Run(denial, func(t *testing.T) { require.NotEmpty(t, search{macros: "-D" + denial}.run(t).err) })
	}
}

// What an error is about, by a part of its assertion.
const (
	split    = "told"
	notVoted = "disk[0]==5)||"
	leftOpen = "phase[(started-1)]"
)

// Each rule that the model can break is needed: without it, outcomes differ or never come.
func TestBrokenRulesAreFound(t *testing.T) {
	broken := []struct{ bug, rule, macros, found string }{
		{"TELL_BEFORE_FSYNC", "R1", "", split},
		{"PREPARE_BEFORE_FSYNC", "R1", "", leftOpen},
		{"FORGET_BEFORE_FSYNC", "R1", "", leftOpen},
		{"DEADLINE_RACES_FSYNC", "R2", "", split},
		{"COMMIT_WITHOUT_A_VOTE", "R2", "", notVoted},
		{"PRESUME_COMMIT", "R3", "", leftOpen},
		{"ONEPHASE_TIMEOUT", "R3", onePhase, split},
		{"NO_TOMBSTONE", "R4", "", leftOpen},
		{"READONLY_AS_PREPARED", "R4", "", leftOpen},
		{"UNKNOWN_IS_ABORT", "R5", "", split},
		{"RECOVER_FROM_CACHE", "R5", "-DCOORDINATORS=3", split},
		{"COMPLETED_BEFORE_ACKNOWLEDGED", "R6", "", leftOpen},
		{"UNKNOWN_IS_ACKNOWLEDGED", "R7", "", leftOpen},
		{"STALE_EPOCH", "R9", "", leftOpen},
		{"NO_LIST", "R10", "", split},
		{"YES_BEFORE_FSYNC", "the participant's part", "", notVoted},
	}
	named := map[string]bool{}
	for i, x := range broken {
		named["BUG_"+x.bug] = true
		if testing.Short() && i > 0 {
			continue
		}
		t.Run(x.rule+" "+x.bug, func(t *testing.T) {
			// Without the assertions about the log: what comes of the bug must be found.
			f := search{macros: "-DONLY_OUTCOMES -DBUG_" + x.bug + " " + x.macros}.run(t)
			require.Contains(t, f.err, x.found)
		})
	}
	text, err := os.ReadFile(source)
	require.NoError(t, err)
	// A bug that nobody looks for proves nothing.
	for _, bug := range regexp.MustCompile(`\bBUG_[A-Z_]*[A-Z]\b`).FindAll(text, -1) {
		require.True(t, named[string(bug)], "nothing tests %s", bug)
	}
}
