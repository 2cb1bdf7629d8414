package nats

import (
	"errors"
	"fmt"
	"strings"

	"github.com/assent-tm/assent/participant"
)

// The participant's own subjects are Config.Subject, one of these words, and the
// tokens of an XID or a term: '.' in place of ':'.
const (
	branchSubjects = ".branch." // in the stream: markers
	stagedSubjects = ".staged." // in the staging stream: what is prepared
	termSubjects   = ".term."   // in the staging stream: the highest transaction of a term
)

func (c Config) marker(b participant.Branch) string { return c.Subject + branchSubjects + tokens(b) }

func (c Config) staged(b participant.Branch) string { return c.Subject + stagedSubjects + tokens(b) }

func (c Config) term(t term) string {
	return c.Subject + termSubjects + t.domain + "." + t.number.String()
}

func tokens(b participant.Branch) string { return strings.ReplaceAll(string(b.XID()), ":", ".") }

// branchAt returns the branch whose staged messages are on the subject. Domain, Tx and
// Number are set.
func (c Config) branchAt(subject string) (participant.Branch, error) {
	rest, ours := strings.CutPrefix(subject, c.Subject+stagedSubjects)
	if !ours {
		return participant.Branch{}, fmt.Errorf("subject %q has no staged messages", subject)
	}
	return participant.ParseXID(strings.ReplaceAll(rest, ".", ":"))
}

// maxSubject keeps the line that publishes to a subject below the 4096 bytes that a server
// takes: it closes the connection of a client that sends more, and the client for good.
const maxSubject = 2048

// wrongSubject tells why nothing can be published to a subject.
func wrongSubject(subject string) error {
	if len(subject) > maxSubject {
		return fmt.Errorf("a subject of %d bytes, %d at most", len(subject), maxSubject)
	}
	if subject == "" || strings.ContainsAny(subject, " \t\r\n\x00") {
		return fmt.Errorf("subject %q is empty or has white space", subject)
	}
	for token := range strings.SplitSeq(subject, ".") {
		switch token {
		case "":
			return fmt.Errorf("subject %q has an empty token", subject)
		case "*", ">":
			return fmt.Errorf("subject %q has a wildcard", subject)
		}
	}
	return nil
}

// within reports whether all subjects that the pattern stands for are among those of
// one of the filters. The pattern may end with '>', and has no other wildcard.
func within(filters []string, pattern string) bool {
	for _, filter := range filters {
		if covers(strings.Split(filter, "."), strings.Split(pattern, ".")) {
			return true
		}
	}
	return false
}

func covers(filter, pattern []string) bool {
	for i, token := range filter {
		switch {
		case token == ">":
			return i < len(pattern)
		case i == len(pattern) || pattern[i] == ">":
			return false
		case token != "*" && token != pattern[i]:
			return false
		}
	}
	return len(filter) == len(pattern)
}

// mayPublish tells what is wrong with the subject of a user's message.
func (c Config) mayPublish(subject string, streamSubjects []string) error {
	if err := wrongSubject(subject); err != nil {
		return err
	}
	if strings.HasPrefix(subject, c.Subject+".") {
		return fmt.Errorf("subject %q is one of the participant's own", subject)
	}
	if !within(streamSubjects, subject) {
		return fmt.Errorf("subject %q is not one of stream %q, which has %q: a branch has one stream", subject, c.Stream, streamSubjects)
	}
	return nil
}

var errNotOurs = errors.New("the stream holds what this participant did not write")
