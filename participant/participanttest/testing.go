package participanttest

import (
	"errors"
	"testing"
)

// Test runs every case against the subject, one subtest each. A case that is not
// applicable passes and logs what is lacking, as does one whose effects nobody looked at.
func Test(t *testing.T, s Subject) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			err := c.Run(t.Context(), s)
			switch {
			case errors.Is(err, ErrNotApplicable), errors.Is(err, ErrUnseen):
				t.Log(err)
			case err != nil:
				t.Errorf("%v\nthe rule: %s", err, c.Rule)
			}
		})
	}
}
