package postgres

// Witness returns the statement that inserts a branch's row inside of it: id, seconds.
func (p *Participant) Witness() string { return p.sql.witness }
