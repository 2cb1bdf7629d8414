// Package redis lets writes to a Redis server take part in transactions: XADD, SET,
// HSET and INCRBY, applied at commit, all at once.
//
//	orders, err := redis.New(redis.Config{Name: "orders", Client: client})
//	...
//	session, err := orders.Join(ctx, tx)
//	err = session.XAdd("orders", "id", "17", "state", "paid")
//	err = session.IncrBy("paid", 1)
//
// A session keeps the operations in memory. Prepare checks that the server can apply
// them and stores them there; Commit applies them and marks the branch, in one Lua
// script. Redis runs a script alone and writes what it did to its append-only file
// as one transaction: a crash leaves all of it or nothing. Nobody sees an operation
// before Commit, and nothing is locked in between: others may write the same keys. So
// SET and HSET overwrite what was written since Prepare, as any SET does, and INCRBY
// and XADD add to it.
//
// # What can go wrong after Prepare
//
// Redis does not undo a script that fails half way, so a script checks everything
// before it writes: the kind of value each key holds, whether a number overflows,
// whether the user may. Prepare refuses what can't be applied. If somebody gives a key
// another kind of value between Prepare and Commit, Commit applies nothing and returns
// [ErrKey] until that is put right, by renaming the key perhaps: the decision stands,
// and nothing gives up after it (R6). A server whose memory is used up refuses Prepare,
// and still commits and rolls back what is prepared.
//
// # What the server keeps
//
// All keys of a participant named orders begin with "assent:{orders}:orders:", where
// the braces hold Config.HashTag: the operations of prepared branches; what became of a
// branch, for Config.Retention after Forget and Config.MaxRetention without it, about
// 250 bytes; the highest transaction and the newest epoch of each term (R9, R10); and a
// random name of the database, by which it is told from another one behind the same
// address.
//
// # Limits
//
// Redis replicates asynchronously. A failover may lose what the former master has
// acknowledged: a prepared branch that is lost so is reported as a heuristic hazard,
// a lost commit is not noticed. [Participant.Check] warns when replicas are connected.
//
// On a Redis cluster all keys of a branch have to be in one slot, so each key must have
// the hash tag Config.HashTag, as in "stock{orders}".
//
// Tested with Redis 7.0. Needs 7.0 or later.
package redis
