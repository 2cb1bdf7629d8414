package participantcheck

import (
	"fmt"
	"io"
	"strings"

	"github.com/assent-tm/assent/cmd/assent/output"
)

// Counts tells how many results there are of each outcome.
func Counts(results []Result) (passed, failed, partly, notRun int) {
	for _, r := range results {
		switch r.Outcome {
		case Passed:
			passed++
		case Failed:
			failed++
		case Partly:
			partly++
		case NotRun:
			notRun++
		}
	}
	return passed, failed, partly, notRun
}

// WriteTable prints the results for people, then the rule and the fix of each that failed.
func WriteTable(w io.Writer, results []Result) error {
	var rows [][]string
	for _, r := range results {
		why := r.Why
		if r.Outcome == Failed {
			why = "see below"
		}
		rows = append(rows, []string{r.Name, string(r.Outcome), why})
	}
	if err := output.Rows(w, []string{"CASE", "RESULT", "WHY"}, rows); err != nil {
		return err
	}
	for _, r := range results {
		if r.Outcome != Failed {
			continue
		}
		if _, err := fmt.Fprintf(w, "\n%s failed: %s\n  rule: %s\n  fix:  %s\n", r.Name, output.Clean(r.Why), r.Rule, r.Fix); err != nil {
			return err
		}
	}
	passed, failed, partly, notRun := Counts(results)
	_, err := fmt.Fprintf(w, "\n%d passed, %d failed, %d partly, %d not run\n", passed, failed, partly, notRun)
	if err == nil && partly > 0 {
		_, err = fmt.Fprintln(w, "partly: what the service answered was right, and nobody looked at what it did")
	}
	return err
}

// Fields are the results for programs.
func Fields(results []Result) output.Fields {
	passed, failed, partly, notRun := Counts(results)
	cases := make([]output.Fields, 0, len(results))
	for _, r := range results {
		one := output.Fields{{Name: "case", Value: r.Name}, {Name: "result", Value: strings.ReplaceAll(string(r.Outcome), " ", "_")}, {Name: "why", Value: r.Why}}
		cases = append(cases, append(one, output.Field{Name: "rule", Value: r.Rule}, output.Field{Name: "fix", Value: r.Fix}))
	}
	return output.Fields{
		{Name: "passed", Value: passed},
		{Name: "failed", Value: failed},
		{Name: "partly", Value: partly},
		{Name: "not_run", Value: notRun},
		{Name: "cases", Value: cases},
	}
}
