package remotetx

import (
	"fmt"
	"io"
	"strings"

	"github.com/assent-tm/assent/cmd/assent/output"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

// WriteOrphans prints orphans as a table.
func WriteOrphans(w io.Writer, orphans []*assentv1.Orphan) error {
	var rows [][]string
	for _, o := range orphans {
		rows = append(rows, []string{o.GetParticipant(), nameOf(o), o.GetTransactionId(), o.GetAction(), o.GetReason()})
	}
	return output.Rows(w, []string{"PARTICIPANT", "BRANCH", "TRANSACTION", "THE SWEEP", "BECAUSE"}, rows)
}

// WriteOrphanStatements prints what finishes orphans by hand. Both ways are comments:
// which one is right nobody knows who has not looked.
func WriteOrphanStatements(w io.Writer, orphans []*assentv1.Orphan) error {
	var text strings.Builder
	for _, o := range orphans {
		fmt.Fprintf(&text, "-- %s at %s: the sweep's verdict is %q: %s\n", output.Clean(nameOf(o)), output.Clean(o.GetParticipant()), o.GetAction(), output.Clean(o.GetReason()))
		if o.GetCommitStatement() == "" && o.GetRollbackStatement() == "" {
			text.WriteString("-- the participant cannot tell how to finish it by hand\n")
			continue
		}
		text.WriteString("-- if the transaction was committed elsewhere:\n" + commented(o.GetCommitStatement()))
		text.WriteString("-- if it was rolled back elsewhere:\n" + commented(o.GetRollbackStatement()))
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func commented(statement string) string {
	var text strings.Builder
	for line := range strings.Lines(strings.TrimRight(statement, "\n") + "\n") {
		text.WriteString("--   " + line)
	}
	return text.String()
}

// nameOf is what an orphan's service calls it.
func nameOf(o *assentv1.Orphan) string {
	if o.GetXid() != "" {
		return o.GetXid()
	}
	return o.GetName()
}
