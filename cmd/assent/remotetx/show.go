package remotetx

import (
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/assent-tm/assent/cmd/assent/output"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

// words are an enum's value as people read it.
func words(e protoreflect.Enum) string { return strings.ReplaceAll(output.Word(e), "_", " ") }

// WriteList prints transactions as a table, a line each.
func WriteList(w io.Writer, list []*assentv1.Transaction, now time.Time) error {
	var rows [][]string
	for _, t := range list {
		rows = append(rows, []string{t.GetTransactionId(), stateText(t), t.GetName(), t.GetOwner(), ageText(t.GetBegun(), now), progress(t), firstTrouble(t)})
	}
	return output.Rows(w, []string{"TRANSACTION", "STATE", "NAME", "OWNER", "AGE", "ACKNOWLEDGED", "TROUBLE"}, rows)
}

// WriteTransaction prints all of one.
func WriteTransaction(w io.Writer, t *assentv1.Transaction, now time.Time) error {
	why := words(t.GetCause())
	if t.GetReason() != "" {
		why += ": " + t.GetReason()
	}
	err := output.Pairs(w, [][2]string{
		{"transaction", t.GetTransactionId()},
		{"name", t.GetName()},
		{"owner", t.GetOwner()},
		{"request id", t.GetRequestId()},
		{"state", stateText(t)},
		{"decision", words(t.GetDecision())},
		{"outcome", words(t.GetOutcome())},
		{"because", why},
		{"begun", timeText(t.GetBegun(), now)},
		{"deadline", timeText(t.GetDeadline(), now)},
	}...)
	if err != nil || len(t.GetBranches()) == 0 {
		return err
	}
	var rows [][]string
	for _, b := range t.GetBranches() {
		rows = append(rows, []string{
			fmt.Sprint(b.GetNumber()), b.GetParticipant(), words(b.GetVote()), branchText(b), told(b),
			ageText(b.GetNextRetry(), now), b.GetXid(), b.GetLastError(),
		})
	}
	fmt.Fprintln(w)
	err = output.Rows(w, []string{"BRANCH", "PARTICIPANT", "VOTE", "OUTCOME", "TOLD", "NEXT", "XID", "LAST ERROR"}, rows)
	if err != nil || len(t.GetWords()) == 0 {
		return err
	}
	rows = nil
	for _, o := range t.GetWords() {
		rows = append(rows, []string{
			timeText(o.GetAt(), now), strings.TrimSpace(o.GetVerb() + " " + words(o.GetOutcome())), o.GetParticipant(), o.GetWho(), o.GetReason(),
		})
	}
	fmt.Fprintln(w)
	return output.Rows(w, []string{"OPERATOR SAID", "WHAT", "PARTICIPANT", "WHO", "WHY"}, rows)
}

func stateText(t *assentv1.Transaction) string {
	text := words(t.GetState())
	if t.GetPaused() {
		text += ", paused"
	}
	return text
}

func branchText(b *assentv1.Branch) string {
	text := words(b.GetOutcome())
	switch {
	case b.GetHazard() && text == "":
		return "unknown to its participant"
	case b.GetMissing() && text == "":
		return "participant missing"
	default:
		return text
	}
}

// told is how often the branch was told the decision; that is not kept once all has ended.
func told(b *assentv1.Branch) string {
	if b.GetAttempts() == 0 {
		return ""
	}
	return fmt.Sprint(b.GetAttempts())
}

// progress is how many branches have acknowledged.
func progress(t *assentv1.Transaction) string {
	done := 0
	for _, b := range t.GetBranches() {
		if b.GetOutcome() != assentv1.Outcome_OUTCOME_UNSPECIFIED || b.GetVote() == assentv1.Vote_VOTE_READ_ONLY {
			done++
		}
	}
	return fmt.Sprintf("%d/%d", done, len(t.GetBranches()))
}

// firstTrouble is whom the transaction waits for, and why.
func firstTrouble(t *assentv1.Transaction) string {
	for _, b := range t.GetBranches() {
		if b.GetOutcome() == assentv1.Outcome_OUTCOME_UNSPECIFIED && (b.GetLastError() != "" || b.GetMissing() || b.GetHazard()) {
			return strings.TrimSuffix(b.GetParticipant()+": "+strings.Trim(branchText(b)+", "+b.GetLastError(), ", "), ": ")
		}
	}
	return ""
}

func timeText(at *timestamppb.Timestamp, now time.Time) string {
	if at == nil {
		return ""
	}
	return fmt.Sprintf("%s (%s)", at.AsTime().Format(time.RFC3339), ageText(at, now))
}

// ageText is how long ago at was, or in how long it will be.
func ageText(at *timestamppb.Timestamp, now time.Time) string {
	if at == nil {
		return ""
	}
	if age := now.Sub(at.AsTime()); age >= 0 {
		return durationText(age) + " ago"
	}
	return "in " + durationText(at.AsTime().Sub(now))
}

func durationText(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Truncate(time.Millisecond).String()
	case d < time.Hour:
		return d.Truncate(time.Second).String()
	default:
		return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
	}
}
