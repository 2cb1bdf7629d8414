package postgres

import "time"

// Begin begins a branch's transaction.
const Begin = begin + "; " + mark

// Witness returns the statement that inserts a branch's row inside of it: id, seconds,
// role.
func (p *Participant) Witness() string { return p.sql.witness }

// KeepFor sets how long branches in doubt keep their connections.
func (p *Participant) KeepFor(d time.Duration) { p.keepTime = d }
