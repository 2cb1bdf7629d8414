// Package bolt is the log's store for one process, in one bbolt file: the default
// of an embedded coordinator.
//
// # What lies on disk
//
// Three buckets. Every value begins with the CRC32C of its key and of the rest of
// the value, so no bit of a log can change unnoticed.
//
//	meta   "format"   the name of this format and its version
//	       "created"  16 random bytes: the identity of the log
//	       "counters" how many terms were opened, and the last epoch given
//	       "closed"   there only while the log is closed cleanly
//	       "snapshot" there only in a copy that is not to be opened as a log
//	terms  term       epoch, numbers of the oldest and the newest segment, owner
//	log    term, segment, chunk
//	                  how many chunks of the segment follow, whole record frames
//
// Numbers in keys are big endian, so that the log bucket only ever grows at its
// end and shrinks at its beginning. Chunks hold up to 2000 bytes, because bbolt
// never splits a page of four keys or fewer: large values would be rewritten with
// each neighbour.
//
// # What is trusted
//
// bbolt reads its file through a memory map and believes what it finds: a damaged
// page is a panic or a fault, a damaged meta page silently the loss of the last
// commit. So [Open] first reads the whole file with plain reads, checks every page
// and value, and only then lets bbolt map it. A log that was not closed cleanly is
// not continued at all: what was read is written to a new file (R5).
//
// Beside the log lies a lock file, path + ".lock". It is never renamed or removed;
// a lock on the log itself would let two owners in while it is replaced.
//
// # Copies
//
// A log that is older than what its participants were told splits transactions (R10).
// So a copy that [Store.Snapshot] makes of a log in use, or [Reader.Snapshot] of one that
// is not, is marked, and Open refuses it. [Restore] puts it in place in quarantine: the
// coordinator that opens it is in safe mode until an operator accepts it. [Reader] reads
// logs and copies without a lock, and changes nothing.
package bolt
