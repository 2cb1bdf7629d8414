package bolt

import (
	"errors"
	"fmt"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
)

var (
	errNotLog      = errors.New("a bbolt file of another program")
	errNewerFormat = errors.New("written by a newer assent")
)

// summary is what Open wants to know of a file that is in order.
type summary struct {
	closed bool // the log was closed cleanly, and bbolt would read only pages that were checked
	unfit  bool // not to be written by bbolt as it is: it must be copied
	sparse bool // nearly all of a large file is free pages
	proven bool // every commit of the file carries a proof
	torn   bool // the last commit was torn: this is the one before
	// snapshot: it is a copy to be restored, not a log to be opened.
	snapshot bool
}

// check reads the whole log at path. An error Is wal.ErrDamaged, ErrNewer or
// ErrForeign, or says that the file couldn't be read.
func check(path string) (summary, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return summary{}, err
	}
	defer func() { _ = f.Close() }() // only read
	_, s, err := examine(f, size, checkProof)
	if err != nil {
		return summary{}, explain(path, err)
	}
	return s, nil
}

// explain turns what was found in a file into an error that says what to do.
func explain(path string, found error) error {
	var unread *readError
	switch {
	case errors.As(found, &unread):
		return fmt.Errorf("read log %s: %w", path, found)
	case errors.Is(found, errNewerBolt), errors.Is(found, errNewerFormat):
		return fmt.Errorf("%w: %s: %w; use that program", wal.ErrNewer, path, found)
	case errors.Is(found, errNotBolt), errors.Is(found, errNotLog):
		return fmt.Errorf("%w: %s: %w; name the right file, or one that does not exist to begin a new log", wal.ErrForeign, path, found)
	default:
		return fmt.Errorf("%w: %s: %w; keep the file, it may hold decisions: examine a copy with the bbolt tool; "+
			"if you must, put a backup in place with `assent log restore`, which has the coordinator wait until you have compared", wal.ErrDamaged, path, found)
	}
}

// inspect checks everything that a log file holds.
func (im *image) inspect() (summary, error) {
	buckets, err := im.buckets()
	if err != nil {
		return summary{}, err
	}
	byName := map[string]item{}
	for _, b := range buckets {
		byName[string(b.key)] = b
	}
	meta, err := im.inspectMeta(byName[string(metaBucket)])
	log, terms := byName[string(logBucket)], byName[string(termsBucket)]
	if errors.Is(err, errNotLog) && len(buckets) == 3 && log.bucket && terms.bucket {
		return summary{}, errors.New("root holds log and terms, but no meta") // nobody else's
	}
	if err != nil {
		return summary{}, err
	}
	if len(buckets) != 3 || !log.bucket || !terms.bucket {
		return summary{}, fmt.Errorf("root holds %d buckets, want log, meta and terms", len(buckets))
	}
	found, err := im.inspectLog(log)
	if err != nil {
		return summary{}, err
	}
	if err := im.inspectTerms(terms, meta, found); err != nil {
		return summary{}, err
	}
	if meta.proof != nil {
		if err := im.checkProof(*meta.proof, meta.found.proof(im.meta.txid)); err != nil {
			return summary{}, err
		}
	}
	return summary{
		closed: meta.closed && im.meta.freelist == noFreelist && !im.misled,
		unfit:  im.meta.freelist != noFreelist || im.misled,
		sparse: im.size > sparseSize && im.used*im.pageSize < im.size/4,
		proven: meta.proof != nil,

		snapshot: meta.snapshot,
	}, nil
}

// metaValues is what bucket meta says.
type metaValues struct {
	closed   bool
	snapshot bool
	highest  counters
	proof    *proof // nil if the file has none
	found    prover // of what was read so far
}

func (im *image) inspectMeta(bucket item) (metaValues, error) {
	if !bucket.bucket {
		return metaValues{}, errNotLog
	}
	m := metaValues{found: newProver()}
	values, unknown := map[string][]byte{}, 0
	err := im.each(bucket, func(it item) error {
		if it.bucket {
			unknown++
			return nil
		}
		switch string(it.key) {
		case string(formatKey), string(createdKey), string(countersKey), string(closedKey), string(snapshotKey), string(proofKey):
			values[string(it.key)] = append([]byte{}, it.value...)
			m.found.add(it.key, it.value)
		default:
			unknown++
		}
		return nil
	})
	if err != nil {
		return metaValues{}, err
	}
	if len(values) == 0 {
		return metaValues{}, errNotLog
	}
	// The version first: what it means is for this program to know only up to its own.
	version, ok := parseFormat(values[string(formatKey)])
	if !ok {
		return metaValues{}, fmt.Errorf("format is %x", values[string(formatKey)])
	}
	if version > format {
		return metaValues{}, fmt.Errorf("%w: format %d, this program knows up to %d", errNewerFormat, version, format)
	}
	if unknown > 0 {
		return metaValues{}, fmt.Errorf("%d unknown keys in bucket meta", unknown)
	}
	if m.highest, err = parseCounters(values[string(countersKey)]); err != nil {
		return metaValues{}, err
	}
	if _, err := unseal(createdKey, values[string(createdKey)]); err != nil {
		return metaValues{}, fmt.Errorf("identity: %w", err)
	}
	if m.snapshot, err = marked(values, snapshotKey); err != nil {
		return metaValues{}, err
	}
	if m.closed, err = marked(values, closedKey); err != nil {
		return metaValues{}, err
	}
	if value, ok := values[string(proofKey)]; ok {
		p, err := parseProof(value)
		if err != nil {
			return metaValues{}, err
		}
		m.proof = &p
	}
	return m, nil
}

// marked reports whether the mark is among the values of the meta bucket.
func marked(values map[string][]byte, mark []byte) (bool, error) {
	value, there := values[string(mark)]
	if !there {
		return false, nil
	}
	if _, err := unseal(mark, value); err != nil {
		return false, fmt.Errorf("mark %q: %w", mark, err)
	}
	return true, nil
}

// span is the segments a term has.
type span struct{ low, high uint64 }

func (im *image) inspectLog(bucket item) (map[participant.Term]span, error) {
	found := map[participant.Term]span{}
	var chunks sequence
	err := im.each(bucket, func(it item) error {
		if it.bucket {
			return fmt.Errorf("key %x is a bucket", it.key)
		}
		if _, err := chunks.next(it.key, it.value); err != nil {
			return err
		}
		k := chunks.key
		if _, ok := found[k.term]; !ok {
			found[k.term] = span{low: k.seq}
		}
		found[k.term] = span{found[k.term].low, k.seq}
		return nil
	})
	if err == nil {
		err = chunks.finish()
	}
	return found, err
}

func (im *image) inspectTerms(bucket item, meta metaValues, found map[participant.Term]span) error {
	err := im.each(bucket, func(it item) error {
		if it.bucket {
			return fmt.Errorf("key %x is a bucket", it.key)
		}
		term, err := parseTermKey(it.key)
		if err != nil {
			return err
		}
		e, err := parseEntry(it.key, it.value)
		if err != nil {
			return err
		}
		if term.Counter() > meta.highest.terms || e.epoch > meta.highest.epoch {
			return fmt.Errorf("term %s with epoch %d, after %d terms and epochs up to %d", term, e.epoch, meta.highest.terms, meta.highest.epoch)
		}
		meta.found.add(it.key, it.value)
		has, ok := found[term]
		if !ok {
			has = span{low: e.high + 1, high: e.high}
		}
		if e.low != has.low || e.high != has.high {
			return fmt.Errorf("term %s has segments %d to %d, where it should have %d to %d", term, has.low, has.high, e.low, e.high)
		}
		delete(found, term)
		return nil
	})
	if err != nil {
		return err
	}
	for term, has := range found {
		return fmt.Errorf("segments %d to %d are of term %s, which the log does not know", has.low, has.high, term)
	}
	return nil
}
