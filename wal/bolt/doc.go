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
//	       "proof"    only with SingleSync: number of the last commit, and the
//	                  SHA-256 of all other values in meta and terms
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
// The same check finds what reads well and would still lead bbolt astray when it
// writes, as a branch page that misnames its child; such a log is copied, too.
//
// # One sync per commit
//
// bbolt syncs a commit's pages, then writes its meta page and syncs that. With
// [Options.SingleSync] both are written and synced at once, before anybody is told
// that the commit is durable and before the next one begins. A power cut may then
// leave any part of the last commit: it is torn. But the tree of the commit before
// is whole, because bbolt does not use a page again in the transaction that gives
// it up; and nobody was told of the torn one. So Open goes back to the commit
// before, once, if the last one does not carry a valid proof, and if the one before
// is whole and carries its own.
//
// The proof is what makes that safe. Pages that were not written hold older trees,
// in order and with valid checksums; without the proof's number an older state is
// taken for the last one. Without its sum, new and old pages are mixed: checksums
// tell of single values only that they were written once. Chunks need no place in
// it, because a file never gets two of the same key, and which of them there must
// be follows from terms. For that a file has a proof in all its commits or in none,
// from its creation on, and a log that was not closed is copied; on a full disk, where
// it is written again in its place, every page that is not in use is cleared.
//
// What it trusts beyond what two syncs do: that a file never shows what other files
// left on the disk, as ext4 mounted with data=writeback does after a power cut.
//
// What it gives up: in a log that was not closed, damage of only what the last
// commit wrote looks as if that was torn, and the last commit, which somebody may
// have been told of, is left out; [Stats].Torn says that a commit was. With two
// syncs, and in a log that was closed, any damage is an error. A page that can't be
// read is never taken for a torn one.
//
// # The lock
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
//
// # Space
//
// bbolt learns that a disk is full in the middle of a commit, and that fails the log
// (R5). So the file is kept larger than what it holds, and its blocks are taken
// beforehand: room to write everything once more, which the next Open may have to,
// to end all that has begun, and 10 MiB. It grows in steps of 16 MiB, and has 32 MiB
// for ten thousand transactions in flight without retained outcomes. When the file
// system has no more to give, the log takes nothing new, and what has begun ends in
// the room that is kept. It is not given back while the log is open; Open copies a
// file that is nearly empty.
//
// An unclean log that there is no space to copy is written again in its place, page
// by page, each page as it was checked, and fsynced before anything of it is told.
//
// This needs fallocate (Linux; ext4, XFS, tmpfs and others). Elsewhere, and where an
// overwrite takes new blocks (Btrfs, ZFS), what is free is looked up, but a disk that
// fills up within a moment can still fail the log. Reopening it loses nothing.
package bolt
