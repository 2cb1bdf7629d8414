// Package remote lets services take part in transactions that run in other processes,
// in any language.
//
// [NewHTTP] and [NewGRPC] return the coordinator's side: a participant whose calls go to
// a service over HTTP with JSON bodies, or over gRPC. [Handler] is the other side for
// services written in Go: it serves any [participant.Participant] over both. The HTTP
// contract is in openapi.yaml, the gRPC one is assent.v1.ParticipantService.
//
// [Hub] is the coordinator's side of services that no call can reach, [ServeStream] the
// side of their processes: they open a stream to the coordinator, get calls on it, many
// at a time, and answer there.
//
// What holds for all of them: only an explicit vote or state is an answer. Whatever else
// happens, a refused connection, a status other than 200, a body that can't be read, a
// value that nobody knows, is no answer: a vote is then unknown (R4), and a decision is
// not acknowledged and is told again (R6).
package remote
