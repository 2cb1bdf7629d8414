package server

import (
	"context"
	"slices"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/wal/record"
)

// Identity is who calls.
type Identity struct {
	// Name is the owner of what the caller begins, and who said what in the log.
	Name string
	Role Role
	// Participants are those the caller may be an instance of; see Attach.
	Participants []string
}

// anybody is who calls where nobody is asked: on loopback without Config.Auth.
var anybody = &Identity{Role: RoleAdmin}

type identityKey struct{}

func withIdentity(ctx context.Context, i *Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, i)
}

// caller returns who calls; the interceptor has put him there.
func caller(ctx context.Context) *Identity {
	if i, ok := ctx.Value(identityKey{}).(*Identity); ok {
		return i
	}
	return &Identity{} // no role: may nothing
}

// sees reports whether the caller may know of the transaction.
func (i *Identity) sees(info *coordinator.Info) bool { return i.Role > RoleClient || i.owns(info) }

// owns reports whether it is the caller's. One that no log knows is nobody's: what is
// said of it says nothing of anybody (R13).
func (i *Identity) owns(info *coordinator.Info) bool {
	nobodys := info.Owner == "" && info.Begun.IsZero() && info.Cause == record.CausePresumed && len(info.Branches) == 0
	return i.Role >= RoleClient && (info.Owner == i.Name || nobodys)
}

// is reports whether the caller is the same one, and may do the same.
func (i *Identity) is(o *Identity) bool {
	return i.Name == o.Name && i.Role == o.Role && slices.Equal(i.Participants, o.Participants)
}
