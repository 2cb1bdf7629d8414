package record

// NamesKept and MaxNames are how many names a reader keeps, and may keep (R12).
func (r *Reader) NamesKept() int { return len(r.d.names) }

const MaxNames = maxNames
