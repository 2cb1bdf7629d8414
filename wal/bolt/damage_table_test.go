package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/waltest"
)

// table counts what becomes of damaged files: rows are kinds of damage, columns the
// ends they may come to. There is no column for fewer records.
type table struct {
	rows  []string
	cells map[string]map[string]int
}

var columns = []string{"same state", "ErrDamaged", "ErrNewer", "ErrForeign", "ErrLocked", "ErrFull", "of the system"}

func (tb *table) add(row, column string) {
	if tb.cells == nil {
		tb.cells = map[string]map[string]int{}
	}
	if tb.cells[row] == nil {
		tb.cells[row] = map[string]int{}
		tb.rows = append(tb.rows, row)
	}
	tb.cells[row][column]++
}

// verdict names the column of an error; nil is the same state, as the caller has
// made sure.
func verdict(t *testing.T, err error) string {
	t.Helper()
	for i, typed := range []error{nil, wal.ErrDamaged, wal.ErrNewer, wal.ErrForeign, wal.ErrLocked, wal.ErrFull} {
		if errors.Is(err, typed) {
			return columns[i]
		}
	}
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		return columns[len(columns)-1]
	}
	t.Fatalf("an error that says nothing: %v", err)
	return ""
}

func (tb *table) String() string {
	var s strings.Builder
	line := func(name string, cell func(column string) string) {
		fmt.Fprintf(&s, "\n%-38s", name)
		for _, column := range columns {
			fmt.Fprintf(&s, " %13s", cell(column))
		}
	}
	line("damage", func(column string) string { return column })
	for _, row := range tb.rows {
		line(row, func(column string) string {
			if n := tb.cells[row][column]; n > 0 {
				return fmt.Sprint(n)
			}
			return "-"
		})
	}
	return s.String() + "\n"
}

// specimen is a small log with one of everything, the same bytes in each run: three
// terms, one of them without segments, segments of many chunks, chunks longer than
// a page, branch pages, pages that are free again.
type specimen struct {
	content  []byte
	pageSize int
	kinds    []string // of each page
	state    uint32   // of its content
	image    *image
}

func newSpecimen(t *testing.T) *specimen {
	t.Helper()
	path := filepath.Join(t.TempDir(), "specimen")
	// Small pages, so that there are many; and a list of free pages in a fixed order.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: minPage, NoFreelistSync: true, FreelistType: bbolt.FreelistArrayType})
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{logBucket, termsBucket, metaBucket} {
			_, err := tx.CreateBucket(name)
			require.NoError(t, err)
		}
		require.NoError(t, tx.Bucket(metaBucket).Put(formatKey, formatValue(format)))
		require.NoError(t, tx.Bucket(metaBucket).Put(createdKey, sealed(createdKey, make([]byte, 16)...)))
		return tx.Bucket(metaBucket).Put(countersKey, counters{terms: 4, epoch: 6}.value())
	}))
	first, second, third := participant.NewTerm(1, 0x01234567), participant.NewTerm(3, 0x89abcdef), participant.NewTerm(4, 0x55aa55aa)
	specimenTerm(t, db, first, entry{epoch: 5, low: 3, high: 5, owner: "host:1"}, func(seq uint64) []byte {
		return waltest.Segment(int(seq), 1500, 100, 1900)
	})
	specimenTerm(t, db, second, entry{epoch: 6, low: 1, high: 40, owner: "host:2"}, func(seq uint64) []byte {
		return waltest.Segment(int(seq), 20)
	})
	specimenTerm(t, db, third, entry{epoch: 6, low: 1, high: 0, owner: "host:3"}, nil)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Put(closedKey, sealed(closedKey))
	}))
	require.NoError(t, db.Close())

	content := read(t, path)
	im, err := openImage(bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	s := &specimen{content: content[:int64(im.meta.highWater)*im.pageSize], pageSize: int(im.pageSize)}
	im, found, err := s.examine(s.content)
	require.NoError(t, err)
	require.Equal(t, summary{closed: true}, found)
	s.image, s.state = im, s.stateOf(t, im)
	s.kinds = append(s.kinds, "meta page", "meta page")
	for id := 2; id < len(im.seen); id++ {
		s.kinds = append(s.kinds, s.kindOf(id))
	}
	return s
}

// specimenTerm writes a term one segment at a time, and drops the first ones.
func specimenTerm(t *testing.T, db *bbolt.DB, term participant.Term, e entry, segment func(uint64) []byte) {
	t.Helper()
	w := &stream{term: term}
	for seq := uint64(1); seq <= e.high; seq++ {
		require.NoError(t, db.Update(func(tx *bbolt.Tx) (err error) {
			log := tx.Bucket(logBucket)
			log.FillPercent = 1
			if seq == e.high {
				require.NoError(t, deleteSegments(log, term, 1, e.low))
			}
			w.ends, err = cut(w.ends[:0], segment(seq))
			require.NoError(t, err)
			return w.put(log, seq, segment(seq))
		}))
	}
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error { return putEntry(tx, term, e) }))
}

func (s *specimen) kindOf(id int) string {
	if !s.image.seen[id] {
		return "free page"
	}
	// The second page of a long one begins with what it holds, not with a header.
	for ; ; id-- {
		page := s.content[id*s.pageSize:]
		if bytes.Equal(page[:8], []byte{byte(id), byte(id >> 8), 0, 0, 0, 0, 0, 0}) && s.image.seen[id] {
			if page[8] == branchPage {
				return "branch page"
			}
			return "leaf page"
		}
	}
}

func (s *specimen) examine(content []byte) (*image, summary, error) {
	im, err := openImage(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, summary{}, explain("log", err)
	}
	found, err := im.inspect()
	if err != nil {
		return nil, summary{}, explain("log", err)
	}
	return im, found, nil
}

// stateOf is a checksum of all that an image holds.
func (s *specimen) stateOf(t *testing.T, im *image) (sum uint32) {
	clear(im.seen)
	buckets, err := im.buckets()
	require.NoError(t, err)
	for _, bucket := range buckets {
		sum = crc32.Update(sum, castagnoli, bucket.key)
		err := im.each(bucket, func(it item) error {
			sum = crc32.Update(crc32.Update(sum^uint32(len(it.key)), castagnoli, it.key), castagnoli, it.value)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return sum
}

// judge returns what a damaged content comes to, by the reader that goes before
// bbolt. Whatever it lets through holds the same.
func (s *specimen) judge(t *testing.T, content []byte) (column string, found summary) {
	t.Helper()
	im, found, err := s.examine(content)
	if err == nil && s.stateOf(t, im) != s.state {
		t.Fatal("opens with another state")
	}
	return verdict(t, err), found
}

// open opens a damaged content for real, and uses it: nothing may be missing, then
// or after it was written and opened again.
func (s *specimen) open(t *testing.T, content []byte) string {
	t.Helper()
	err := openBytes(t, content)
	if err != nil {
		return verdict(t, err)
	}
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	s.same(t, path)
	log := open(t, path)
	for _, term := range []participant.Term{participant.NewTerm(3, 0x89abcdef), participant.NewTerm(1, 0x01234567)} {
		taken, err := log.TakeOver(t.Context(), term, "test")
		require.NoError(t, err)
		low, high := segmentsOf(t, log, term)
		// From here on pages are rewritten, merged and freed.
		require.NoError(t, taken.Append(t.Context(), high+1, waltest.Segment(1, 50), numbers(low, high)))
	}
	require.NoError(t, log.Close())
	left, err := check(path)
	require.NoError(t, err)
	require.Equal(t, summary{closed: true, proven: smallMap.SingleSync}, left)
	return columns[0]
}

// same checks that the log at path holds what the specimen does.
func (s *specimen) same(t *testing.T, path string) {
	t.Helper()
	log := open(t, path)
	want := fnv.New64a()
	got := fnv.New64a()
	orphans, _, err := log.Orphans(t.Context())
	require.NoError(t, err)
	require.Len(t, orphans, 3)
	for _, term := range orphans {
		require.NoError(t, log.Scan(t.Context(), term, func(seq uint64, segment []byte) error {
			_, _ = fmt.Fprintf(got, "%s %d %x;", term, seq, segment)
			return nil
		}))
	}
	for seq := 3; seq <= 5; seq++ {
		_, _ = fmt.Fprintf(want, "%s %d %x;", orphans[0], seq, waltest.Segment(seq, 1500, 100, 1900))
	}
	for seq := 1; seq <= 40; seq++ {
		_, _ = fmt.Fprintf(want, "%s %d %x;", orphans[1], seq, waltest.Segment(seq, 20))
	}
	require.Equal(t, want.Sum64(), got.Sum64())
	require.NoError(t, log.Close())
}

func segmentsOf(t *testing.T, log *Store, term participant.Term) (low, high uint64) {
	t.Helper()
	require.NoError(t, log.Scan(t.Context(), term, func(seq uint64, _ []byte) error {
		if low == 0 {
			low = seq
		}
		high = seq
		return nil
	}))
	return low, high
}

func numbers(low, high uint64) (all []uint64) {
	for ; low <= high; low++ {
		all = append(all, low)
	}
	return all
}

const damageTable = `
damage                                    same state    ErrDamaged      ErrNewer    ErrForeign     ErrLocked       ErrFull of the system
a bit of a meta page                           15104          1280             -             -             -             -             -
a bit of a leaf page                           22472        124984             -             -             -             -             -
a bit of a branch page                          5760          2393             -             -             -             -             -
a bit of a branch page, opened by a copy            39             -             -             -             -             -             -
a bit of a free page                           20480             -             -             -             -             -             -
cut within the pages in use                        -            82             -             -             -             -             -
cut behind them                                   17             -             -             -             -             -             -
zeroed: a meta page                                -             2             -             -             -             -             -
zeroed: a leaf page                                -            18             -             -             -             -             -
zeroed: a branch page                              -             1             -             -             -             -             -
zeroed: a free page                               20             -             -             -             -             -             -
two pages swapped                                  5           625             -             -             -             -             -
two free pages swapped                           190             -             -             -             -             -             -
another page in its place: a meta page             -            80             -             -             -             -             -
another page in its place: a leaf page             5           715             -             -             -             -             -
another page in its place: a branch page             -            40             -             -             -             -             -
an empty file                                      -             1             -             -             -             -             -
a text                                             -             -             -             1             -             -             -
another program's bbolt file                       -             -             -             1             -             -             -
a newer format                                     -             -             1             -             -             -             -
a directory                                        -             -             -             1             -             -             -
a second opener                                    -             -             -             -             1             -             -
a foreign domain                                   -             -             -             1             -             -             -
`

// Every kind of damage to a file, at every place. What the table says below is what
// it said when it was written: a change in it is a change of what is noticed.
func TestDamageTable(t *testing.T) {
	s := newSpecimen(t)
	tb := &table{}
	unnoticed, copied := s.flips(t, tb)
	s.cuts(t, tb)
	s.pages(t, tb)
	s.others(t, tb)
	t.Log(tb)
	want, got := damageTable, tb.String()
	if sampled() { // it comes to the same ends, less often
		count := regexp.MustCompile(` +\d+`)
		want, got = count.ReplaceAllString(want, " some"), count.ReplaceAllString(got, " some")
	}
	require.Equal(t, want, got)
	s.ignored(t, unnoticed, copied)
}

// others opens what is no damaged log of this program and domain.
func (s *specimen) others(t *testing.T, tb *table) {
	add := func(row string, content []byte) { tb.add(row, s.open(t, content)) }
	add("an empty file", []byte{})
	add("a text", bytes.Repeat([]byte("a text. "), 2000))
	add("another program's bbolt file", bboltFile(t, func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("jobs"))
		return err
	}))
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, s.content, 0o600))
	edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, formatValue(format+1)) })
	add("a newer format", read(t, path))
	_, err := Open(t.TempDir(), smallMap)
	tb.add("a directory", verdict(t, err))

	path = filepath.Join(t.TempDir(), "log")
	first := open(t, path)
	_, err = Open(path, smallMap)
	tb.add("a second opener", verdict(t, err))
	log, _, err := wal.Open(t.Context(), first, wal.Config{Domain: "one", Owner: "test"})
	require.NoError(t, err)
	require.NoError(t, log.Close(t.Context()))
	_, _, err = wal.Open(t.Context(), first, wal.Config{Domain: "another", Owner: "test"})
	tb.add("a foreign domain", verdict(t, err))
	require.NoError(t, first.Close())
}

func bboltFile(t *testing.T, fill func(*bbolt.Tx) error) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other")
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(fill))
	require.NoError(t, db.Close())
	return read(t, path)
}

// sampled reports whether a sample of the bits will do: the reader that goes before
// bbolt takes no notice of SingleSync in a file that was closed.
func sampled() bool { return testing.Short() || smallMap.SingleSync }

// flips flips each bit, alone; of free pages one in each byte. Of a sample one of 17. It
// returns where that goes unnoticed, and where the log is opened by a copy.
func (s *specimen) flips(t *testing.T, tb *table) (unnoticed, copied []int) {
	content, step := bytes.Clone(s.content), 1
	if sampled() {
		step = 17
	}
	for bit := 0; bit < 8*len(content); bit += step {
		kind := s.kinds[bit/8/s.pageSize]
		if kind == "free page" && bit%8 != bit/8%8 {
			continue
		}
		content[bit/8] ^= 1 << (bit % 8)
		column, found := s.judge(t, content)
		if bit%2500 == 0 {
			require.Equal(t, column, s.open(t, content), "Open sees it otherwise")
		}
		content[bit/8] ^= 1 << (bit % 8)
		switch {
		case column != columns[0]:
		case found.unfit:
			copied = append(copied, bit)
			kind += ", opened by a copy"
		default:
			unnoticed = append(unnoticed, bit)
		}
		tb.add("a bit of a "+kind, column)
	}
	return unnoticed, copied
}

func (s *specimen) cuts(t *testing.T, tb *table) {
	whole := append(bytes.Clone(s.content), make([]byte, 8*s.pageSize)...)
	for size := 0; size <= len(whole); size += 512 {
		row := "cut within the pages in use"
		if size >= len(s.content) {
			row = "cut behind them"
		}
		tb.add(row, s.open(t, whole[:size]))
	}
}

func (s *specimen) page(content []byte, id int) []byte {
	return content[id*s.pageSize : (id+1)*s.pageSize]
}

// pages zeroes each page, swaps each two, and writes each in the place of another.
func (s *specimen) pages(t *testing.T, tb *table) {
	n := 0
	try := func(row string, change func(content []byte)) {
		content := bytes.Clone(s.content)
		change(content)
		column, _ := s.judge(t, content)
		if n++; n%50 == 0 {
			require.Equal(t, column, s.open(t, content), "Open sees it otherwise")
		}
		tb.add(row, column)
	}
	for id, kind := range s.kinds {
		try("zeroed: a "+kind, func(content []byte) { clear(s.page(content, id)) })
	}
	for a := range s.kinds {
		for b := range a {
			row := "two pages swapped"
			if s.kinds[a] == "free page" && s.kinds[b] == "free page" {
				row = "two free pages swapped"
			}
			try(row, func(content []byte) {
				copy(s.page(content, a), s.page(s.content, b))
				copy(s.page(content, b), s.page(s.content, a))
			})
		}
	}
	for a, kind := range s.kinds {
		for b := range s.kinds {
			if a != b && kind != "free page" {
				try("another page in its place: a "+kind, func(content []byte) { copy(s.page(content, a), s.page(s.content, b)) })
			}
		}
	}
}

// ignored shows that what goes unnoticed is not looked at by bbolt either, nor in its
// way when it writes: all of it flipped at once, and that of each page; of what makes
// Open copy the log, bits alone.
func (s *specimen) ignored(t *testing.T, unnoticed, copied []int) {
	flip := func(content []byte, bit int) { content[bit/8] ^= 1 << (bit % 8) }
	all, perPage := bytes.Clone(s.content), map[int][]byte{}
	for _, bit := range unnoticed {
		page := bit / 8 / s.pageSize
		if perPage[page] == nil {
			perPage[page] = bytes.Clone(s.content)
		}
		flip(perPage[page], bit)
		flip(all, bit)
	}
	for page, content := range perPage {
		require.Equalf(t, columns[0], s.open(t, content), "page %d", page)
	}
	require.Equal(t, columns[0], s.open(t, all))
	for n := 0; n < len(copied); n += 7 {
		content := bytes.Clone(s.content)
		flip(content, copied[n])
		require.Equal(t, columns[0], s.open(t, content))
	}
}
