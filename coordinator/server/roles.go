package server

import (
	"fmt"

	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
)

// Role is what a caller may do. Each includes those below it.
type Role uint8

const (
	// RoleClient makes transactions, and sees its own.
	RoleClient Role = 1 + iota
	// RoleViewer sees everybody's, and changes nothing of theirs.
	RoleViewer
	// RoleOperator retries, pauses and resolves.
	RoleOperator
	// RoleAdmin may everything.
	RoleAdmin

	// open is for procedures that need no identity.
	open Role = 0
)

var roleNames = [...]string{RoleClient: "client", RoleViewer: "viewer", RoleOperator: "operator", RoleAdmin: "admin"}

func (r Role) String() string {
	if r == 0 || int(r) >= len(roleNames) {
		return fmt.Sprintf("invalid role %d", uint8(r))
	}
	return roleNames[r]
}

// MarshalText is String.
func (r Role) MarshalText() ([]byte, error) {
	if r == 0 || int(r) >= len(roleNames) {
		return nil, fmt.Errorf("%s", r)
	}
	return []byte(r.String()), nil
}

// UnmarshalText reads client, viewer, operator and admin.
func (r *Role) UnmarshalText(text []byte) error {
	for role, name := range roleNames {
		if name != "" && name == string(text) {
			*r = Role(role)
			return nil
		}
	}
	return fmt.Errorf("role %q is none of client, viewer, operator and admin", text)
}

// roles says who may call what; a procedure that is not here may be called by nobody.
var roles = map[string]Role{
	assentv1connect.TransactionServiceBeginProcedure:    RoleClient,
	assentv1connect.TransactionServiceEnlistProcedure:   RoleClient,
	assentv1connect.TransactionServiceCommitProcedure:   RoleClient,
	assentv1connect.TransactionServiceRollbackProcedure: RoleClient,
	assentv1connect.TransactionServiceSubmitProcedure:   RoleClient,
	assentv1connect.TransactionServiceSessionProcedure:  RoleClient,
	assentv1connect.TransactionServiceGetProcedure:      RoleClient,
	assentv1connect.TransactionServiceListProcedure:     RoleClient,
	assentv1connect.TransactionServiceWatchProcedure:    RoleClient,
	assentv1connect.TransactionServiceOutcomeProcedure:  RoleClient,

	// Which participants an instance may be of is the identity's to say.
	assentv1connect.AttachmentServiceAttachProcedure: RoleClient,

	assentv1connect.AdminServiceOrphansProcedure:      RoleViewer,
	assentv1connect.AdminServiceStatusProcedure:       RoleViewer,
	assentv1connect.AdminServiceRetryProcedure:        RoleOperator,
	assentv1connect.AdminServicePauseProcedure:        RoleOperator,
	assentv1connect.AdminServiceResumeProcedure:       RoleOperator,
	assentv1connect.AdminServiceForgetBranchProcedure: RoleOperator,
	assentv1connect.AdminServiceResolveProcedure:      RoleOperator,

	// Load balancers ask these.
	healthCheck: open,
	healthWatch: open,

	// The schema is public; what it is of is not told.
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      RoleClient,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": RoleClient,

	eventsPattern: RoleClient,
}

// eventsPattern is where Server-Sent Events are served.
const eventsPattern = "GET /v1/events"
