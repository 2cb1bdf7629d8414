package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// format is the version of everything below. A program refuses a higher one.
const format = 1

const (
	chunkSize  = 2000     // bytes of frames in a chunk, unless a single frame is longer
	maxSegment = 32 << 20 // twice the longest record
	maxOwner   = 255      // bytes of an owner's name
)

var (
	metaBucket  = []byte("meta")
	termsBucket = []byte("terms")
	logBucket   = []byte("log")

	formatKey   = []byte("format")
	createdKey  = []byte("created")
	countersKey = []byte("counters")
	closedKey   = []byte("closed")
	snapshotKey = []byte("snapshot")

	formatName = []byte("assent log ")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errChecksum = errors.New("checksum does not match")

// seal fills in the checksum, for which the value's first four bytes are left free.
func seal(key, value []byte) []byte {
	binary.BigEndian.PutUint32(value, checksum(key, value[crc32.Size:]))
	return value
}

// unseal returns what seal protects.
func unseal(key, value []byte) ([]byte, error) {
	if len(value) < crc32.Size || binary.BigEndian.Uint32(value) != checksum(key, value[crc32.Size:]) {
		return nil, errChecksum
	}
	return value[crc32.Size:], nil
}

func checksum(key, rest []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, rest)
}

// sealed returns a new value with this content.
func sealed(key []byte, content ...byte) []byte {
	return seal(key, append(make([]byte, crc32.Size, crc32.Size+len(content)), content...))
}

func formatValue(version uint32) []byte {
	return sealed(formatKey, binary.BigEndian.AppendUint32(bytes.Clone(formatName), version)...)
}

// parseFormat returns the version; ok is false if the value isn't a log's of ours.
func parseFormat(value []byte) (version uint32, ok bool) {
	content, err := unseal(formatKey, value)
	version4, ours := bytes.CutPrefix(content, formatName)
	if err != nil || !ours || len(version4) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(version4), true
}

// counters only ever grow.
type counters struct {
	terms uint32 // opened so far
	epoch uint64 // the highest given so far
}

func (c counters) value() []byte {
	content := binary.BigEndian.AppendUint32(nil, c.terms)
	return sealed(countersKey, binary.BigEndian.AppendUint64(content, c.epoch)...)
}

func parseCounters(value []byte) (counters, error) {
	content, err := unseal(countersKey, value)
	if err == nil && len(content) != 12 {
		err = fmt.Errorf("%d bytes of counters", len(content))
	}
	if err != nil {
		return counters{}, fmt.Errorf("counters: %w", err)
	}
	return counters{terms: binary.BigEndian.Uint32(content), epoch: binary.BigEndian.Uint64(content[4:])}, nil
}

// entry is what the terms bucket holds of a term. It has the segments low to high;
// none if low is high+1.
type entry struct {
	epoch     uint64
	low, high uint64
	owner     string
}

func termKey(term participant.Term) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(term))
}

func parseTermKey(key []byte) (participant.Term, error) {
	if len(key) != 8 || !participant.Term(binary.BigEndian.Uint64(key)).Valid() {
		return 0, fmt.Errorf("%x is no term", key)
	}
	return participant.Term(binary.BigEndian.Uint64(key)), nil
}

func (e entry) value(key []byte) []byte {
	content := make([]byte, 0, 3*8+len(e.owner))
	content = binary.BigEndian.AppendUint64(content, e.epoch)
	content = binary.BigEndian.AppendUint64(content, e.low)
	content = binary.BigEndian.AppendUint64(content, e.high)
	return sealed(key, append(content, e.owner...)...)
}

func parseEntry(key, value []byte) (entry, error) {
	content, err := unseal(key, value)
	if err == nil && len(content) < 3*8 {
		err = fmt.Errorf("%d bytes", len(content))
	}
	if err != nil {
		return entry{}, fmt.Errorf("entry of term %x: %w", key, err)
	}
	return entry{
		epoch: binary.BigEndian.Uint64(content),
		low:   binary.BigEndian.Uint64(content[8:]),
		high:  binary.BigEndian.Uint64(content[16:]),
		owner: string(content[24:]),
	}, nil
}

const chunkKeySize = 8 + 8 + 4

type chunkKey struct {
	term  participant.Term
	seq   uint64
	chunk uint32
}

func (k chunkKey) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(k.term))
	dst = binary.BigEndian.AppendUint64(dst, k.seq)
	return binary.BigEndian.AppendUint32(dst, k.chunk)
}

func parseChunkKey(key []byte) (chunkKey, error) {
	if len(key) != chunkKeySize {
		return chunkKey{}, fmt.Errorf("chunk key %x has %d bytes", key, len(key))
	}
	return chunkKey{
		term:  participant.Term(binary.BigEndian.Uint64(key)),
		seq:   binary.BigEndian.Uint64(key[8:]),
		chunk: binary.BigEndian.Uint32(key[16:]),
	}, nil
}

// cut appends to ends where each chunk of the segment ends.
func cut(ends []int, segment []byte) ([]int, error) {
	if len(segment) == 0 || len(segment) > maxSegment {
		return nil, fmt.Errorf("segment of %d bytes: want 1 to %d", len(segment), maxSegment)
	}
	begin, end := 0, 0
	for rest := segment; len(rest) > 0; {
		frame, after, err := record.NextFrame(rest)
		if err != nil {
			return nil, fmt.Errorf("segment isn't whole record frames: %w", err)
		}
		if end > begin && end+len(frame)-begin > chunkSize {
			ends, begin = append(ends, end), end
		}
		end += len(frame)
		rest = after
	}
	return append(ends, end), nil
}

// appendChunk appends the value of one chunk, which `follow` others follow.
func appendChunk(dst, key []byte, follow int, frames []byte) []byte {
	begin := len(dst)
	dst = append(dst, make([]byte, crc32.Size)...)
	dst = binary.AppendUvarint(dst, uint64(follow))
	dst = append(dst, frames...)
	seal(key, dst[begin:])
	return dst
}

// sequence checks that chunks, in the order of their keys, are the whole segments
// of one or several terms, without a gap.
type sequence struct {
	key    chunkKey // of the last chunk
	follow uint64   // how many still belong to its segment
}

// next returns the frames of the next chunk; s.key and s.follow are then its own.
func (s *sequence) next(key, value []byte) ([]byte, error) {
	k, err := parseChunkKey(key)
	if err != nil {
		return nil, err
	}
	content, err := unseal(key, value)
	if err != nil {
		return nil, fmt.Errorf("chunk %d of segment %d of term %s: %w", k.chunk, k.seq, k.term, err)
	}
	follow, n := binary.Uvarint(content)
	want := chunkKey{term: s.key.term, seq: s.key.seq, chunk: s.key.chunk + 1}
	if s.follow == 0 {
		want = chunkKey{term: k.term, seq: k.seq}
		if k.term == s.key.term {
			want.seq = s.key.seq + 1
		}
	}
	if n <= 0 || k != want || (s.follow > 0 && follow != s.follow-1) {
		return nil, fmt.Errorf("chunk %d of segment %d of term %s, where chunk %d of segment %d of term %s with %d more was due",
			k.chunk, k.seq, k.term, want.chunk, want.seq, want.term, s.follow)
	}
	s.key, s.follow = k, follow
	return content[n:], nil
}

// finish fails if the last segment lacks chunks.
func (s *sequence) finish() error {
	if s.follow > 0 {
		return fmt.Errorf("segment %d of term %s lacks its last %d chunks", s.key.seq, s.key.term, s.follow)
	}
	return nil
}
