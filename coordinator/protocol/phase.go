package protocol

import "fmt"

// Phase is where a transaction stands.
type Phase uint8

const (
	// Active: branches may join.
	Active Phase = 1 + iota
	// Sealing: the Preparing record is on its way to the disk.
	Sealing
	// Preparing: the branches were asked for their votes.
	Preparing
	// Delegating: the Delegated record is on its way to the disk.
	Delegating
	// Delegated: the only branch decides.
	Delegated
	// Deciding: the decision is on its way to the disk.
	Deciding
	// Telling: the decision is durable; the branches are told until all have
	// acknowledged.
	Telling
	// Completing: all have acknowledged; the Completed record is on its way.
	Completing
	// Done: nothing is left to do.
	Done
	// Inherited: made by Resume and not yet resumed.
	Inherited
	// Stopped: the log failed or was fenced; nothing more is sent (R5).
	Stopped
)

func (p Phase) String() string {
	names := [...]string{
		Active: "active", Sealing: "sealing", Preparing: "preparing", Delegating: "delegating", Delegated: "delegated",
		Deciding: "deciding", Telling: "telling", Completing: "completing", Done: "done", Inherited: "inherited", Stopped: "stopped",
	}
	if p == 0 || int(p) >= len(names) {
		return fmt.Sprintf("invalid phase %d", uint8(p))
	}
	return names[p]
}
