package remote

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/participant"
)

// GRPCConfig is what NewGRPC needs. Name and URL are required. What is not explained
// here is as in [HTTPConfig].
type GRPCConfig struct {
	Name string
	// URL is https://host:port, or http://host:port on this machine. A path in it comes
	// before the name of the service.
	URL string
	// Secrets sign the calls, over the bytes of the HTTP/2 request as [Handler] verifies
	// them. Libraries for gRPC seldom show these: services of other languages rather
	// verify a certificate, see TLS.
	Secrets       []Secret
	TLS           *tls.Config
	AllowPrefixes []netip.Prefix
	AllowInsecure bool
	// MaxCalls is the number of calls under way at a time; calls beyond it wait. Default 256.
	MaxCalls int
	// Lists says that the service implements ListPrepared.
	Lists bool
	// Forgets says that the service implements Forget.
	Forgets bool
}

// NewGRPC returns the participant whose calls go to an assent.v1.ParticipantService over
// gRPC. They share a connection; more are opened if the service allows fewer calls on one
// than are under way. It connects to nothing yet. An error Is
// participant.ErrInvalidParticipant and says what is wrong with cfg.
func NewGRPC(cfg GRPCConfig) (Participant, error) {
	return newGRPC(&site{
		kind: "grpc", name: cfg.Name, url: cfg.URL, secrets: cfg.Secrets, tls: cfg.TLS, allow: cfg.AllowPrefixes, insecure: cfg.AllowInsecure,
		protocols: onlyHTTP2,
	}, cfg.MaxCalls, cfg.Lists, cfg.Forgets)
}

func newGRPC(s *site, maxCalls int, lists, forgets bool) (Participant, error) {
	if maxCalls < 0 {
		return nil, s.invalid("MaxCalls %d is negative", maxCalls)
	}
	if maxCalls == 0 {
		maxCalls = DefaultMaxConns
	}
	w, err := s.wire()
	if err != nil {
		return nil, err
	}
	w.places = make(chan struct{}, maxCalls)
	transport := connecthttp.NewTransport(w, strings.TrimSuffix(w.base.String(), "/"),
		connecthttp.WithGRPC(),
		connecthttp.WithCodecs(connectproto.NewBinaryCodec()),
		connecthttp.WithCompressors(), // no answer is long, but one that is made to be
		connecthttp.WithConditionalOptions(func(spec connect.Spec) []connecthttp.Option {
			switch spec.Procedure {
			case assentv1connect.ParticipantServiceListPreparedProcedure, assentv1connect.ParticipantServiceExplainProcedure:
				return []connecthttp.Option{connecthttp.WithReadMaxBytes(maxList)}
			}
			return []connecthttp.Option{connecthttp.WithReadMaxBytes(maxAnswer)}
		}),
	)
	service := assentv1connect.NewParticipantServiceClient(connect.NewClient(transport))
	return (&caller{name: s.name, wire: w, service: service}).as(lists, forgets), nil
}

// onlyHTTP2 is what gRPC needs.
func onlyHTTP2(secure bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP2(secure)
	p.SetUnencryptedHTTP2(!secure)
	return p
}

// codeFixes are the codes of calls that will fail as often as they are made, and what to
// change.
var codeFixes = map[connect.Code]string{
	connect.CodeUnauthenticated:  "give the participant's configuration and the service the same secret, or a certificate it accepts",
	connect.CodePermissionDenied: "have the service allow the coordinator's calls",
	connect.CodeUnimplemented:    "the service lacks this call: correct the participant's URL, or do not configure it as one that lists or forgets",
	connect.CodeNotFound:         "correct the participant's URL",
	connect.CodeInvalidArgument:  "the service does not keep to the contract",
	connect.CodeOutOfRange:       "the service does not keep to the contract",
}

// staleEpochMessage is how the message of a FAILED_PRECONDITION begins by which services
// that send no details say that they saw a higher epoch.
const staleEpochMessage = codeStaleEpoch

// readCode returns what a status other than OK says. Any other error is returned as it is.
func readCode(err error) error {
	var status *statusError
	if errors.As(err, &status) {
		return status
	}
	var remote *connect.Error
	if !errors.As(err, &remote) || !remote.IsRemote() {
		return err
	}
	for _, detail := range remote.Details() {
		if failure, ok := readDetail(detail); ok {
			return readFailure(failure)
		}
	}
	text := clipped(remote.Code().String() + ": " + remote.Message())
	if remote.Code() == connect.CodeFailedPrecondition && strings.HasPrefix(remote.Message(), staleEpochMessage) {
		return told(participant.ErrStaleEpoch, text)
	}
	if fix, ok := codeFixes[remote.Code()]; ok {
		return told(participant.ErrConfig, text+" ("+fix+")")
	}
	return errors.New(text)
}

// readDetail returns the ParticipantFailure that a detail is, if it is one.
func readDetail(detail *connect.ErrorDetail) (*assentv1.ParticipantFailure, bool) {
	message, err := connectproto.UnmarshalErrorDetail(detail)
	if err != nil {
		return nil, false
	}
	failure, ok := message.(*assentv1.ParticipantFailure)
	return failure, ok
}
