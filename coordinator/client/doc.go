// Package client is a transaction manager that runs elsewhere: a [Client] has the
// methods and the errors of an embedded [coordinator.DTM], and asks Assent's standalone
// server for each. Both are a [coordinator.Manager].
//
// What is lost with a connection is asked again: every call can be repeated. Begin and
// Submit have a request id for that, made by the client unless the caller gives one.
// Commit and Submit ask until there is an answer or their context ends; then the outcome
// is unknown ([coordinator.ErrOutcomeUnknown]), never "rolled back".
//
// [Client.ServeParticipant] lets a participant of this process take part, over a stream
// that the client opens. Together they make adapters work with a remote coordinator as
// they do with an embedded one: the postgres package's Join, say, enlists a branch whose
// session is in this process, and that is where the server's calls about it come.
package client
