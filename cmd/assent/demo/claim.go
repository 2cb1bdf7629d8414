package demo

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Claim is one thing that a demo proves, with what speaks against it.
type Claim struct {
	Text  string
	Wrong []string
}

// Check adds to what speaks against the claim unless that holds.
func (c *Claim) Check(holds bool, format string, args ...any) {
	if !holds {
		c.Wrong = append(c.Wrong, fmt.Sprintf(format, args...))
	}
}

// Teller tells a demo's story.
type Teller struct {
	// Out gets the story, Watch a line that is written over and over; it may be nil.
	Out, Watch io.Writer
	// Failed says that a claim did not hold.
	Failed bool
}

// Print prints text as it is.
func (t *Teller) Print(format string, args ...any) { fmt.Fprintf(t.Out, format, args...) }

// Line prints a line of an act.
func (t *Teller) Line(label, format string, args ...any) {
	t.Print("   %-10s %s\n", label, fmt.Sprintf(format, args...))
}

// maxWrong bounds what is printed of one claim.
const maxWrong = 5

// Claim prints a claim that was checked; at the end, without a label, each has its
// own mark.
func (t *Teller) Claim(label string, c Claim) {
	mark := "ok"
	if len(c.Wrong) > 0 {
		mark, t.Failed = "FAILED", true
	}
	if label == "" {
		t.Print("   %-10s %s\n", mark, c.Text)
	} else {
		t.Line(label, "%s  [%s]", c.Text, mark)
	}
	for i, wrong := range c.Wrong {
		if i == maxWrong {
			t.Line("", "and %d more", len(c.Wrong)-maxWrong)
			break
		}
		t.Line("", "%s", wrong)
	}
}

// Prove prints the claims of the end, which were read from there. The error is
// ErrNotProven if one of the story did not hold.
func (t *Teller) Prove(from string, claims []Claim) error {
	t.Print("\nProof, read from %s\n", from)
	for _, c := range claims {
		t.Claim("", c)
	}
	if t.Failed {
		return ErrNotProven
	}
	return nil
}

// Progress writes over the line that is watched.
func (t *Teller) Progress(format string, args ...any) {
	if t.Watch != nil {
		fmt.Fprintf(t.Watch, "\r   %s ", fmt.Sprintf(format, args...))
	}
}

// ClearProgress removes that line.
func (t *Teller) ClearProgress() {
	if t.Watch != nil {
		fmt.Fprintf(t.Watch, "\r%s\r", strings.Repeat(" ", 60))
	}
}

// describeVotes lists votes in the order of the participants' names given.
func describeVotes(participants []string, votes []Vote) string {
	var s []string
	for _, name := range participants {
		for _, v := range votes {
			if v.Participant != name {
				continue
			}
			reason := ""
			if v.Reason != "" {
				reason = " (" + v.Reason + ")"
			}
			s = append(s, fmt.Sprintf("%s %s%s %s", v.Participant, v.Vote, reason, Millis(v.Took)))
		}
	}
	return strings.Join(s, ", ")
}

// Millis writes a time in milliseconds.
func Millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// Count writes a number with a comma at every thousand.
func Count[N ~int | ~int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	var groups []string
	for len(digits) > 3 {
		groups = append(groups, digits[len(digits)-3:])
		digits = digits[:len(digits)-3]
	}
	groups = append(groups, digits)
	slices.Reverse(groups)
	return sign + strings.Join(groups, ",")
}
