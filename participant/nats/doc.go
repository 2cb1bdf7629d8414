// Package nats lets messages to a JetStream stream take part in transactions: they
// are published at commit, all of them at once, or never.
//
//	outbox, err := nats.New(nats.Config{Name: "outbox", JetStream: js, Stream: "ORDERS"})
//	...
//	session, err := outbox.Join(ctx, tx)
//	err = session.Publish("orders.paid", nil, order)
//
// A session keeps the messages in memory. Prepare stores them, as one message on the
// subject of the branch, in a stream of the participant's own, the staging stream.
// Commit publishes them to the stream as one atomic batch whose first message is the
// branch's marker, and then removes what was staged. A marker says that a branch is
// committed or rolled back, and whoever writes one expects that there is none: so the
// stream itself decides between a Commit and whatever comes after it, twice, late, or
// from another process. Rollback writes a marker, too. It refuses a late Prepare, and
// a batch that is still on its way.
//
// # What the server needs
//
// NATS 2.12 or later, and a stream in files that allows atomic batches, message TTLs
// and roll-ups and has the subjects of the markers beside its own:
//
//	nats stream add ORDERS --subjects 'orders.>,assent.outbox.branch.>' --storage file --allow-batch --allow-msg-ttl --allow-rollup
//
// Its limits must not remove a marker before Config.MaxRetention is over. Consumers
// should filter by subject, or skip the markers. The staging stream is created by
// Check or Join unless it is there. [Participant.Check] names whatever is not as it
// has to be.
//
// Before version 2.12 a server publishes message by message; no marker can tell then
// whether all were. Such a server is refused.
//
// # Durability
//
// By default a NATS server writes to its disk every two minutes: what it acknowledged
// survives kill -9, but no power cut. Set "sync_interval: always" in the server's
// jetstream block. A client can't see the setting; with Config.MonitorURLs Check asks
// the servers' monitoring endpoints, and it warns of whatever is not certain.
//
// # What the server keeps
//
// On the subjects "assent.outbox.branch.>" of the stream, for a participant named
// outbox, a marker for each finished branch: for Config.Retention after Forget, and for
// Config.MaxRetention after the last one of its term without it. In the staging stream
// what is prepared, on "assent.outbox.staged.>", and the highest transaction of each
// term (R10), on "assent.outbox.term.>".
//
// # Limits
//
// One branch has one stream, up to 999 messages, and as many bytes as fit one message
// of the server, 1 MiB if its max_payload is as it comes; a subject has up to 2048. A
// stream that refuses new messages when it is full holds a commit up until there is
// room. Headers that begin with Nats- are the server's: what they ask for could fail at
// commit. A batch costs the server a directory and several files, some 10 ms; at most 32
// of a process are under way at a time, of the 50 that a stream takes.
//
// Tested with NATS 2.15, one replica.
package nats
