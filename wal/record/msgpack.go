package record

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// The parts of msgpack that records use, on plain slices. The library's encoder and
// decoder go through an interface for every value; with them a replay spent half of
// its time there. The tests hold both to what the library writes and reads.

// packer appends to a body.
type packer struct{ body []byte }

func (p *packer) uint(n uint64) {
	switch {
	case n <= uint64(msgpcode.PosFixedNumHigh):
		p.body = append(p.body, byte(n))
	case n <= math.MaxUint8:
		p.body = append(p.body, msgpcode.Uint8, byte(n))
	case n <= math.MaxUint16:
		p.body = binary.BigEndian.AppendUint16(append(p.body, msgpcode.Uint16), uint16(n))
	case n <= math.MaxUint32:
		p.body = binary.BigEndian.AppendUint32(append(p.body, msgpcode.Uint32), uint32(n))
	default:
		p.body = binary.BigEndian.AppendUint64(append(p.body, msgpcode.Uint64), n)
	}
}

func (p *packer) int(n int64) {
	switch {
	case n >= 0:
		p.uint(uint64(n))
	case n >= int64(int8(msgpcode.NegFixedNumLow)):
		p.body = append(p.body, byte(n))
	case n >= math.MinInt8:
		p.body = append(p.body, msgpcode.Int8, byte(n))
	case n >= math.MinInt16:
		p.body = binary.BigEndian.AppendUint16(append(p.body, msgpcode.Int16), uint16(n))
	case n >= math.MinInt32:
		p.body = binary.BigEndian.AppendUint32(append(p.body, msgpcode.Int32), uint32(n))
	default:
		p.body = binary.BigEndian.AppendUint64(append(p.body, msgpcode.Int64), uint64(n))
	}
}

func (p *packer) bool(b bool) {
	if b {
		p.body = append(p.body, msgpcode.True)
	} else {
		p.body = append(p.body, msgpcode.False)
	}
}

func (p *packer) null() { p.body = append(p.body, msgpcode.Nil) }

// sizes are the codes of what has a length: of a short one in the code itself, up to
// mask, and of lengths of one, two and four bytes; zero if there is none.
type sizes struct{ short, mask, one, two, four byte }

var (
	arraySizes = sizes{short: msgpcode.FixedArrayLow, mask: msgpcode.FixedArrayMask, two: msgpcode.Array16, four: msgpcode.Array32}
	mapSizes   = sizes{short: msgpcode.FixedMapLow, mask: msgpcode.FixedMapMask, two: msgpcode.Map16, four: msgpcode.Map32}
	textSizes  = sizes{short: msgpcode.FixedStrLow, mask: msgpcode.FixedStrMask, one: msgpcode.Str8, two: msgpcode.Str16, four: msgpcode.Str32}
	bytesSizes = sizes{one: msgpcode.Bin8, two: msgpcode.Bin16, four: msgpcode.Bin32}
)

func (p *packer) length(n int, s *sizes) {
	switch {
	case s.mask != 0 && n <= int(s.mask):
		p.body = append(p.body, s.short|byte(n))
	case s.one != 0 && n <= math.MaxUint8:
		p.body = append(p.body, s.one, byte(n))
	case n <= math.MaxUint16:
		p.body = binary.BigEndian.AppendUint16(append(p.body, s.two), uint16(n))
	default:
		p.body = binary.BigEndian.AppendUint32(append(p.body, s.four), uint32(n))
	}
}

func (p *packer) array(n int)   { p.length(n, &arraySizes) }
func (p *packer) pairs(n int)   { p.length(n, &mapSizes) }
func (p *packer) text(s string) { p.length(len(s), &textSizes); p.body = append(p.body, s...) }

func (p *packer) bytes(b []byte) {
	if b == nil {
		p.null()
		return
	}
	p.length(len(b), &bytesSizes)
	p.body = append(p.body, b...)
}

// unpacker takes values off a body. The first error sticks; what is read after it is
// zero.
type unpacker struct {
	rest []byte
	err  error
}

func (u *unpacker) fail(format string, args ...any) {
	if u.err == nil {
		u.err = fmt.Errorf(format, args...)
	}
}

// take returns the next n bytes, which belong to the body; nil after an error.
func (u *unpacker) take(n int) []byte {
	if u.err != nil {
		return nil
	}
	if n > len(u.rest) {
		u.fail("cut off")
		return nil
	}
	b := u.rest[:n]
	u.rest = u.rest[n:]
	return b
}

func (u *unpacker) code() byte {
	if b := u.take(1); b != nil {
		return b[0]
	}
	return msgpcode.Nil
}

// number reads n bytes.
func (u *unpacker) number(n int) (v uint64) {
	for _, b := range u.take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

// integer reads a number of any width; a negative one comes as its two's complement.
func (u *unpacker) integer() (n uint64, negative bool) {
	switch c := u.code(); {
	case c <= msgpcode.PosFixedNumHigh:
		return uint64(c), false
	case c >= msgpcode.NegFixedNumLow:
		return uint64(int8(c)), true
	case c >= msgpcode.Uint8 && c <= msgpcode.Uint64:
		return u.number(1 << (c - msgpcode.Uint8)), false
	case c >= msgpcode.Int8 && c <= msgpcode.Int64:
		width := 1 << (c - msgpcode.Int8)
		n = u.number(width)
		shift := 64 - 8*width
		n = uint64(int64(n<<shift) >> shift)
		return n, int64(n) < 0
	default:
		u.fail("code %x where a number is due", c)
		return 0, false
	}
}

func (u *unpacker) uint() uint64 {
	n, negative := u.integer()
	if negative {
		u.fail("%d is negative", int64(n))
	}
	return n
}

func (u *unpacker) int() int64 {
	n, negative := u.integer()
	if !negative && n > math.MaxInt64 {
		u.fail("%d is too large", n)
	}
	return int64(n)
}

func (u *unpacker) bool() bool {
	switch c := u.code(); c {
	case msgpcode.True:
		return true
	case msgpcode.False:
	default:
		u.fail("code %x where true or false is due", c)
	}
	return false
}

// length reads how long what follows is; -1 for nil.
func (u *unpacker) length(what string, limit int, s *sizes) int {
	var n uint64
	switch c := u.code(); {
	case s.mask != 0 && c&^s.mask == s.short:
		n = uint64(c & s.mask)
	case s.one != 0 && c == s.one:
		n = u.number(1)
	case c == s.two:
		n = u.number(2)
	case c == s.four:
		n = u.number(4)
	case c == msgpcode.Nil:
		return -1
	default:
		u.fail("code %x where the length of %s is due", c, what)
	}
	if n > uint64(limit) {
		u.fail("%s of %d is over the limit of %d", what, n, limit)
	}
	if u.err != nil {
		return 0
	}
	return int(n)
}

// array returns the number of elements; -1 for nil.
func (u *unpacker) array(limit int) int { return u.length("array", limit, &arraySizes) }

// pairs returns the number of keys with a value; -1 for nil.
func (u *unpacker) pairs(limit int) int { return u.length("map", limit, &mapSizes) }

// bytes and text return a part of the body.
func (u *unpacker) bytes(limit int) []byte {
	return u.take(max(0, u.length("bytes", limit, &bytesSizes)))
}

func (u *unpacker) text(limit int) []byte { return u.take(max(0, u.length("text", limit, &textSizes))) }
