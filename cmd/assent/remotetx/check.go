package remotetx

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/assent-tm/assent/cmd/assent/output"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

// Severity is how bad a finding is: the exit code of a monitoring plugin.
type Severity int

// The severities.
const (
	OK       Severity = 0
	Warning  Severity = 1
	Critical Severity = 2
	Unknown  Severity = 3
)

func (s Severity) String() string {
	switch s {
	case OK:
		return "OK"
	case Warning:
		return "WARNING"
	case Critical:
		return "CRITICAL"
	default:
		return "UNKNOWN"
	}
}

// rank orders severities: what is critical is worse than what is not known.
func (s Severity) rank() int { return [...]int{0, 1, 3, 2}[s] }

// Finding is one thing that was looked at.
type Finding struct {
	Severity Severity
	What     string
}

// Verdict is what a check found.
type Verdict struct {
	Severity Severity
	Findings []Finding
	// Status is what the server said; nil if it said nothing.
	Status *assentv1.StatusResponse
}

func (v *Verdict) find(s Severity, format string, args ...any) {
	v.Findings = append(v.Findings, Finding{s, output.Clean(fmt.Sprintf(format, args...))})
	if s.rank() > v.Severity.rank() {
		v.Severity = s
	}
}

// Check judges what Status returned: a status, or an error.
func Check(s *assentv1.StatusResponse, err error, maxInDoubtAge time.Duration) (v Verdict) {
	if err != nil {
		var failed *Error
		severity := Unknown
		if errors.As(err, &failed) && failed.Kind == Unreachable {
			severity = Critical
		}
		v.find(severity, "%v", err)
		return v
	}
	v.Status = s
	v.find(conditions(s.GetCondition()), "the server is %s", strings.Trim(s.GetCondition()+": "+s.GetReason(), ": "))
	switch age := s.GetOldestInDoubt().AsDuration(); {
	case s.GetInDoubt() == 0:
		v.find(OK, "no transaction is in doubt")
	case age > maxInDoubtAge:
		v.find(Critical, "%d transactions are in doubt, the oldest for %s, more than %s: 'assent tx list --in-doubt' names them", s.GetInDoubt(), durationText(age), maxInDoubtAge)
	default:
		v.find(OK, "%d transactions are in doubt, the oldest for %s", s.GetInDoubt(), durationText(age))
	}
	for _, p := range s.GetParticipants() {
		if p.GetDown() {
			v.find(Warning, "participant %s is down, %d branches undelivered: %s", p.GetName(), p.GetUndelivered(), p.GetLastError())
		}
	}
	return v
}

func conditions(condition string) Severity {
	switch condition {
	case "SERVING":
		return OK
	case "RECOVERING", "DRAINING":
		return Warning
	case "SAFE_MODE", "FAILED":
		return Critical
	default:
		return Unknown
	}
}

// WriteNagios prints a line as monitoring plugins do, and one for each finding.
func (v Verdict) WriteNagios(w io.Writer) error {
	// The worst first: a pager shows one line.
	findings := slices.Clone(v.Findings)
	slices.SortStableFunc(findings, func(a, b Finding) int { return cmp.Compare(b.Severity.rank(), a.Severity.rank()) })
	text := fmt.Sprintf("ASSENT %s - %s", v.Severity, strings.ReplaceAll(findings[0].What, "|", "/"))
	if s := v.Status; s != nil {
		text += fmt.Sprintf(" | in_doubt=%d oldest_in_doubt=%.3fs undecided=%d log_bytes=%dB",
			s.GetInDoubt(), s.GetOldestInDoubt().AsDuration().Seconds(), s.GetUndecided(), s.GetLog().GetBytes())
	}
	for _, f := range findings {
		text += fmt.Sprintf("\n%s: %s", f.Severity, strings.ReplaceAll(f.What, "|", "/"))
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// WriteText prints the findings for people.
func (v Verdict) WriteText(w io.Writer) error {
	var rows [][]string
	for _, f := range v.Findings {
		rows = append(rows, []string{f.Severity.String(), f.What})
	}
	return output.Rows(w, []string{"IS", "WHAT"}, rows)
}

// WriteJSON prints it as an object.
func (v Verdict) WriteJSON(w io.Writer) error {
	findings := make([]output.Fields, 0, len(v.Findings))
	for _, f := range v.Findings {
		findings = append(findings, output.Fields{{Name: "severity", Value: strings.ToLower(f.Severity.String())}, {Name: "what", Value: f.What}})
	}
	answer := output.Fields{{Name: "severity", Value: strings.ToLower(v.Severity.String())}, {Name: "findings", Value: findings}}
	if v.Status != nil {
		answer.Add("status", output.Of(v.Status))
	}
	return output.Write(w, output.JSON, answer)
}

// WritePrometheus prints metrics in the text format, for a textfile collector.
func (v Verdict) WritePrometheus(w io.Writer) error {
	var text strings.Builder
	metric := func(name, help string, value float64, labels ...string) {
		if help != "" {
			fmt.Fprintf(&text, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		}
		label := ""
		if len(labels) == 2 {
			label = fmt.Sprintf("{%s=%q}", labels[0], labels[1])
		}
		fmt.Fprintf(&text, "%s%s %s\n", name, label, strconv.FormatFloat(value, 'g', -1, 64))
	}
	up := 0.0
	if v.Status != nil {
		up = 1
	}
	metric("assent_up", "Whether the server answered.", up)
	metric("assent_check_severity", "What the check found: 0 ok, 1 warning, 2 critical, 3 unknown.", float64(v.Severity))
	if s := v.Status; s != nil {
		metric("assent_transactions_undecided", "Transactions that are not decided.", float64(s.GetUndecided()))
		metric("assent_transactions_in_doubt", "Transactions that are decided, or left by a crash, and not acknowledged by all.", float64(s.GetInDoubt()))
		metric("assent_in_doubt_oldest_age_seconds", "How long the oldest of them has been so.", s.GetOldestInDoubt().AsDuration().Seconds())
		metric("assent_log_size_bytes", "Size of the log's file.", float64(s.GetLog().GetBytes()))
		for i, p := range s.GetParticipants() {
			help := ""
			if i == 0 {
				help = "Whether the participant answers when it is told decisions."
			}
			up := 1.0
			if p.GetDown() {
				up = 0
			}
			metric("assent_participant_up", help, up, "participant", p.GetName())
		}
		for i, p := range s.GetParticipants() {
			help := ""
			if i == 0 {
				help = "Branches that are still to be told the decision."
			}
			metric("assent_participant_undelivered", help, float64(p.GetUndelivered()), "participant", p.GetName())
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}
