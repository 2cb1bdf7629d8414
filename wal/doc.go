// Package wal is the recovery log: it makes records durable and brings them back
// after a crash. It knows no protocol.
//
// It has two layers. A [Store] is a driver: the folder bolt holds the embedded
// default, waltest a suite for any driver and stores for tests. The segment layer
// in this package is written once for all of them: [Log] commits the records of
// all callers in groups, packs them into segments, drops segments that nothing
// needs any more, and at start takes over and replays what former coordinators
// left.
package wal
