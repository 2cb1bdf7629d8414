package postgres

// Begin begins a branch's transaction.
const Begin = begin + "; " + mark

// Witness returns the statement that inserts a branch's row inside of it: id, seconds,
// role.
func (p *Participant) Witness() string { return p.sql.witness }
