package server

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"connectrpc.com/connect/v2"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
)

// attachments is the AttachmentService: the streams of Config.Hub's participants.
type attachments struct{ s *Server }

var _ assentv1connect.AttachmentServiceHandler = attachments{}

// Attach lets an instance answer for a participant. Who answers decides transactions:
// an identity lists the participants it may be an instance of, unless it is an admin's.
func (a attachments) Attach(ctx context.Context, stream assentv1connect.AttachmentServiceAttachServerStream) error {
	if a.s.config.Hub == nil {
		return connect.NewError(connect.CodeUnimplemented, "this server has no participants to attach")
	}
	conn := &attachment{AttachmentServiceAttachServerStream: stream, who: caller(ctx)}
	err := a.s.config.Hub.Attach(ctx, conn)
	if p, ok := ctx.Value(patienceKey{}).(*patience); ok {
		p.stopReading() // the hub may still be reading; nobody may once this has returned
		conn.reading.Lock()
		defer conn.reading.Unlock()
	}
	return err
}

// attachment is a stream that says only what its caller may.
type attachment struct {
	assentv1connect.AttachmentServiceAttachServerStream
	who     *Identity
	reading sync.Mutex // held while somebody reads
}

func (a *attachment) Receive() (*assentv1.AttachRequest, error) {
	a.reading.Lock()
	defer a.reading.Unlock()
	r, err := a.AttachmentServiceAttachServerStream.Receive()
	if err != nil {
		return nil, err
	}
	if hello := r.GetHello(); hello != nil && !a.who.answersFor(hello.GetParticipant()) {
		return nil, forbidden(fmt.Sprintf("%q may not be an instance of participant %q: list it with the identity's participants", a.who.Name, hello.GetParticipant())).status()
	}
	return r, nil
}

func (i *Identity) answersFor(participant string) bool {
	return i.Role == RoleAdmin || slices.Contains(i.Participants, participant)
}
