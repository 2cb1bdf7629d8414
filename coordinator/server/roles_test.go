package server

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// participantService is what participants serve, not the server.
const participantService = "assent.v1.ParticipantService"

func TestEveryProcedureHasARole(t *testing.T) {
	known := map[string]bool{eventsPattern: true}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if file.Package() != "assent.v1" {
			return true
		}
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			if service.FullName() == participantService {
				continue
			}
			for m := range service.Methods().Len() {
				known["/"+string(service.FullName())+"/"+string(service.Methods().Get(m).Name())] = true
			}
		}
		return true
	})
	require.Greater(t, len(known), 15)
	s := &Server{}
	for spec := range s.rpcs().Specs() {
		known[spec.Procedure] = true
	}
	for spec := range s.adminRPCs().Specs() {
		known[spec.Procedure] = true
	}
	for procedure := range known {
		_, listed := roles[procedure]
		require.True(t, listed, "%s has no role: nobody may call it", procedure)
	}
	for procedure := range roles {
		require.True(t, known[procedure], "%s has a role, and is not served", procedure)
	}
}

func TestRolesAreReadAsTheyAreWritten(t *testing.T) {
	for role := RoleClient; role <= RoleAdmin; role++ {
		text, err := role.MarshalText()
		require.NoError(t, err)
		var back Role
		require.NoError(t, back.UnmarshalText(text))
		require.Equal(t, role, back)
	}
	var r Role
	require.Error(t, r.UnmarshalText([]byte("")))
	require.Error(t, r.UnmarshalText([]byte("Admin")))
	_, err := Role(0).MarshalText()
	require.Error(t, err)
}
