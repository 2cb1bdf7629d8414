// Package server gives a coordinator to programs in any language: transactions over
// gRPC, gRPC-Web and plain JSON on one port, events as Server-Sent Events, and what
// operators do on another. It is a thin layer: all it does an embedder can do with
// the [coordinator.DTM] itself.
//
//	s, err := server.New(server.Config{DTM: dtm})
//	err = s.Serve(ctx, server.Listener{Net: api, Handler: s.API()}, server.Listener{Net: admin, Handler: s.Admin()})
//
// A caller's deadline bounds how long it waits, not the transaction: that has a
// timeout of its own. Who hangs up changes nothing.
package server
