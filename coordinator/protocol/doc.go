// Package protocol holds the rules of two-phase commit as a pure state machine:
// one [Machine] per transaction, fed with events, answering with effects.
//
//	m, effects := protocol.New(begun)
//	effects, err = m.Step(protocol.Enlist(...))
//	effects, err = m.Step(protocol.CommitRequested())
//
// Effects are data: append these records, ask these branches to prepare, tell
// them to commit or to roll back. A driver carries them out, in order, and feeds
// back what came of them as further events. The machine has no clock, no network,
// no disk and no goroutines, and the same events always give the same effects. So
// every point at which a coordinator can crash is a gap between two effects, and
// a test can walk all of them.
//
// After a crash, [Resume] makes a machine of what the log holds, and the same
// Step goes on (R11).
package protocol
