package remotetx

import (
	"fmt"
	"io"
	"strings"

	"github.com/assent-tm/assent/cmd/assent/output"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

// WriteStatements prints what finishes a transaction's prepared branches by hand, to
// be pasted into each service's own client. Everything else in it is a comment. Only a
// decision that is durable is printed as statements: by hand, too, nobody commits or
// rolls back before it (R3).
func WriteStatements(w io.Writer, t *assentv1.Transaction) error {
	var text strings.Builder
	comment := func(format string, args ...any) {
		fmt.Fprintf(&text, "-- %s\n", output.Clean(fmt.Sprintf(format, args...)))
	}
	decided := t.GetDecision() != assentv1.Decision_DECISION_UNSPECIFIED
	comment("transaction %s: %s, decision %s", t.GetTransactionId(), stateText(t), orNone(words(t.GetDecision())))
	if !decided {
		comment("nothing is decided: finish nothing by hand, or its parts may end differently")
	}
	for _, b := range t.GetBranches() {
		statement := b.GetRollbackStatement()
		if t.GetDecision() == assentv1.Decision_DECISION_COMMIT {
			statement = b.GetCommitStatement()
		}
		switch {
		case b.GetOutcome() != assentv1.Outcome_OUTCOME_UNSPECIFIED:
			comment("branch %d at %s: done, %s", b.GetNumber(), b.GetParticipant(), words(b.GetOutcome()))
		case statement == "":
			comment("branch %d at %s, XID %s: nothing is prepared, or the participant cannot tell", b.GetNumber(), b.GetParticipant(), b.GetXid())
		case !decided:
			comment("branch %d at %s, XID %s: prepared", b.GetNumber(), b.GetParticipant(), b.GetXid())
		default:
			comment("branch %d at %s, in its own client; then: assent tx resolve %s %s --outcome %s --reason ...",
				b.GetNumber(), b.GetParticipant(), t.GetTransactionId(), b.GetParticipant(), outcomeFlag(t.GetDecision()))
			text.WriteString(strings.TrimRight(statement, "\n") + "\n")
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func outcomeFlag(d assentv1.Decision) string {
	if d == assentv1.Decision_DECISION_COMMIT {
		return "committed"
	}
	return "rolled-back"
}
