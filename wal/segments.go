package wal

import (
	"fmt"
	"time"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// sizes say when old segments are emptied and how large new ones get. They are
// fields only so that tests make everything happen in a small log.
type sizes struct {
	// window is how large the log may be before live transactions are re-written
	// to make room.
	window int64
	// Segments are dropped in groups of so many, or of so many bytes, that the
	// common append drops nothing, and of at most maxGroup at once.
	groupSegments int
	groupBytes    int64
	maxGroup      int
	// maxBatch is how many bytes of records share an Append. What is carried
	// along has as much room, so that records and carried ones make at most 1 MiB,
	// which every driver must accept; only the header comes on top.
	maxBatch int
	// terms is how many bytes the list of former terms may need in a catalogue.
	terms int
}

var usualSizes = sizes{
	window: 4 << 20, groupSegments: 64, groupBytes: 256 << 10, maxGroup: 1024, maxBatch: 512 << 10,
	terms: record.MaxTermsSize,
}

const (
	// usualFrames is room for the records of a transaction with a few branches.
	usualFrames = 240
	// maxSpare bounds how many such rooms are kept for transactions to come.
	maxSpare = 4096
)

// segments is the log's plain state: which segments there are and what they are
// needed for. It knows no goroutine and no clock. For each append it goes through
//
//	add       records are put into the segment being made
//	retire    old segments are emptied: live transactions are carried into the
//	          segment being made, outcomes that need not be kept are forgotten
//	seal      gives the append's arguments, the same ones until
//	appended  the append succeeded
//
// Segments are a queue. Every transaction has a home, the oldest segment with a
// record that is still needed of it; only the oldest segment is ever emptied. The
// newest is never dropped: it holds the own marks.
type segments struct {
	config Config
	marks  marks

	list    []*segment // oldest first; seal adds the one being made
	bytes   int64      // in list
	live    int64      // bytes of frames of live transactions
	carries int64      // transactions re-written so far
	spare   [][]byte   // room for frames, of transactions that completed

	// catalogue is the number of the segment with the newest catalogue, catalogueBytes
	// the size of that, catalogueDue that a newer one is due.
	catalogue      uint64
	catalogueBytes int64
	catalogueDue   bool

	// The segment being made.
	making    *segment
	records   []byte // as added; the caller's
	carried   []byte
	drop      []uint64
	forgotten []participant.TxID
	data      []byte // the sealed segment
	header    int    // bytes of it
}

// segment is what is known of a segment that the store holds.
type segment struct {
	seq    uint64
	bytes  int64
	latest int64 // when the last of ended completed, in Unix milliseconds
	// live is the first of the transactions at home here that are not completed,
	// ended are the ids of the others: what may be there by the hundred thousand
	// is nothing for the garbage collector to follow.
	live  *Place
	ended []participant.TxID
}

func newSegments(config Config, own participant.Term, former []record.TermMarks) *segments {
	return &segments{
		config:       config,
		marks:        marks{own: record.TermMarks{Term: own}, former: former},
		making:       &segment{seq: 1},
		catalogueDue: true,
	}
}

// add puts records into the segment being made. They must stay as they are until
// appended.
func (s *segments) add(entries []entry, records []byte) {
	s.records = records
	for i := range entries {
		e := &entries[i]
		s.note(e.tx, e.completed, records[:e.size])
		records = records[e.size:]
	}
}

// note keeps what records mean for their transaction's place.
func (s *segments) note(tx *Place, completed int64, records []byte) {
	if tx.id.Term == s.marks.own.Term && !s.marks.own.Begun(tx.id.UUID) {
		s.marks.own.Highest = tx.id.UUID
	}
	if tx.completed {
		return // too late to be needed
	}
	if tx.home == nil {
		s.moveIn(tx)
	}
	if completed != 0 {
		seg := tx.home
		seg.latest = max(seg.latest, completed)
		seg.ended = append(seg.ended, tx.id)
		s.live -= int64(len(tx.frames))
		tx.moveOut()
		if cap(tx.frames) == usualFrames && len(s.spare) < maxSpare {
			s.spare = append(s.spare, tx.frames[:0])
		}
		tx.completed, tx.frames = true, nil
		return
	}
	if tx.frames == nil {
		tx.frames = s.newFrames()
	}
	tx.frames = append(tx.frames, records...)
	s.live += int64(len(records))
}

// newFrames returns an empty slice for the frames of a transaction.
func (s *segments) newFrames() []byte {
	last := len(s.spare) - 1
	if last < 0 {
		return make([]byte, 0, usualFrames)
	}
	frames := s.spare[last]
	s.spare[last] = nil
	s.spare = s.spare[:last]
	return frames
}

// moveIn makes the segment being made the home of tx.
func (s *segments) moveIn(tx *Place) {
	tx.home, tx.next = s.making, s.making.live
	if tx.next != nil {
		tx.next.previous = tx
	}
	s.making.live = tx
}

// moveOut takes tx from its home.
func (tx *Place) moveOut() {
	if tx.previous != nil {
		tx.previous.next = tx.next
	} else {
		tx.home.live = tx.next
	}
	if tx.next != nil {
		tx.next.previous = tx.previous
	}
	tx.home, tx.previous, tx.next = nil, nil, nil
}

// retire empties the oldest segments if that frees a whole group, and carries and
// forgets what was at home there. An error says that the records of a transaction
// contradict each other.
func (s *segments) retire(now time.Time) error {
	for range s.group(now) {
		seg := s.list[0]
		emptied, err := s.empty(seg)
		if err != nil {
			return err
		}
		if !emptied {
			return nil
		}
		s.drop = append(s.drop, seg.seq)
		s.bytes -= seg.bytes
		s.list[0] = nil
		s.list = s.list[1:]
		s.catalogueDue = s.catalogueDue || seg.seq == s.catalogue
	}
	return nil
}

// group returns how many of the oldest segments can be emptied; 0 if they are too
// few to be worth it.
func (s *segments) group(now time.Time) int {
	n, freed, rewritten := 0, int64(0), int64(0)
	for _, seg := range s.list[:min(len(s.list), s.config.sizes.maxGroup)] {
		if !s.disposable(seg, s.bytes-freed, now) {
			break
		}
		n++
		freed += seg.bytes
		if seg.seq == s.catalogue {
			// It is written anew, however long it is.
			rewritten, freed = s.catalogueBytes, freed-s.catalogueBytes
		}
	}
	switch {
	case n < s.config.sizes.groupSegments && freed < s.config.sizes.groupBytes:
		return 0
	case n < s.config.sizes.maxGroup && freed < rewritten:
		return 0
	}
	return n
}

// disposable reports whether the oldest segment can be emptied in a log of size
// bytes.
func (s *segments) disposable(seg *segment, size int64, now time.Time) bool {
	if seg.latest != 0 && s.marks.words.Quarantined() {
		return false // R10: nothing is forgotten; nothing new comes either (R12)
	}
	if seg.latest > now.UnixMilli() {
		seg.latest = now.UnixMilli() // the clock was set back (R8): it ages from now on
	}
	if age := now.Sub(time.UnixMilli(seg.latest)); seg.latest != 0 && age < s.config.Retention {
		if size <= s.config.RetainBytes || s.config.RetainAtLeast > 0 && age < s.config.RetainAtLeast {
			return false
		}
	}
	// Carrying costs at most as much as is freed: in a log twice the size of what
	// is live, half of every round is garbage.
	size -= s.catalogueBytes // never garbage
	return seg.live == nil || size > s.config.sizes.window && size > 2*s.live
}

// empty carries or forgets the transactions at home in seg. It reports whether it
// got through: the room for carried ones is limited.
func (s *segments) empty(seg *segment) (bool, error) {
	for seg.live != nil {
		tx := seg.live
		if len(s.carried) > 0 && len(s.carried)+len(tx.frames) > s.config.sizes.maxBatch {
			return false, nil
		}
		if err := s.carry(tx); err != nil {
			return false, err
		}
		tx.moveOut()
		s.moveIn(tx)
	}
	// Last: what is forgotten is dropped in this very append (R13).
	for _, id := range seg.ended {
		s.forget(id)
	}
	seg.ended = nil
	return true, nil
}

// carry re-writes a live transaction's records as one.
func (s *segments) carry(tx *Place) error {
	state := record.NewState(tx.id)
	for rest := tx.frames; len(rest) > 0; {
		var r record.Record
		var err error
		if r, rest, err = record.Next(rest); err == nil {
			err = state.Apply(r)
		}
		if err != nil {
			return fmt.Errorf("carry transaction %s: %w", tx.id, err)
		}
	}
	frame, err := record.Append(nil, record.Carried{State: *state})
	if err != nil {
		return fmt.Errorf("carry transaction %s: %w", tx.id, err)
	}
	s.live += int64(len(frame) - len(tx.frames))
	tx.frames = frame
	s.carried = append(s.carried, frame...)
	s.carries++
	return nil
}

// forget raises the mark of the transaction's term, in the very append that drops
// its records (R13).
func (s *segments) forget(id participant.TxID) {
	s.forgotten = append(s.forgotten, id)
	s.catalogueDue = s.marks.forget(id, s.marks.own.Term) || s.catalogueDue
}

// seal returns the arguments of the append: the segment being made and those it
// replaces. They stay valid until appended.
func (s *segments) seal() (seq uint64, data []byte, drop []uint64, err error) {
	header := record.Header{
		Term:    s.marks.own.Term,
		Seq:     s.making.seq,
		Highest: s.marks.own.Highest,
		Mark:    s.marks.own.Mark,
	}
	if s.catalogueDue {
		header.Catalogue = &record.Catalogue{Domain: s.config.Domain, Terms: s.marks.former, Words: s.marks.words}
	}
	if s.data, err = record.Append(s.data[:0], header); err != nil {
		return 0, nil, nil, fmt.Errorf("segment %d: %w", s.making.seq, err)
	}
	s.header = len(s.data)
	// Carried records come first, though the order does not matter to a merge: it
	// is the order in which a reader wants them.
	s.data = append(s.data, s.carried...)
	s.data = append(s.data, s.records...)
	return s.making.seq, s.data, s.drop, nil
}

// appended notes that the sealed segment is durable. It returns what is forgotten
// with it, and whether a catalogue is in it.
func (s *segments) appended() (forgotten []participant.TxID, catalogued bool) {
	seg := s.making
	forgotten, catalogued = s.forgotten, s.catalogueDue
	seg.bytes = int64(len(s.data))
	s.list = append(s.list, seg)
	s.bytes += seg.bytes
	if catalogued {
		s.catalogue, s.catalogueBytes, s.catalogueDue = seg.seq, int64(s.header), false
	}
	s.making = &segment{seq: seg.seq + 1}
	s.records, s.carried, s.drop, s.forgotten = nil, s.carried[:0], s.drop[:0], nil
	return forgotten, catalogued
}
