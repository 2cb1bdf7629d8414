package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/assent-tm/assent/participant"
)

// count looks at what a kill left in doubt, and adds it to the toll.
func (s *Storm[T]) count(ctx context.Context, down string) (err error) {
	if s.found, err = s.look(ctx, down); err != nil {
		return err
	}
	maps.Copy(s.Toll.InDoubt, s.found)
	if len(s.found) > 0 {
		s.Toll.MetInDoubt++
	}
	return nil
}

// look reads which transactions are prepared. None may be of a deal that was answered as
// committed: before that every participant has acknowledged.
func (s *Storm[T]) look(ctx context.Context, down string) (map[participant.TxID]bool, error) {
	prepared, err := s.InDoubt(ctx, down)
	for _, d := range s.Deals {
		if d.Answer == AnswerCommitted && prepared[d.Tx()] {
			s.Toll.Broken = append(s.Toll.Broken, fmt.Sprintf("deal %d was committed in transaction %s, and later found prepared", d.Number, d.Tx()))
		}
	}
	return prepared, err
}

// compare takes what a coordinator found in its log: it has yet to finish whatever was
// prepared when the one before was dead. A coordinator heals what a participant
// acknowledged and did not do, so that the end would not show it.
func (s *Storm[T]) compare(ready Event) {
	for tx := range s.found {
		if !slices.Contains(ready.Left, tx) {
			s.Toll.Broken = append(s.Toll.Broken, fmt.Sprintf("transaction %s was found prepared, though all have acknowledged its end", tx))
		}
	}
	s.found = nil
}

// Kept is the claim that participants do what they acknowledge, which no kill takes back.
func (s *Storm[T]) Kept() Claim {
	return Claim{Text: "what was acknowledged was done: no kill found a finished transaction prepared", Wrong: s.Toll.Broken}
}
