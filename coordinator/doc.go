// Package coordinator is Assent's transaction manager, for programs that embed
// it. Several services take part in one atomic transaction: either all of them
// commit or all of them roll back, whatever crashes.
//
//	dtm, err := coordinator.Open(ctx, coordinator.Config{
//		Domain: "orders", Store: store, Participants: []participant.Participant{bankA, bankB},
//	})
//	err = dtm.Run(ctx, func(ctx context.Context, tx *coordinator.Tx) error {
//		if _, err := tx.Enlist(ctx, bankA, nil); err != nil {
//			return err
//		}
//		_, err := tx.Enlist(ctx, bankB, nil)
//		return err
//	})
//
// The rules of the protocol are in the package protocol, as a pure machine; the
// log is in the package wal. This package carries out what the machine asks for:
// drive.go is the one place that does so, for live transactions, for retries and
// for recovery alike (R11); call.go calls the participants.
package coordinator
