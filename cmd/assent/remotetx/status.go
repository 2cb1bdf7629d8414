package remotetx

import (
	"fmt"
	"io"
	"time"

	"github.com/assent-tm/assent/cmd/assent/config"
	"github.com/assent-tm/assent/cmd/assent/output"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

// WriteStatus prints how a server is.
func WriteStatus(w io.Writer, s *assentv1.StatusResponse, now time.Time) error {
	condition := s.GetCondition()
	if s.GetReason() != "" {
		condition += ": " + s.GetReason()
	}
	inDoubt := fmt.Sprint(s.GetInDoubt())
	if s.GetInDoubt() > 0 && s.GetOldestInDoubt() != nil {
		inDoubt += ", the oldest for " + durationText(s.GetOldestInDoubt().AsDuration())
	}
	err := output.Pairs(w, [][2]string{
		{"condition", condition},
		{"domain", s.GetDomain()},
		{"version", s.GetVersion()},
		{"started", timeText(s.GetStarted(), now)},
		{"undecided", fmt.Sprint(s.GetUndecided())},
		{"in doubt", inDoubt},
		{"log", fmt.Sprintf("%s, %d bytes, term %s", s.GetLog().GetPath(), s.GetLog().GetBytes(), s.GetLog().GetTerm())},
	}...)
	if err != nil || len(s.GetParticipants()) == 0 {
		return err
	}
	var rows [][]string
	for _, p := range s.GetParticipants() {
		up := "up"
		if p.GetDown() {
			up = "down"
		}
		instances := ""
		if p.GetKind() == config.KindStream || p.GetInstances() > 0 {
			instances = fmt.Sprint(p.GetInstances())
		}
		rows = append(rows, []string{p.GetName(), p.GetKind(), up, fmt.Sprint(p.GetUndelivered()), fmt.Sprint(p.GetInFlight()), instances, p.GetLastError()})
	}
	fmt.Fprintln(w)
	return output.Rows(w, []string{"PARTICIPANT", "KIND", "IS", "UNDELIVERED", "CALLS", "INSTANCES", "LAST ERROR"}, rows)
}
