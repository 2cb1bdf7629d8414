// Package waltest is for tests of what lies on a [wal.Store]. [Test] is the
// conformance suite that every driver passes; [Memory] a store without a disk
// that several coordinators can share and that survives their crashes; [Faulty]
// puts failures between a store and its caller.
package waltest
