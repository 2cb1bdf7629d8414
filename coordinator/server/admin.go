package server

import "github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"

// admin is the AdminService.
type admin struct {
	assentv1connect.UnimplementedAdminServiceHandler
	s *Server
}

var _ assentv1connect.AdminServiceHandler = admin{}
