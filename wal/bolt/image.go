package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
)

// The parts of bbolt's file format, version 2, that reading needs.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeaderSize = 16 // id 8, flags 2, count 2, overflow 4
	elementSize    = 16 // leaf: flags 4, pos 4, key size 4, value size 4; branch: pos 4, key size 4, page 8
	bucketSize     = 16 // root page 8, sequence 8
	metaSize       = 64
	minPage        = 1 << 10
	maxPage        = 1 << 16

	branchPage = 0x01
	leafPage   = 0x02
	metaPage   = 0x04

	bucketElement = 0x01
	noFreelist    = ^uint64(0)

	maxDepth = 32 // of a tree: far more pages than a file can have
)

var (
	errNotBolt   = errors.New("not a bbolt file")
	errNewerBolt = errors.New("written by a newer bbolt")
)

// image reads a bbolt file without mapping it and without believing it: whatever
// the bytes are, the answer is an error, never a fault. bbolt writes numbers in the
// machine's byte order.
type image struct {
	file     io.ReaderAt
	size     int64
	pageSize int64
	meta     meta   // of the commit to read
	seen     []bool // by page: reached from the root
	used     int64  // how many were reached

	checkProof proofCheck
	// misled says that a branch page names another key than its child begins with.
	// It reads well, but bbolt would lose its way when it writes.
	misled bool
}

type meta struct {
	root, freelist, highWater, txid uint64
}

// openImage checks both meta pages. One that is damaged is an error, too: bbolt
// would fall back to the other one, and with it to the commit before the last.
func openImage(file io.ReaderAt, size int64) (*image, error) {
	im, err := newImage(file, size)
	if err != nil {
		return nil, err
	}
	m0, err0 := im.readMeta(0)
	m1, err1 := im.readMeta(1)
	if err := joinMeta(err0, err1); err != nil {
		return nil, err
	}
	newest := m0
	if m1.txid > m0.txid {
		newest = m1
	}
	if err := im.use(newest); err != nil {
		return nil, err
	}
	return im, nil
}

// newImage finds out the size of pages.
func newImage(file io.ReaderAt, size int64) (*image, error) {
	im := &image{file: file, size: size, checkProof: checkProof}
	head := make([]byte, min(size, pageHeaderSize+metaSize))
	if err := im.read(head, 0); err != nil {
		return nil, err
	}
	foreign := len(head) >= pageHeaderSize+4 && binary.NativeEndian.Uint32(head[pageHeaderSize:]) != boltMagic
	if len(head) < pageHeaderSize+metaSize && !foreign {
		return nil, fmt.Errorf("file of %d bytes: cut off", size)
	}
	if len(head) == pageHeaderSize+metaSize {
		im.pageSize = int64(binary.NativeEndian.Uint32(head[pageHeaderSize+8:]))
	}
	plausible := im.pageSize >= minPage && im.pageSize <= maxPage && im.pageSize&(im.pageSize-1) == 0
	switch {
	case !plausible && foreign && !im.hasSecondMeta():
		return nil, errNotBolt
	case !plausible:
		return nil, fmt.Errorf("meta page 0: page size %d", im.pageSize)
	}
	return im, nil
}

// use makes im the image of the commit that the meta page is of.
func (im *image) use(m meta) error {
	if int64(m.highWater) > im.size/im.pageSize {
		return fmt.Errorf("file of %d bytes, where %d pages of %d bytes are in use: cut off", im.size, m.highWater, im.pageSize)
	}
	im.meta, im.seen, im.used = m, make([]bool, m.highWater), 0
	return nil
}

// hasSecondMeta reports whether meta page 1 is there, whatever the size of pages: then
// page 0 is damaged, and the file not foreign.
func (im *image) hasSecondMeta() bool {
	for size := int64(minPage); size <= maxPage; size *= 2 {
		second := *im
		second.pageSize = size
		if _, err := second.readMeta(1); err == nil {
			return true
		}
	}
	return false
}

// joinMeta says what the faults of the two meta pages make of the file.
func joinMeta(err0, err1 error) error {
	err := errors.Join(err0, err1)
	if errors.Is(err0, errNotBolt) == errors.Is(err1, errNotBolt) || errors.Is(err, errNewerBolt) {
		return err
	}
	// One page of bbolt's is enough to tell that it is damaged, not foreign.
	return errors.New(err.Error())
}

func (im *image) readMeta(number uint64) (meta, error) {
	page := make([]byte, pageHeaderSize+metaSize)
	if err := im.read(page, int64(number)*im.pageSize); err != nil {
		return meta{}, fmt.Errorf("meta page %d: %w", number, err)
	}
	u16, u32, u64 := binary.NativeEndian.Uint16, binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	b := page[pageHeaderSize:]
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSize-8]) // a hash's Write never fails
	intact := u64(b[metaSize-8:]) == sum.Sum64()
	m := meta{root: u64(b[16:]), freelist: u64(b[32:]), highWater: u64(b[40:]), txid: u64(b[48:])}
	switch {
	case u32(b) != boltMagic:
		return meta{}, fmt.Errorf("meta page %d: %w", number, errNotBolt)
	case intact && u32(b[4:]) > boltVersion:
		return meta{}, fmt.Errorf("meta page %d: %w: version %d", number, errNewerBolt, u32(b[4:]))
	case !intact:
		return meta{}, fmt.Errorf("meta page %d: %w", number, errChecksum)
	case u64(page) != number || u16(page[8:]) != metaPage || u16(page[10:]) != 0 || u32(page[12:]) != 0:
		return meta{}, fmt.Errorf("meta page %d: header %x", number, page[:pageHeaderSize])
	case u32(b[4:]) != boltVersion || int64(u32(b[8:])) != im.pageSize || m.txid%2 != number ||
		m.root < 2 || m.root >= m.highWater || m.highWater > uint64(1)<<47:
		return meta{}, fmt.Errorf("meta page %d: impossible content %x", number, b)
	}
	return m, nil
}

// read fills b, or fails.
func (im *image) read(b []byte, offset int64) error {
	if offset+int64(len(b)) > im.size {
		return fmt.Errorf("bytes %d to %d of %d: cut off", offset, offset+int64(len(b)), im.size)
	}
	if _, err := im.file.ReadAt(b, offset); err != nil {
		return &readError{err}
	}
	return nil
}

// readError is a failure to read, which says nothing about what is stored.
type readError struct{ error }

func (e *readError) Unwrap() error { return e.error }

// item is a key with its value, or with the bucket it names.
type item struct {
	key, value []byte
	bucket     bool
}

// buckets returns what lies in the root.
func (im *image) buckets() ([]item, error) {
	var items []item
	err := im.walk(im.meta.root, func(it item) error {
		items = append(items, item{slices.Clone(it.key), slices.Clone(it.value), it.bucket})
		return nil
	})
	return items, err
}

// each calls fn with the items of a bucket in the order of their keys. fn must not
// keep them.
func (im *image) each(bucket item, fn func(item) error) error {
	if len(bucket.value) < bucketSize {
		return fmt.Errorf("bucket %q: %d bytes", bucket.key, len(bucket.value))
	}
	var err error
	if root := binary.NativeEndian.Uint64(bucket.value); root != 0 {
		if len(bucket.value) > bucketSize {
			return fmt.Errorf("bucket %q: %d bytes", bucket.key, len(bucket.value))
		}
		err = im.walk(root, fn)
	} else {
		// A small bucket lies within its parent's page.
		w := walker{image: im, fn: fn}
		err = w.leaf(bucket.value[bucketSize:], bounds{})
	}
	if err != nil {
		return fmt.Errorf("bucket %q: %w", bucket.key, err)
	}
	return nil
}

func (im *image) walk(root uint64, fn func(item) error) error {
	w := walker{image: im, fn: fn}
	return w.page(root, 0, bounds{})
}

// walker goes through one tree.
type walker struct {
	*image
	fn   func(item) error
	last []byte // key; nil before the first
	buf  []byte // the page at hand
}

// bounds are the keys a page may hold: from low on, below high. nil is no bound.
type bounds struct{ low, high []byte }

func (b bounds) hold(key []byte) bool {
	return bytes.Compare(key, b.low) >= 0 && (b.high == nil || bytes.Compare(key, b.high) < 0)
}

func (w *walker) page(id uint64, depth int, keys bounds) error {
	if id < 2 || id >= w.meta.highWater || depth > maxDepth {
		return fmt.Errorf("page %d at depth %d of %d pages", id, depth, w.meta.highWater)
	}
	w.buf = slices.Grow(w.buf[:0], int(w.pageSize))[:w.pageSize]
	if err := w.read(w.buf, int64(id)*w.pageSize); err != nil {
		return err
	}
	header := w.buf[:pageHeaderSize]
	overflow := uint64(binary.NativeEndian.Uint32(header[12:]))
	if binary.NativeEndian.Uint64(header) != id || overflow >= w.meta.highWater-id {
		return fmt.Errorf("page %d: header %x", id, header)
	}
	for p := id; p <= id+overflow; p++ {
		if w.seen[p] {
			return fmt.Errorf("page %d: referred to twice", p)
		}
		w.seen[p] = true
		w.used++
	}
	if overflow > 0 {
		size := int(overflow+1) * int(w.pageSize)
		w.buf = slices.Grow(w.buf, size-len(w.buf))[:size]
		if err := w.read(w.buf[w.pageSize:], int64(id+1)*w.pageSize); err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
	}
	var err error
	switch flags := binary.NativeEndian.Uint16(w.buf[8:]); flags {
	case branchPage:
		return w.branch(id, bytes.Clone(w.buf), depth, keys)
	case leafPage:
		err = w.leaf(w.buf, keys)
	default:
		err = fmt.Errorf("flags %x", flags)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (w *walker) branch(id uint64, page []byte, depth int, keys bounds) error {
	count := int(binary.NativeEndian.Uint16(page[10:]))
	if count == 0 || pageHeaderSize+count*elementSize > len(page) {
		return fmt.Errorf("page %d: %d elements", id, count)
	}
	next := pageHeaderSize + count*elementSize
	separators, children := make([][]byte, count+1), make([]uint64, count)
	for i := range count {
		at := pageHeaderSize + i*elementSize
		pos, keySize := number32(page[at:]), number32(page[at+4:])
		if at+pos != next || pos+keySize > len(page)-at {
			return fmt.Errorf("page %d: element %d of %d bytes at %d", id, i, keySize, pos)
		}
		next += keySize
		separators[i] = page[at+pos : at+pos+keySize]
		children[i] = binary.NativeEndian.Uint64(page[at+8:])
		if !keys.hold(separators[i]) || (i > 0 && bytes.Compare(separators[i-1], separators[i]) >= 0) {
			return fmt.Errorf("page %d: key %x out of order", id, separators[i])
		}
	}
	if err := w.fills(page, next); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	separators[count] = keys.high
	w.follows(keys.low, separators[0])
	for i, child := range children {
		if err := w.page(child, depth+1, bounds{separators[i], separators[i+1]}); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) leaf(page []byte, keys bounds) error {
	if len(page) < pageHeaderSize || binary.NativeEndian.Uint16(page[8:]) != leafPage {
		return fmt.Errorf("no leaf: %x", page[:min(len(page), pageHeaderSize)])
	}
	count := int(binary.NativeEndian.Uint16(page[10:]))
	if pageHeaderSize+count*elementSize > len(page) {
		return fmt.Errorf("%d elements", count)
	}
	// bbolt writes the elements side by side, then what they point to in the same
	// order. Without this a lower count would hide the last ones.
	next := pageHeaderSize + count*elementSize
	for i := range count {
		at := pageHeaderSize + i*elementSize
		flags := binary.NativeEndian.Uint32(page[at:])
		pos, keySize, valueSize := number32(page[at+4:]), number32(page[at+8:]), number32(page[at+12:])
		if at+pos != next || pos+keySize+valueSize > len(page)-at || flags&^bucketElement != 0 {
			return fmt.Errorf("element %d of %d and %d bytes at %d", i, keySize, valueSize, pos)
		}
		next += keySize + valueSize
		key := page[at+pos : at+pos+keySize]
		value := page[at+pos+keySize : at+pos+keySize+valueSize]
		if !keys.hold(key) || (w.last != nil && bytes.Compare(w.last, key) >= 0) {
			return fmt.Errorf("key %x out of order", key)
		}
		if i == 0 {
			w.follows(keys.low, key)
		}
		w.last = append(w.last[:0], key...)
		if err := w.fn(item{key, value, flags == bucketElement}); err != nil {
			return err
		}
	}
	return w.fills(page, next)
}

// fills fails if what ends at next needs fewer pages than it has, or fewer bytes if
// it lies within another page.
func (w *walker) fills(page []byte, next int) error {
	within := len(page)%int(w.pageSize) != 0
	if next <= len(page)-int(w.pageSize) || within && next != len(page) {
		return fmt.Errorf("%d bytes in %d", next, len(page))
	}
	return nil
}

// follows notes if a page does not begin with the key its parent names; nil if it
// has no parent.
func (w *walker) follows(named, first []byte) {
	if named != nil && !bytes.Equal(named, first) {
		w.misled = true
	}
}

// number32 returns a length or position, cut so that the sum of three can't overflow.
func number32(b []byte) int {
	return int(min(binary.NativeEndian.Uint32(b), 1<<29))
}
