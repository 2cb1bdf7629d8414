// Package wal is the recovery log: it makes records durable and brings them back
// after a crash. It knows no protocol.
//
// It has two layers. A [Store] is a driver: the folder bolt holds the embedded
// default, waltest a suite for any driver and stores for tests. The segment layer
// in this package is written once for all of them: [Log] commits the records of
// all callers in groups, packs them into segments, drops segments that nothing
// needs any more, and at start takes over and replays what former coordinators
// left.
//
// A term is a queue of segments; one append adds one and drops the oldest that
// nothing needs. A segment is a [record.Header], then records of any number of
// transactions:
//
//	Header     term, number, the highest id begun, the mark: the highest id
//	           forgotten; now and then the catalogue of all former terms, with what
//	           operators said of the log
//	Carried…   transactions moved here from segments that are dropped with this
//	           very append, or from terms that were taken over
//	records…   what the callers appended, in their order
//
// A transaction's records may lie in several segments and terms. A replay merges
// them, in whatever order it meets them (R9).
package wal
