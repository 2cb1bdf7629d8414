package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"go.uber.org/zap"
)

// withoutCopy makes a log ready that there is no space to copy: full says so.
func withoutCopy(path string, s summary, full error, logger *zap.Logger) error {
	switch {
	case s.unfit:
		return explainFull(path, full)
	case s.closed:
		return nil // the copy was to save space only
	}
	if err := rewrite(path); err != nil {
		return fmt.Errorf("write log %s again in its place: %w", path, explainFull(path, err))
	}
	logger.Warn("log was not closed cleanly, and there is no space to copy it: it was written again in its place", zap.String("path", path))
	return nil
}

// rewrite makes an unclean log safe to go on with where it is. Each page in use is
// read once more, compared with what was checked, written back and fsynced. This
// keeps R5 as a copy does:
//
//   - What is read later is on disk. A page that a failed fsync left in the page
//     cache only, marked clean, is made dirty again; this time it reaches the disk,
//     or Open fails and nothing of it is told.
//   - A crash at any moment leaves a log to which the same happens again. Where the
//     disk has the page, its bytes do not change. Where it has an older one, that is
//     a page of the last commit, which nobody was told of: while its meta page isn't
//     on disk, the commit before it holds, and that shares none of these pages. So
//     the meta pages go last, after an fsync, as in a commit.
//   - No new block is needed: pages in use have theirs, or get them first.
//
// It trusts that each byte of a torn write is the old one or the new one. A copy need
// not, as it overwrites nothing: so this is done only where none can be made.
func rewrite(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = rewritePages(blockFile{f}, info.Size())
	}
	return errors.Join(err, f.Close())
}

// pages is a file that can be written again in its place.
type pages interface {
	io.ReaderAt
	io.WriterAt
	Name() string
	Sync() error
	// Allocate gives what lies there blocks of the disk.
	Allocate(low, high int64) error
}

type blockFile struct{ *os.File }

// Allocate implements pages.
func (f blockFile) Allocate(low, high int64) error {
	if err := allocate(f.File, low, high); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil // then writing tells
}

func rewritePages(f pages, size int64) error {
	checked := &checksums{file: f, sums: map[int64]uint32{}}
	im, err := openImage(checked, size)
	if err != nil {
		return explain(f.Name(), err)
	}
	checked.pageSize = im.pageSize
	s, err := im.inspect()
	if err != nil {
		return explain(f.Name(), err)
	}
	page := make([]byte, im.pageSize)
	for number, used := range im.seen {
		if !used {
			continue
		}
		if err := checked.writeBack(int64(number), page); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := rewriteMeta(im, f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil || !s.proven {
		return err
	}
	if err := wipe(im, f); err != nil {
		return err
	}
	return f.Sync()
}

// wipe clears every page that is not in use. With SingleSync the file may hold pages
// of a commit that was never made; a later chunk can get the key of one of theirs,
// and no proof would tell the two apart.
func wipe(im *image, f pages) error {
	page, zero := make([]byte, im.pageSize), make([]byte, im.pageSize)
	for number := int64(2); (number+1)*im.pageSize <= im.size; number++ {
		if number < int64(len(im.seen)) && im.seen[number] {
			continue
		}
		if _, err := f.ReadAt(page, number*im.pageSize); err != nil {
			return err
		}
		if bytes.Equal(page, zero) {
			continue // it may have no block
		}
		if _, err := f.WriteAt(zero, number*im.pageSize); err != nil {
			return err
		}
	}
	return nil
}

// rewriteMeta writes both meta pages back, if they still say what was examined.
func rewriteMeta(im *image, f pages) error {
	both := make([]byte, 2*im.pageSize)
	if _, err := f.ReadAt(both, 0); err != nil {
		return err
	}
	again := &image{file: bytes.NewReader(both), size: int64(len(both)), pageSize: im.pageSize}
	m0, err0 := again.readMeta(0)
	m1, err1 := again.readMeta(1)
	if err := errors.Join(err0, err1); err != nil {
		return explain(f.Name(), err)
	}
	if m0 != im.meta && m1 != im.meta {
		return explain(f.Name(), errors.New("meta pages read differently a second time"))
	}
	_, err := f.WriteAt(both, 0)
	return err
}

// checksums reads a file for its examination and keeps the checksum of each page
// that is read whole: what is written back is to be what was examined.
type checksums struct {
	file     pages
	pageSize int64 // 0 until it is known
	sums     map[int64]uint32
}

var _ io.ReaderAt = (*checksums)(nil)

// ReadAt implements io.ReaderAt.
func (c *checksums) ReadAt(b []byte, offset int64) (int, error) {
	n, err := c.file.ReadAt(b, offset)
	if err != nil || c.pageSize == 0 || offset%c.pageSize != 0 {
		return n, err
	}
	for at := int64(0); at+c.pageSize <= int64(n); at += c.pageSize {
		c.sums[(offset+at)/c.pageSize] = crc32.Checksum(b[at:at+c.pageSize], castagnoli)
	}
	return n, nil
}

// writeBack writes a page as it was examined.
func (c *checksums) writeBack(number int64, page []byte) error {
	offset := number * c.pageSize
	if _, err := c.file.ReadAt(page, offset); err != nil {
		return err
	}
	if sum, examined := c.sums[number]; !examined || sum != crc32.Checksum(page, castagnoli) {
		return explain(c.file.Name(), fmt.Errorf("page %d reads differently a second time", number))
	}
	// Behind a hole there is no block yet: then it is taken, or refused, here.
	if err := c.file.Allocate(offset, offset+c.pageSize); err != nil {
		return err
	}
	_, err := c.file.WriteAt(page, offset)
	return err
}
