package history_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	h "github.com/assent-tm/assent/recovery/crashtest/history"
)

const first = `{"kind":"history","version":1}` + "\n"

func TestReadRefusesWhatIsNoHistory(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "line 1: the first line has kind"},
		{"no header", `{"kind":"begin","tx":"t"}`, "line 1: the first line has kind"},
		{"a newer version", `{"kind":"history","version":2}`, "version 2, this reads 1"},
		{"unknown sight", `{"kind":"history","version":1,"sees":["all"]}`, `sees ["all"]`},
		{"two headers", first + first, "line 2: a second"},
		{"an empty line", first + "\n", "line 2: not a JSON object"},
		{"a list", first + "[]", "not a JSON object"},
		{"two objects in a line", first + `{"kind":"begin","tx":"t"}{}`, "line 2: invalid character"},
		{"half a line", first + `{"kind":"begin","tx":"t"`, "line 2: "},
		{"no kind", first + `{"tx":"t"}`, `kind "" is none`},
		{"unknown kind", first + `{"kind":"start2"}`, `kind "start2" is none`},
		{"unknown field", first + `{"kind":"begin","tx":"t","x":1}`, `begin has no field "x"`},
		{"a field of another kind", first + `{"kind":"begin","tx":"t","branch":1}`, `begin has no field "branch"`},
		{"capitals", first + `{"kind":"begin","TX":"t"}`, `begin has no field "TX"`},
		{"a field twice", first + `{"kind":"begin","tx":"t","tx":"u"}`, `field "tx" twice`},
		{"null", first + `{"kind":"begin","tx":null}`, `field "tx" is null`},
		{"a missing field", first + `{"kind":"enlist","tx":"t","branch":0}`, `enlist lacks the field "participant"`},
		{"an empty id", first + `{"kind":"begin","tx":""}`, "1 to 256 bytes"},
		{"a long id", first + `{"kind":"begin","tx":"` + strings.Repeat("t", 257) + `"}`, "1 to 256 bytes"},
		{"a long line", first + `{"kind":"begin","tx":"t","note":"` + strings.Repeat("n", h.MaxLine) + `"}`, "line 2: longer than 4096 bytes"},
		{"not UTF-8", first + "{\"kind\":\"begin\",\"tx\":\"\xff\"}", "not UTF-8"},
		{"a branch out of range", first + `{"kind":"prepare","tx":"t","branch":64}`, "branch is not between 0 and 63"},
		{"a negative branch", first + `{"kind":"prepare","tx":"t","branch":-1}`, "branch is not between 0 and 63"},
		{"a fraction", first + `{"kind":"prepare","tx":"t","branch":0.5}`, "number 0.5"},
		{"no such outcome", first + `{"kind":"decided","tx":"t","outcome":"undecided"}`, `outcome "undecided" is none of`},
		{"no such vote", first + `{"kind":"vote","tx":"t","branch":0,"vote":"yes"}`, `vote "yes" is none`},
		{"no such op", first + `{"kind":"call","tx":"t","call":1,"op":"begin"}`, `op "begin" is none`},
		{"no such owner", first + `{"kind":"planted","participant":"p","xid":"x","owner":"me"}`, `owner "me" is neither`},
		{"one-phase rollback", first + `{"kind":"tell","tx":"t","branch":0,"outcome":"rollback","one_phase":true}`, "one_phase goes with commit"},
		{"an answer to nobody", first + `{"kind":"answer","call":1,"outcome":"commit"}`, "call 1 is not open"},
		{"a call twice", first + strings.Repeat(`{"kind":"call","tx":"t","call":1,"op":"get"}`+"\n", 2), "line 3: call 1 twice"},
		{"settled too early", first + `{"kind":"crash"}` + "\n" + `{"kind":"settled"}`, `line 3: settled, but no "repaired" after line 2`},
		{"too few rows", first + `{"kind":"witnesses","participant":"p","count":1}`, "1 rows of p, and 0 lines"},
		{"too few branches", first + `{"kind":"listed","participant":"p","count":1}`, "1 branches at p, and 0 lines"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := h.Read(strings.NewReader(c.text))
			require.ErrorIs(t, err, h.ErrMalformed)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestReadTellsWhyItCouldNotRead(t *testing.T) {
	broken := errors.New("the disk is gone")
	_, err := h.Read(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, h.ErrMalformed)
}

func TestCallsOfATransactionAreBounded(t *testing.T) {
	events := []h.Event{header()}
	for n := range int64(h.MaxCalls + 1) {
		events = append(events, call(n, "t", h.OpGet))
	}
	_, err := h.Check(events)
	require.ErrorIs(t, err, h.ErrMalformed)
	require.ErrorContains(t, err, "more than 256 calls for transaction t")
	_, err = h.Check(events[:h.MaxCalls+1])
	require.NoError(t, err)
}

func TestCheckAndWriteRefuseEventsThatReadRefuses(t *testing.T) {
	for _, events := range [][]h.Event{nil, {of(h.KindBegin, "t")}, {header(), of("start2", "t")}, {header(), of(h.KindPrepare, "t")}, {header(), {Kind: h.KindSum}}} {
		_, err := h.Check(events)
		require.ErrorIs(t, err, h.ErrMalformed)
		require.ErrorIs(t, h.Write(&bytes.Buffer{}, events), h.ErrMalformed)
	}
}

// A recorder that sees no log and no effects: what is told first is the decision.
func TestWithoutTheLogOutcomesMustStillAgree(t *testing.T) {
	seen := append([]h.Event{header()}, begun(yes, yes)...)
	seen = append(seen, tell("t", 0, h.Commit), ack("t", 0, h.Commit), settled)
	violations, err := h.Check(seen[:len(seen)-1])
	require.NoError(t, err)
	require.Empty(t, violations)
	violations, err = h.Check(append(seen, tell("t", 1, h.Rollback)))
	require.NoError(t, err)
	require.Len(t, violations, 2)
	require.Equal(t, h.Settles, violations[0].Rule)
	require.Equal(t, h.Agreement, violations[1].Rule)
}

// Whatever Read takes, Check judges and Write writes, and it reads the same again.
func FuzzRead(f *testing.F) {
	for _, c := range cases {
		f.Add([]byte(dump(history(c.broken...))))
		f.Add([]byte(dump(history(c.kept...))))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		events, err := h.Read(bytes.NewReader(text))
		if err != nil {
			require.ErrorIs(t, err, h.ErrMalformed)
			return
		}
		violations, err := h.Check(events)
		require.NoError(t, err)
		for _, v := range violations {
			require.NotEmpty(t, v.Lines)
			require.LessOrEqual(t, v.Lines[len(v.Lines)-1], len(events), v.String())
		}
		again, err := h.Check(events)
		require.NoError(t, err)
		require.Equal(t, violations, again)
		var written bytes.Buffer
		require.NoError(t, h.Write(&written, events))
		back, err := h.Read(&written)
		require.NoError(t, err)
		require.Equal(t, normal(events), normal(back))
	})
}

// normal takes an empty list for none, as JSON does.
func normal(events []h.Event) []h.Event {
	if len(events[0].Sees) == 0 {
		events[0].Sees = nil
	}
	return events
}
