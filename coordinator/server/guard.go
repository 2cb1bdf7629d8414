package server

import (
	"net"
	"net/http"
	"net/netip"
)

// guarded keeps a server that asks nobody who he is to this machine's programs: not
// to others in the network, and not to web pages that a browser here shows, which
// reach it under a name of their own (DNS rebinding).
func (s *Server) guarded(next http.Handler) http.Handler {
	if s.config.Auth != nil || s.config.AllowInsecure {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !fromHere(r) {
			say(w, http.StatusForbidden, "only for programs on the server's own machine: it asks nobody who he is")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// fromHere reports whether a request came over loopback, or a Unix socket, and means
// this machine.
func fromHere(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return true // a Unix socket has no such address
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if host == "localhost" {
		return peer.Addr().Unmap().IsLoopback()
	}
	meant, err := netip.ParseAddr(host)
	return err == nil && meant.Unmap().IsLoopback() && peer.Addr().Unmap().IsLoopback()
}
