package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/server"
)

// What is said to be gRPC is asked by a client that others wrote: grpc-go.
func dial(t *testing.T, url string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	_, address, _ := strings.Cut(url, "://")
	if len(options) == 0 {
		options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	conn, err := grpc.NewClient("passthrough:///"+address, options...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

const service = "/assent.v1.TransactionService/"

func TestGRPCGoMakesTransactions(t *testing.T) {
	s := newSite(t)
	conn, ctx := dial(t, s.url), t.Context()
	var begun assentv1.BeginResponse
	require.NoError(t, conn.Invoke(ctx, service+"Begin", &assentv1.BeginRequest{}, &begun, grpc.UseCompressor(gzip.Name)))
	for _, e := range both() {
		require.NoError(t, conn.Invoke(ctx, service+"Enlist", &assentv1.EnlistRequest{TransactionId: begun.GetTransactionId(), Enlistment: e}, &assentv1.EnlistResponse{}))
	}
	var committed assentv1.CommitResponse
	require.NoError(t, conn.Invoke(ctx, service+"Commit", &assentv1.CommitRequest{TransactionId: begun.GetTransactionId()}, &committed))
	require.Equal(t, assentv1.State_STATE_COMMITTED, committed.GetState())

	s.b.refuses("insufficient funds")
	err := conn.Invoke(ctx, service+"Submit", &assentv1.SubmitRequest{Enlistments: both()}, &assentv1.SubmitResponse{})
	said := status.Convert(err)
	require.Equal(t, codes.Aborted, said.Code())
	require.Len(t, said.Details(), 1)
	info, ok := said.Details()[0].(*assentv1.ErrorInfo)
	require.True(t, ok)
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_ROLLED_BACK, info.GetReason())
	require.Equal(t, "bank_b", info.GetParticipant())
}

func TestGRPCGoHoldsASession(t *testing.T) {
	s := newSite(t)
	stream, err := dial(t, s.url).NewStream(t.Context(), &grpc.StreamDesc{StreamName: "Session", ClientStreams: true, ServerStreams: true}, service+"Session")
	require.NoError(t, err)
	const count = 50
	for id := range uint64(count) {
		request := &assentv1.Request{Id: id, Request: &assentv1.Request_Submit{Submit: &assentv1.SubmitRequest{Enlistments: both()}}}
		require.NoError(t, stream.SendMsg(&assentv1.SessionRequest{Requests: []*assentv1.Request{request}}))
	}
	require.NoError(t, stream.CloseSend())
	answered := 0
	for {
		var message assentv1.SessionResponse
		err := stream.RecvMsg(&message)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		answered += len(message.GetAnswers())
	}
	require.Equal(t, count, answered)
}

func TestGRPCGoIsAskedWhoItIs(t *testing.T) {
	p := newPeople(t)
	s := newSite(t, p.authenticated(t))
	authority := newAuthority(t)
	config, err := server.OpenTLS(authority.files(t, t.TempDir(), 1), nil)
	require.NoError(t, err)
	conn := dial(t, s.secure(t, config), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: authority.pool(), ServerName: "assent.test"})))
	begin := func(ctx context.Context) error {
		return conn.Invoke(ctx, service+"Begin", &assentv1.BeginRequest{}, &assentv1.BeginResponse{})
	}
	require.Equal(t, codes.Unauthenticated, status.Code(begin(t.Context())))
	require.NoError(t, begin(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+p.secrets["alice"])))
	all, err := s.dtm.List(t.Context(), allOfThem)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, "alice", all[0].Owner)
}

func TestReflectionTellsWhatIsServed(t *testing.T) {
	s := newSite(t)
	stream, err := reflection.NewServerReflectionClient(dial(t, s.url)).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	ask := func(r *reflection.ServerReflectionRequest) *reflection.ServerReflectionResponse {
		require.NoError(t, stream.Send(r))
		answer, err := stream.Recv()
		require.NoError(t, err)
		return answer
	}
	listed := ask(&reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}})
	names := map[string]bool{}
	for _, service := range listed.GetListServicesResponse().GetService() {
		names[service.GetName()] = true
	}
	require.Equal(t, map[string]bool{"assent.v1.TransactionService": true, "assent.v1.AttachmentService": true}, names)
	for name := range names {
		symbol := &reflection.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name}
		require.NotEmpty(t, ask(&reflection.ServerReflectionRequest{MessageRequest: symbol}).GetFileDescriptorResponse().GetFileDescriptorProto())
	}
	require.NoError(t, stream.CloseSend())
}
