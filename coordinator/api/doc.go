// Package api holds the API of the standalone server as protocol buffers, and the Go
// code that is generated from them (`make generate`):
//
//   - assent/v1/transaction.proto: what those who make transactions call, and the
//     details of errors
//   - assent/v1/participant.proto: what those who take part implement
//   - assent/v1/admin.proto: what operators call
//   - assent/health/v1: the messages of gRPC's health protocol
//
// Field names are frozen in JSON, too: lint compares with what was released, in
// testdata/api (`make released`).
package api

// AdmittedHeader is a response header of a Session whose caller was admitted: what the
// stream ends with later, though it is UNAUTHENTICATED, is no answer to requests.
const AdmittedHeader = "Assent-Admitted"
