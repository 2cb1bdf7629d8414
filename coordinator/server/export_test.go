package server

import "time"

// SetHeartbeat is for tests that wait for one.
func (s *Server) SetHeartbeat(d time.Duration) { s.heartbeat = d }
