package protocol

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

var rewrite = flag.Bool("rewrite", false,
	"write what the machine does into testdata/protocol; only commit the changes if you understand what caused them")

const transcripts = "../../testdata/protocol"

// The transcripts tell the protocol to a reader, and hold the machine to it. A line
// that begins with "> " is a command, lines indented by two spaces are what the
// machine does about it, the rest is prose.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(transcripts, "*.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			got := perform(t, string(text))
			if *rewrite {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
				return
			}
			require.Equal(t, string(text), got)
		})
	}
}

// perform returns the transcript with what the machine does now.
func perform(t *testing.T, text string) string {
	var out strings.Builder
	var s stage
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		out.WriteString(line)
		command, ok := strings.CutPrefix(strings.TrimSpace(line), "> ")
		if !ok {
			continue
		}
		words := append(strings.Fields(command), "", "", "")
		reply, err := s.command(words[0], words[1], words[2], strings.TrimSpace(strings.Join(words[3:], " ")))
		require.NoError(t, err, "command %q", command)
		for _, r := range reply {
			out.WriteString("  " + r + "\n")
		}
	}
	return out.String()
}

// stage is where a transcript is performed: a machine and its log.
type stage struct {
	m       Machine
	names   naming
	told    map[int]EffectKind // what the branches were told last
	durable []record.Record
	pending []write
}

var (
	voteWords = map[string]participant.Vote{
		"prepared": participant.VotePrepared, "read-only": participant.VoteReadOnly, "refused": participant.VoteRefused, "unknown": 0,
	}
	resultWords = map[string]Result{"durable": Durable, "unknown": Unknown, "fenced": Fenced}
	answerWords = map[string]error{
		"": nil, "no-answer": errors.New("no answer"), "unknown-branch": answers[answerUnknownBranch], "refused": answers[answerRefused],
		"already-committed": answers[answerCommitted], "committed-alone": answers[answerAloneCommitted],
		"rolled-back-alone": answers[answerAloneRolledBack], "mixed": answers[answerAloneMixed],
	}
)

// command obeys one line of a transcript:
//
//	begin, enlist NAME [one-phase], commit, rollback, deadline
//	append durable|unknown|fenced     what came of the oldest append that is waited for
//	vote NAME prepared|read-only|refused|unknown [REASON]
//	ack NAME [ERROR]                  what the participant returned when it was told
//	say VERB [NAME] [committed|rolled back]   an operator's word
//	crash [after RECORD], resume      the log keeps what is durable, and what was pending up to RECORD
func (s *stage) command(verb, first, second, rest string) ([]string, error) {
	switch verb {
	case "begin":
		*s = stage{told: map[int]EffectKind{}}
		var effects Effects
		s.m, effects = New(record.Begun{Tx: theTx, At: anyTime})
		return s.carryOut(effects.All()), nil
	case "enlist":
		s.names = append(s.names, first)
		return s.feed(Enlist(first, nil, second == "one-phase"))
	case "commit":
		return s.feed(CommitRequested())
	case "rollback":
		return s.feed(RollbackRequested(record.CauseRequested, ""))
	case "deadline":
		return s.feed(DeadlinePassed(""))
	case "say":
		return s.say(first, second, rest)
	case "append":
		return s.appended(resultWords[first])
	case "crash":
		return s.crash(second)
	case "resume":
		return s.feed(Resumed())
	}
	branch := slices.Index(s.names, first)
	vote, isVote := voteWords[second]
	answer, isAnswer := answerWords[second]
	switch {
	case branch < 0:
		return nil, fmt.Errorf("no command and no participant %q", first)
	case verb == "vote" && isVote:
		return s.feed(Voted(branch, vote, rest))
	case verb == "ack" && isAnswer:
		return s.answered(branch, answer)
	default:
		return nil, errors.New("no such command")
	}
}

// feed returns what the machine does, in words.
func (s *stage) feed(ev Event) ([]string, error) {
	before := s.m.Phase()
	effects, err := s.m.Step(ev)
	if errors.Is(err, ErrUnfit) {
		return []string{"error: " + err.Error()}, nil
	}
	if errors.Is(err, ErrSealed) {
		s.names = s.names[:len(s.names)-1]
		return []string{"error: " + ErrSealed.Error()}, nil
	}
	reply := s.carryOut(effects.All())
	if after := s.m.Phase(); after != before {
		reply = append(reply, "phase: "+after.String())
	}
	if len(reply) == 0 {
		reply = []string{"(nothing)"}
	}
	return reply, nil
}

func (s *stage) say(verb, name, outcome string) ([]string, error) {
	word := record.Operator{Tx: theTx, Number: uint64(len(s.m.Words()) + 1), At: anyTime, Branch: record.NoBranch}
	for word.Verb = record.VerbRetry; word.Verb.String() != verb; word.Verb++ {
		if !word.Verb.Valid() {
			return nil, fmt.Errorf("no verb %q", verb)
		}
	}
	if name != "" {
		word.Branch = slices.Index(s.names, name)
	}
	switch outcome {
	case "committed":
		word.Outcome = participant.OutcomeCommitted
	case "rolled back":
		word.Outcome = participant.OutcomeRolledBack
	}
	return s.feed(Said(word))
}

func (s *stage) carryOut(effects []Effect) (reply []string) {
	for _, e := range effects {
		reply = append(reply, s.names.effect(e))
		if e.Kind == EffectAppend {
			s.pending = append(s.pending, write{e.Records(), e.Forced})
		}
		switch e.Kind {
		case EffectCommit, EffectCommitOnePhase, EffectRollback, EffectPrepare:
			for _, b := range e.Branches {
				s.told[b] = e.Kind
			}
		default:
		}
	}
	return reply
}

func (s *stage) appended(r Result) ([]string, error) {
	for n, p := range s.pending {
		if !p.answered() {
			continue
		}
		if r == Durable {
			s.land(n + 1)
		}
		return s.feed(Appended(p.last(), r))
	}
	return nil, errors.New("no append is waited for")
}

func (s *stage) land(n int) {
	for _, p := range s.pending[:n] {
		s.durable = append(s.durable, stamped(p.records)...)
	}
	s.pending = s.pending[n:]
}

func (s *stage) answered(branch int, err error) ([]string, error) {
	var outcome participant.Outcome
	var acknowledged bool
	switch s.told[branch] {
	case EffectCommitOnePhase:
		outcome, acknowledged = AnswerOnePhase(err)
	case EffectCommit:
		outcome, acknowledged = Answer(record.DecisionCommit, err)
	case EffectRollback:
		outcome, acknowledged = Answer(record.DecisionRollback, err)
	default:
		return nil, errors.New("the branch was not told anything that it could acknowledge")
	}
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	if acknowledged {
		return s.feed(Acknowledged(branch, outcome, reason))
	}
	again := "(" + s.names.of(branch) + " is told again, later)"
	if outcome != participant.OutcomeHeuristicHazard {
		return []string{again}, nil
	}
	reply, err := s.feed(Hazard(branch, reason))
	return append(reply, again), err
}

// crash starts the next coordinator from what the log has.
func (s *stage) crash(last string) ([]string, error) {
	if last != "" {
		n := slices.IndexFunc(s.pending, func(p write) bool { return p.last().String() == last })
		if n < 0 {
			return nil, fmt.Errorf("no record %q is pending", last)
		}
		s.land(n + 1)
	}
	s.pending = nil
	texts := make([]string, len(s.durable))
	for i, r := range s.durable {
		texts[i], _, _ = strings.Cut(s.names.record(r), ",")
	}
	if len(texts) == 0 {
		*s = stage{}
		return []string{"log: nothing; no coordinator will ever know of the transaction"}, nil
	}
	state, err := replay(s.durable)
	if err != nil {
		return nil, err
	}
	s.m = Resume(state)
	return []string{"log: " + strings.Join(texts, ", "), "phase: " + s.m.Phase().String()}, nil
}
