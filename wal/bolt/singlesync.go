package bolt

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"go.etcd.io/bbolt"
)

// With SingleSync a commit's pages and its meta page are written in any order, and
// a power cut may leave any part of them. What makes that safe:
//
//   - Commit n writes only to pages that tree n-1 does not use, and to the meta
//     page of n-2: bbolt frees a page at the begin of the transaction after the one
//     that gave it up. So tree n-1 is whole until n is durable.
//   - n+1 begins after the sync of n has returned. So at most one commit is torn,
//     the last one, and nobody was told that it is durable.
//   - Every commit carries a proof. A tree that has the proof of its meta page's
//     transaction is that transaction's, however many pages of older trees the
//     disk holds.

// proofKey is in bucket meta of every tree of a SingleSync file, from its first
// commit on: a tree without it could be taken for a newer one's.
var proofKey = []byte("proof")

// proof is what a commit says of itself: its number, and the sum of all values but
// chunks. Chunks need none: none is ever written twice with other content, and which
// of them there are follows from the terms.
type proof struct {
	txid uint64
	sum  [sha256.Size]byte
}

func (p proof) value() []byte {
	return sealed(proofKey, append(binary.BigEndian.AppendUint64(nil, p.txid), p.sum[:]...)...)
}

func parseProof(value []byte) (proof, error) {
	content, err := unseal(proofKey, value)
	if err == nil && len(content) != 8+sha256.Size {
		err = fmt.Errorf("%d bytes", len(content))
	}
	if err != nil {
		return proof{}, fmt.Errorf("proof of the last commit: %w", err)
	}
	return proof{txid: binary.BigEndian.Uint64(content), sum: [sha256.Size]byte(content[8:])}, nil
}

// prover sums up items in the order of their keys, bucket meta before terms.
type prover struct{ sum hash.Hash }

func newProver() prover { return prover{sha256.New()} }

func (p prover) add(key, value []byte) {
	if bytes.Equal(key, proofKey) {
		return
	}
	var sizes [8]byte
	binary.BigEndian.PutUint32(sizes[:], uint32(len(key)))
	binary.BigEndian.PutUint32(sizes[4:], uint32(len(value)))
	for _, b := range [][]byte{sizes[:], key, value} {
		_, _ = p.sum.Write(b) // a hash's Write never fails
	}
}

func (p prover) proof(txid uint64) proof {
	return proof{txid: txid, sum: [sha256.Size]byte(p.sum.Sum(nil))}
}

// withProofs begins the file that write fills with a proof; every transaction on a
// file that has one renews it.
func withProofs(singleSync bool, write func(*bbolt.DB) error) func(*bbolt.DB) error {
	if !singleSync {
		return write
	}
	return func(db *bbolt.DB) error {
		if err := transact(db, prove); err != nil {
			return err
		}
		return write(db)
	}
}

func isProven(tx *bbolt.Tx) bool {
	meta := tx.Bucket(metaBucket)
	return meta != nil && meta.Get(proofKey) != nil
}

// prove adds the proof to a transaction that does nothing more.
func prove(tx *bbolt.Tx) error {
	p := newProver()
	for _, name := range [][]byte{metaBucket, termsBucket} {
		bucket, err := tx.CreateBucketIfNotExists(name) // a new file has none
		if err != nil {
			return err
		}
		err = bucket.ForEach(func(key, value []byte) error {
			p.add(key, value)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put(proofKey, p.proof(uint64(tx.ID())).value())
}

// proofCheck decides whether a tree with this proof is the commit's that was found.
type proofCheck func(says, found proof) error

// checkProof compares what the last commit says of itself with what was found.
func checkProof(says, found proof) error {
	switch {
	case says.txid != found.txid:
		return fmt.Errorf("tree of transaction %d under the meta page of %d", says.txid, found.txid)
	case says.sum != found.sum:
		return fmt.Errorf("tree of transaction %d isn't what was committed", says.txid)
	}
	return nil
}

// commit makes one durable transaction of a log in use.
func (d database) commit(fn func(*bbolt.Tx) error) error {
	if !d.once {
		return transact(d.DB, fn)
	}
	d.NoSync = true
	err := transact(d.DB, fn)
	d.NoSync = false
	if err != nil {
		return err
	}
	return d.Sync()
}

// examine checks everything in a log file and returns the image of what it holds:
// of the last commit, or of the one before if the last one is torn.
func examine(file io.ReaderAt, size int64, check proofCheck) (*image, summary, error) {
	im, s, err := examineAt(openImage, file, size, check)
	if err == nil || !mayBeTorn(err) {
		return im, s, err
	}
	older, s, olderErr := examineAt(openOlder, file, size, check)
	switch {
	case olderErr == nil && s.proven && !s.closed:
		s.torn = true
		return older, s, nil
	case !mayBeTorn(olderErr):
		return nil, summary{}, olderErr
	}
	return nil, summary{}, err
}

func examineAt(open func(io.ReaderAt, int64) (*image, error), file io.ReaderAt, size int64, check proofCheck) (*image, summary, error) {
	im, err := open(file, size)
	if err != nil {
		return nil, summary{}, err
	}
	im.checkProof = check
	s, err := im.inspect()
	return im, s, err
}

// mayBeTorn reports whether a fault of the last commit can be that of a torn one.
// What can't be read may be whole, and what a newer program wrote is for it to judge.
func mayBeTorn(fault error) bool {
	var unread *readError
	return !errors.As(fault, &unread) && !errors.Is(fault, errNewerBolt) && !errors.Is(fault, errNewerFormat)
}

// openOlder opens the image of the commit before the last one. A meta page that is
// damaged is then the last one's.
func openOlder(file io.ReaderAt, size int64) (*image, error) {
	im, err := newImage(file, size)
	if err != nil {
		return nil, err
	}
	m0, err0 := im.readMeta(0)
	m1, err1 := im.readMeta(1)
	older := m0
	switch {
	case !mayBeTorn(errors.Join(err0, err1)), err0 != nil && err1 != nil:
		return nil, errors.Join(err0, err1)
	case err0 != nil, err1 == nil && m1.txid < m0.txid:
		older = m1
	}
	if err := im.use(older); err != nil {
		return nil, err
	}
	return im, nil
}
