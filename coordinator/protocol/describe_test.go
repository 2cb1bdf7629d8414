package protocol

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/assent-tm/assent/wal/record"
)

// naming tells a branch by its participant, or else by its number.
type naming []string

func (n naming) of(branch int) string {
	if branch < len(n) {
		return n[branch]
	}
	return strconv.Itoa(branch)
}

// effect writes an effect as the transcripts and the stories of the exploration
// show it.
func (n naming) effect(e Effect) string {
	switch e.Kind {
	case EffectAppend:
		how := "append lazy: "
		if e.Forced {
			how = "append forced: "
		}
		texts := make([]string, len(e.Records()))
		for i, r := range e.Records() {
			texts[i] = n.record(r)
		}
		return how + strings.Join(texts, " + ")
	case EffectPrepare:
		return "prepare: " + n.all(e.Branches)
	case EffectCancelPrepare:
		return "cancel prepare"
	case EffectCommit:
		return "commit: " + n.all(e.Branches)
	case EffectCommitOnePhase:
		return "commit in one phase: " + n.all(e.Branches)
	case EffectRollback:
		return "roll back: " + n.all(e.Branches)
	case EffectForget:
		return "forget: " + n.all(e.Branches)
	case EffectFinish:
		if !e.Outcome.Valid() {
			return "finish: outcome unknown"
		}
		return "finish: " + e.Outcome.String()
	case EffectPause:
		return "hold back what is to be told"
	case EffectUnpause:
		return "go on telling: " + n.all(e.Branches)
	case EffectRetry:
		return "tell at once: " + n.all(e.Branches)
	case EffectWithdraw:
		return "never tell again: " + n.all(e.Branches)
	default:
		return fmt.Sprintf("effect %d", e.Kind)
	}
}

func (n naming) all(branches []int) string {
	texts := make([]string, len(branches))
	for i, b := range branches {
		texts[i] = n.of(b)
	}
	return strings.Join(texts, ", ")
}

func (n naming) record(r record.Record) string {
	switch r := r.(type) {
	case record.Enlisted:
		return "enlisted " + n.of(r.Number)
	case record.Decided:
		return "decided " + n.decision(r)
	case record.Heuristic:
		return n.of(r.Number) + " ended " + r.Outcome.String()
	case record.Operator:
		return "operator: " + n.word(r)
	default:
		return r.Kind().String()
	}
}

func (n naming) word(r record.Operator) string {
	text := r.Verb.String()
	if r.Branch != record.NoBranch {
		text += " " + n.of(r.Branch)
	}
	if r.Outcome.Valid() {
		text += " as " + r.Outcome.String()
	}
	return text
}

// decision adds the votes to a commit, and what caused it to a rollback.
func (n naming) decision(r record.Decided) string {
	if r.Decision == record.DecisionRollback {
		text := "rollback, " + r.Cause.String()
		if r.By >= 0 {
			text += " (" + n.of(r.By) + ")"
		}
		if r.Reason != "" {
			text += ": " + r.Reason
		}
		return text
	}
	votes := make([]string, len(r.Votes))
	for i, v := range r.Votes {
		votes[i] = n.of(i) + " " + v.String()
	}
	if len(votes) == 0 {
		return "commit"
	}
	return "commit, votes: " + strings.Join(votes, ", ")
}
