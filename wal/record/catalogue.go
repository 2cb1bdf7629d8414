package record

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/google/uuid"

	"github.com/assent-tm/assent/participant"
)

// A catalogue lists every term that was ever opened (R9), so it grows with each start.
// One of many terms is packed: in a Header of versionOfPacked the terms are one field of
// bytes, first their number as a uvarint, then for each
//
//	uvarint   how much higher its counter is than that of the term before, times four;
//	          plus which ids follow
//	4 bytes   its random half, big endian
//	ids       none, Highest, or Highest and Mark
//
// That is 5 bytes for a term in which nothing was begun, and 21 for most others, whose
// outcomes were all forgotten, or none. A catalogue of a few terms is not packed, for
// programs that don't know how to read that.

const (
	// maxPlain is how many terms a catalogue has at most that is not packed.
	maxPlain = 256

	termMarksFields = 3
	randomSize      = 4
)

// MaxTermsSize is how large [TermsSize] may be for a catalogue that can be written. The
// rest of the largest record is for what else a Header has.
const MaxTermsSize = maxBody - 64<<10

// Which ids of a term follow.
const (
	noIDs     = iota // both are zero
	noMark           // Mark is zero
	equalIDs         // Mark is Highest, and not written
	bothIDs          // all others
	idsFactor        // what the difference of counters is multiplied with
)

func (m TermMarks) ids() uint64 {
	switch {
	case m.Highest == uuid.Nil && m.Mark == uuid.Nil:
		return noIDs
	case m.Mark == uuid.Nil:
		return noMark
	case m.Mark == m.Highest:
		return equalIDs
	default:
		return bothIDs
	}
}

// idsSize is how many bytes the ids have.
func idsSize(ids uint64) int {
	return [...]int{noIDs: 0, noMark: len(uuid.Nil), equalIDs: len(uuid.Nil), bothIDs: 2 * len(uuid.Nil)}[ids]
}

// TermsSize returns how many bytes former terms have in a catalogue, at most: their
// marks may still rise, though not above the highest ids begun.
func TermsSize(terms []TermMarks) (size int) {
	size, before := binary.MaxVarintLen64, uint32(0)
	for _, m := range terms {
		counter, ids := uint32(m.Term>>32), m.ids()
		if ids == noMark {
			ids = bothIDs
		}
		size += uvarintSize(uint64(counter-before)*idsFactor+ids) + randomSize + idsSize(ids)
		before = counter
	}
	return size
}

func uvarintSize(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }

func (c *Catalogue) packed() bool { return c != nil && len(c.Terms) > maxPlain }

func (e *encoder) catalogue(c *Catalogue) {
	if c == nil {
		e.null()
		e.null()
		return
	}
	e.limit("bytes of domain", len(c.Domain), participant.MaxDomain)
	e.text(c.Domain)
	if c.packed() {
		e.packed = appendTerms(e.packed[:0], c.Terms)
		e.bytes(e.packed)
		return
	}
	e.array(len(c.Terms))
	for _, m := range c.Terms {
		e.array(termMarksFields)
		e.uint(uint64(m.Term))
		e.uuid(m.Highest)
		e.uuid(m.Mark)
	}
}

func appendTerms(b []byte, terms []TermMarks) []byte {
	b = binary.AppendUvarint(b, uint64(len(terms)))
	before := uint32(0)
	for _, m := range terms {
		counter, ids := uint32(m.Term>>32), m.ids()
		b = binary.AppendUvarint(b, uint64(counter-before)*idsFactor+ids)
		b = binary.BigEndian.AppendUint32(b, uint32(m.Term))
		if ids != noIDs {
			b = append(b, m.Highest[:]...)
		}
		if ids == bothIDs {
			b = append(b, m.Mark[:]...)
		}
		before = counter
	}
	return b
}

func (d *decoder) catalogue() *Catalogue {
	c := &Catalogue{Domain: d.text(participant.MaxDomain)}
	if d.version >= versionOfPacked {
		c.Terms = d.packedTerms()
		return c
	}
	n := d.array(maxBody)
	if n < 0 && c.Domain != "" {
		d.fail("a domain and no terms")
	}
	if d.err != nil || n < 0 {
		return nil
	}
	for range n {
		if n := d.array(termMarksFields); d.err == nil && n != termMarksFields {
			d.fail("%d fields of a term", n)
		}
		if d.err != nil {
			return nil
		}
		c.Terms = append(c.Terms, TermMarks{Term: participant.Term(d.uint()), Highest: d.uuid(), Mark: d.uuid()})
	}
	return c
}

func (d *decoder) packedTerms() (terms []TermMarks) {
	b := d.bytes(maxBody)
	n, size := binary.Uvarint(b)
	if size != uvarintSize(n) || n > uint64(len(b)/(1+randomSize)) {
		d.fail("packed terms are cut off, or their number is wrong")
		return nil
	}
	b = b[size:]
	if n > 0 {
		terms = make([]TermMarks, n)
	}
	before := uint32(0)
	for i := range terms {
		if b = terms[i].unpack(b, before); b == nil {
			d.fail("packed term %d is none", i)
			return nil
		}
		before = uint32(terms[i].Term >> 32)
	}
	if len(b) > 0 {
		d.fail("%d bytes after packed terms", len(b))
	}
	return terms
}

// unpack reads a term that follows one with the counter before. It returns what comes
// after it, nil if b begins with nothing that appendTerms writes.
func (m *TermMarks) unpack(b []byte, before uint32) (rest []byte) {
	first, size := binary.Uvarint(b)
	ids, higher := first%idsFactor, first/idsFactor
	if size != uvarintSize(first) || higher > math.MaxUint32 || len(b) < size+randomSize+idsSize(ids) {
		return nil
	}
	b = b[size:]
	m.Term = participant.Term(before+uint32(higher))<<32 | participant.Term(binary.BigEndian.Uint32(b))
	b = b[randomSize:]
	if ids != noIDs {
		b = b[copy(m.Highest[:], b):]
	}
	switch ids {
	case equalIDs:
		m.Mark = m.Highest
	case bothIDs:
		b = b[copy(m.Mark[:], b):]
	}
	if m.ids() != ids {
		return nil
	}
	return b
}
