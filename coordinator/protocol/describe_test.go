package protocol

import (
	"fmt"
	"strings"

	"github.com/assent-tm/assent/wal/record"
)

// describeEffect writes an effect as the transcripts and traces show it.
func describeEffect(e Effect) string {
	switch e.Kind {
	case EffectAppend:
		how := "lazy"
		if e.Forced {
			how = "forced"
		}
		texts := make([]string, len(e.Records))
		for i, r := range e.Records {
			texts[i] = describeRecord(r)
		}
		return fmt.Sprintf("append %s: %s", how, strings.Join(texts, " + "))
	case EffectPrepare:
		return "tell prepare" + numbers(e.Branches)
	case EffectCancelPrepare:
		return "cancel prepare"
	case EffectCommit:
		return "tell commit" + numbers(e.Branches)
	case EffectCommitOnePhase:
		return "tell commit-one-phase" + numbers(e.Branches)
	case EffectRollback:
		return "tell rollback" + numbers(e.Branches)
	case EffectFinish:
		if !e.Outcome.Valid() {
			return "finish: outcome unknown"
		}
		return "finish: " + e.Outcome.String()
	case EffectForget:
		return "tell forget" + numbers(e.Branches)
	default:
		return fmt.Sprintf("effect %d", e.Kind)
	}
}

func numbers(branches []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(" ", branches), "  ", " "), "")
}

func describeRecord(r record.Record) string {
	switch r := r.(type) {
	case record.Enlisted:
		return fmt.Sprintf("enlisted %d", r.Number)
	case record.Decided:
		text := "decided " + r.Decision.String()
		if r.Cause != 0 {
			text += " (" + r.Cause.String() + ")"
		}
		return text
	case record.Heuristic:
		return fmt.Sprintf("heuristic %d %s", r.Number, r.Outcome)
	default:
		return r.Kind().String()
	}
}
