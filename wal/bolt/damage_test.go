package bolt

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/assent-tm/assent/wal"
)

// openBytes opens a file with this content.
func openBytes(t *testing.T, content []byte) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	s, err := Open(path, smallMap)
	if err == nil {
		require.NoError(t, s.Close())
		return nil
	}
	require.ErrorContains(t, err, path)
	after, readErr := os.ReadFile(path)
	require.NoError(t, readErr)
	require.Equal(t, content, after, "a log that wasn't opened was changed")
	return err
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return content
}

// Two buckets that share a page: bbolt would free it with one of them.
func TestPageInUseTwiceIsRefused(t *testing.T) {
	path, _ := written(t)
	content := read(t, path)
	im, err := openImage(bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	buckets, err := im.buckets()
	require.NoError(t, err)
	log := buckets[0]
	require.NoError(t, im.each(log, func(item) error { return nil }))
	require.ErrorContains(t, im.each(log, func(item) error { return nil }), "referred to twice")
}

func TestACutOffFileIsRefused(t *testing.T) {
	path, _ := written(t)
	content := read(t, path)
	im, err := openImage(bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	page := os.Getpagesize()
	used := int(im.meta.highWater) * page
	for _, size := range []int{0, 1, 15, 16, 79, 80, page - 1, page, page + 1, page + 79, page + 80, 2*page - 1, 2 * page, used - page, used - 1} {
		err := openBytes(t, content[:size])
		require.ErrorIsf(t, err, wal.ErrDamaged, "%d bytes", size)
		require.ErrorContains(t, err, "cut off")
		if size > 2*page {
			require.ErrorContains(t, err, "in use") // found before any page is read
		}
	}
	require.NoError(t, openBytes(t, content[:used]))
}

func TestForeignFilesAreRefused(t *testing.T) {
	for _, n := range []int{3, 9, 10, 11, 2000} {
		require.ErrorIs(t, openBytes(t, bytes.Repeat([]byte("a text. "), n)), wal.ErrForeign)
	}

	path := filepath.Join(t.TempDir(), "other")
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.ErrorIs(t, openBytes(t, read(t, path)), wal.ErrForeign)

	for _, name := range []string{"jobs", "meta"} {
		db, err = bbolt.Open(path, 0o600, nil)
		require.NoError(t, err)
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			return bucket.Put([]byte("key"), []byte("value"))
		}))
		require.NoError(t, db.Close())
		require.ErrorIs(t, openBytes(t, read(t, path)), wal.ErrForeign)
	}

	_, err = Open(t.TempDir(), nil)
	require.ErrorIs(t, err, wal.ErrForeign)
}

func TestNewerFormatsAreRefused(t *testing.T) {
	path, _ := written(t)
	content := read(t, path)
	for _, pages := range [][]int{{0}, {1}, {0, 1}} {
		newer := bytes.Clone(content)
		for _, page := range pages {
			meta := newer[page*os.Getpagesize()+pageHeaderSize:][:metaSize]
			binary.NativeEndian.PutUint32(meta[4:], boltVersion+1)
			sum := fnv.New64a()
			_, _ = sum.Write(meta[:metaSize-8])
			binary.NativeEndian.PutUint64(meta[metaSize-8:], sum.Sum64())
		}
		require.ErrorIs(t, openBytes(t, newer), wal.ErrNewer)
	}

	edit(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Put(formatKey, formatValue(format+1))
	})
	err := openBytes(t, read(t, path))
	require.ErrorIs(t, err, wal.ErrNewer)
	require.ErrorContains(t, err, "format 2")
}

// edit changes a log behind our back.
func edit(t *testing.T, path string, fn func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true})
	require.NoError(t, err)
	require.NoError(t, db.Update(fn))
	require.NoError(t, db.Close())
}

// Files that bbolt finds nothing wrong with.
func TestMissingPartsAreDamage(t *testing.T) {
	term := func(p wal.Stream) []byte { return termKey(p.Term()) }
	key := func(p wal.Stream, seq uint64, chunk uint32) []byte {
		return chunkKey{term: p.Term(), seq: seq, chunk: chunk}.append(nil)
	}
	remove := func(bucket []byte, key func(wal.Stream) []byte) func(*bbolt.Tx, wal.Stream) error {
		return func(tx *bbolt.Tx, p wal.Stream) error {
			if tx.Bucket(bucket).Get(key(p)) == nil {
				t.Fatalf("%q holds no %x", bucket, key(p))
			}
			return tx.Bucket(bucket).Delete(key(p))
		}
	}
	for name, change := range map[string]func(*bbolt.Tx, wal.Stream) error{
		"first chunk":   remove(logBucket, func(p wal.Stream) []byte { return key(p, 4, 0) }),
		"last chunk":    remove(logBucket, func(p wal.Stream) []byte { return key(p, 4, 1) }),
		"first segment": func(tx *bbolt.Tx, p wal.Stream) error { return deleteSegments(tx.Bucket(logBucket), p.Term(), 3, 4) },
		"segment":       func(tx *bbolt.Tx, p wal.Stream) error { return deleteSegments(tx.Bucket(logBucket), p.Term(), 4, 5) },
		"last segment":  func(tx *bbolt.Tx, p wal.Stream) error { return deleteSegments(tx.Bucket(logBucket), p.Term(), 6, 7) },
		"all segments":  func(tx *bbolt.Tx, p wal.Stream) error { return deleteSegments(tx.Bucket(logBucket), p.Term(), 3, 7) },
		"entry":         remove(termsBucket, term),
		"counters":      remove(metaBucket, func(wal.Stream) []byte { return countersKey }),
		"identity":      remove(metaBucket, func(wal.Stream) []byte { return createdKey }),
		"terms":         func(tx *bbolt.Tx, _ wal.Stream) error { return tx.DeleteBucket(termsBucket) },
		"log":           func(tx *bbolt.Tx, _ wal.Stream) error { return tx.DeleteBucket(logBucket) },
		"old counters": func(tx *bbolt.Tx, _ wal.Stream) error {
			return tx.Bucket(metaBucket).Put(countersKey, counters{terms: 1, epoch: 1}.value())
		},
		"dropped segment is back": func(tx *bbolt.Tx, p wal.Stream) error {
			return tx.Bucket(logBucket).Put(key(p, 2, 0), appendChunk(nil, key(p, 2, 0), 0, []byte("x")))
		},
		"bucket in a bucket": func(tx *bbolt.Tx, _ wal.Stream) error {
			_, err := tx.Bucket(logBucket).CreateBucket([]byte("b"))
			return err
		},
		"bucket more": func(tx *bbolt.Tx, _ wal.Stream) error {
			_, err := tx.CreateBucket([]byte("b"))
			return err
		},
		"mark": func(tx *bbolt.Tx, _ wal.Stream) error { return tx.Bucket(metaBucket).Put(closedKey, []byte("yes")) },
	} {
		t.Run(name, func(t *testing.T) {
			path, first := written(t)
			edit(t, path, func(tx *bbolt.Tx) error { return change(tx, first) })
			require.ErrorIs(t, openBytes(t, read(t, path)), wal.ErrDamaged)
		})
	}
}

// What is damaged while the log is open is found by Scan.
func TestScanFindsDamage(t *testing.T) {
	for name, change := range map[string]func(*bbolt.Bucket, wal.Stream) error{
		"segment":      func(b *bbolt.Bucket, p wal.Stream) error { return deleteSegments(b, p.Term(), 2, 3) },
		"last segment": func(b *bbolt.Bucket, p wal.Stream) error { return deleteSegments(b, p.Term(), 3, 4) },
		"chunk": func(b *bbolt.Bucket, p wal.Stream) error {
			return b.Delete(chunkKey{term: p.Term(), seq: 2, chunk: 1}.append(nil))
		},
		"bit": func(b *bbolt.Bucket, p wal.Stream) error {
			key := chunkKey{term: p.Term(), seq: 2, chunk: 1}.append(nil)
			value := bytes.Clone(b.Get(key))
			value[len(value)-1] ^= 1
			return b.Put(key, value)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), "log"))
			stream := openTerm(t, s)
			for seq := uint64(1); seq <= 3; seq++ {
				appendTo(t, stream, seq)
			}
			require.NoError(t, s.update("damage", func(tx *bbolt.Tx) error { return change(tx.Bucket(logBucket), stream) }))
			require.ErrorIs(t, s.Scan(t.Context(), stream.Term(), func(uint64, []byte) error { return nil }), wal.ErrDamaged)
			require.NoError(t, s.Close())
		})
	}
}

// FuzzImage: no file makes the check panic, run on or take memory beyond its size.
func FuzzImage(f *testing.F) {
	f.Add([]byte{}, uint32(0), uint64(0))
	f.Add([]byte("some text"), uint32(4096+10), uint64(1)<<63)
	whole := fuzzSeed(f)
	f.Fuzz(func(t *testing.T, patch []byte, at uint32, number uint64) {
		content := bytes.Clone(whole)
		at %= uint32(len(content))
		copy(content[at:], patch)
		copy(content[at/8*8:], binary.NativeEndian.AppendUint64(nil, number))
		for page := range 2 { // let damage get past the meta pages' checksums
			meta := content[page*os.Getpagesize()+pageHeaderSize:][:metaSize]
			sum := fnv.New64a()
			_, _ = sum.Write(meta[:metaSize-8])
			binary.NativeEndian.PutUint64(meta[metaSize-8:], sum.Sum64())
		}
		for _, content := range [][]byte{content, patch} {
			im, err := openImage(bytes.NewReader(content), int64(len(content)))
			if err == nil {
				_, err = im.inspect()
			}
			_ = err // any answer will do
		}
	})
}

func fuzzSeed(f *testing.F) []byte {
	path := filepath.Join(f.TempDir(), "log")
	s, err := Open(path, smallMap)
	require.NoError(f, err)
	_, err = s.Open(f.Context(), "owner")
	require.NoError(f, err)
	require.NoError(f, s.Close())
	content, err := os.ReadFile(path)
	require.NoError(f, err)
	return content[:min(len(content), 16*os.Getpagesize())]
}

// FuzzValues: what is read is what was written, or refused.
func FuzzValues(f *testing.F) {
	f.Add(termKey(1), entry{epoch: 1, low: 2, high: 3, owner: "o"}.value(termKey(1)))
	f.Add(countersKey, counters{1, 2}.value())
	f.Add(formatKey, formatValue(1))
	key := chunkKey{term: 1 << 33, seq: 1}.append(nil)
	f.Add(key, appendChunk(nil, key, 1, []byte("frames")))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		for _, value := range [][]byte{value, sealed(key, value...)} {
			if e, err := parseEntry(key, value); err == nil {
				require.Equal(t, value, e.value(key))
			}
			if c, err := parseCounters(value); err == nil {
				require.Equal(t, value, c.value())
			}
			if version, ok := parseFormat(value); ok {
				require.Equal(t, value, formatValue(version))
			}
			var chunks sequence
			if _, err := chunks.next(key, value); err == nil {
				require.Equal(t, key, chunks.key.append(nil))
			}
			if term, err := parseTermKey(key); err == nil {
				require.Equal(t, key, termKey(term))
			}
		}
	})
}
