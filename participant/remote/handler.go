package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/participant"
)

// bodyTime is how long the body of a call may take to arrive.
const bodyTime = 10 * time.Second

// HandlerConfig is what Handler needs: Secrets or Unsigned.
type HandlerConfig struct {
	// Secrets are those with one of which a call has to be signed. At most 8.
	Secrets []Secret
	// Unsigned takes calls from whoever can reach the handler. For a server that verifies
	// its clients' certificates, or that only this machine reaches.
	Unsigned bool
	// Tolerance is how far the timestamp of a signature may be from this process's time:
	// as long as a call that was overheard can be repeated by others, and as far as the
	// clocks of both sides may be apart. Default 5 minutes.
	Tolerance time.Duration
	// Logger gets the panics of the participant. slog.Default() if nil.
	Logger *slog.Logger
}

// Handler serves a participant to a coordinator in another process, over HTTP as
// openapi.yaml describes it, and as an assent.v1.ParticipantService over gRPC and Connect.
// Over gRPC only if the server speaks HTTP/2, and without TLS only if its Protocols have
// UnencryptedHTTP2. It serves at the root; http.StripPrefix gives it another place.
//
// A call counts if it is signed, is for this participant by name, and is not of a former
// coordinator: it refuses an epoch that is lower than one it saw for the same term (R9).
// That it remembers in memory, of 10,000 terms: over a restart it is as durable as the
// participant makes it. Calls about one branch are made one after the other: a Rollback
// waits until a Prepare that the coordinator gave up has returned (R4), or fails. A branch's
// state, too, is as durable as the participant makes it.
//
// The reasons and errors of the participant are sent to the coordinator, who shows them to
// operators. An error Is participant.ErrInvalidParticipant and says what is wrong with the
// participant or with cfg.
func Handler(p participant.Participant, cfg HandlerConfig) (http.Handler, error) {
	registered, _, err := new(participant.Registry).Register(p)
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Tolerance == 0 {
		cfg.Tolerance = DefaultTolerance
	}
	err = validSecrets(cfg.Secrets)
	switch {
	case err != nil:
	case len(cfg.Secrets) == 0 && !cfg.Unsigned:
		err = errors.New("no Secrets: anybody could commit: set them, or Unsigned if nobody else reaches the handler")
	case len(cfg.Secrets) > 0 && cfg.Unsigned:
		err = errors.New("both Secrets and Unsigned: calls are either signed or not")
	case cfg.Tolerance < 0:
		err = fmt.Errorf("the Tolerance %s is negative", cfg.Tolerance)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: handler of %q: %w", participant.ErrInvalidParticipant, p.Name(), err)
	}
	s := &service{participant: registered, logger: cfg.Logger}
	return &handler{cfg: cfg, service: s, rpc: newRPC(s)}, nil
}

type handler struct {
	cfg     HandlerConfig
	service *service
	rpc     http.Handler
}

// rpcPhases are the procedures, and what the ids of their calls end with.
var rpcPhases = map[string]string{
	assentv1connect.ParticipantServicePrepareProcedure:      phasePrepare,
	assentv1connect.ParticipantServiceCommitProcedure:       phaseCommit,
	assentv1connect.ParticipantServiceRollbackProcedure:     phaseRollback,
	assentv1connect.ParticipantServiceListPreparedProcedure: phasePrepared,
	assentv1connect.ParticipantServiceForgetProcedure:       phaseForget,
	assentv1connect.ParticipantServiceExplainProcedure:      phaseExplain,
}

// ServeHTTP implements http.Handler. Nothing of a body is looked at before its signature.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	phase, isRPC := rpcPhases[r.URL.Path]
	if !isRPC {
		phase = strings.TrimPrefix(r.URL.Path, "/")
		if h.answer(phase) == nil || phase == r.URL.Path {
			writeError(w, http.StatusNotFound, codeUnsupported, "no such call")
			return
		}
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		writeError(w, http.StatusMethodNotAllowed, codeInvalid, "calls are POST")
		return
	}
	body, err := receive(w, r)
	if err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, errTooLong) {
			status = http.StatusRequestEntityTooLarge
		}
		writeError(w, status, codeInvalid, err.Error())
		return
	}
	if err := h.authorized(r, phase, body); err != nil {
		writeError(w, http.StatusUnauthorized, codeUnauthorized, err.Error())
		return
	}
	ctx := r.Context()
	if values := r.Header["Traceparent"]; len(values) == 1 {
		ctx = WithTraceparent(ctx, values[0])
	}
	if isRPC {
		r = r.WithContext(ctx)
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.rpc.ServeHTTP(w, r)
		return
	}
	h.serveJSON(ctx, w, r, phase, body)
}

// receive reads a body, which neither its length nor its slowness lets go on for ever.
func receive(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	control := http.NewResponseController(w)
	// What can't have a deadline is no connection.
	_ = control.SetReadDeadline(time.Now().Add(bodyTime))
	body, err := readBody(r.Body, r.ContentLength, maxRequest)
	// Else the deadline would end the call: what reads on is who waits for the caller to leave.
	_ = control.SetReadDeadline(time.Time{})
	return body, err
}

func (h *handler) authorized(r *http.Request, phase string, body []byte) error {
	if h.cfg.Unsigned {
		return nil
	}
	id, err := verify(r.Header, h.cfg.Secrets, body, time.Now(), h.cfg.Tolerance)
	if err == nil && !ofPhase(id, phase) {
		// Bodies over gRPC do not say whether they prepare or commit.
		err = fmt.Errorf("the call that was signed, %s, is no %s", clipped(id), phase)
	}
	return err
}

// answer returns what answers a phase over HTTP: a body to a body. Nil if there is no such
// phase.
func (h *handler) answer(phase string) func(context.Context, []byte) (any, error) {
	switch phase {
	case phasePrepare:
		return h.prepare
	case phaseCommit:
		return h.commit
	case phaseRollback:
		return h.rollback
	case phasePrepared:
		return h.prepared
	case phaseForget:
		return h.forget
	case phaseExplain:
		return h.explain
	default:
		return nil
	}
}

func (h *handler) prepare(ctx context.Context, body []byte) (any, error) {
	ref, err := readBranchBody(body, phasePrepare)
	if err != nil {
		return nil, invalidError{err}
	}
	r, err := h.service.Prepare(ctx, &assentv1.PrepareRequest{Branch: ref})
	return newVoteBody(r), err
}

func (h *handler) commit(ctx context.Context, body []byte) (any, error) {
	ref, err := readBranchBody(body, phaseCommit)
	if err != nil {
		return nil, invalidError{err}
	}
	r, err := h.service.Commit(ctx, &assentv1.ParticipantServiceCommitRequest{Branch: ref})
	return newStateBody(r.GetState(), r.GetReason()), err
}

func (h *handler) rollback(ctx context.Context, body []byte) (any, error) {
	ref, err := readBranchBody(body, phaseRollback)
	if err != nil {
		return nil, invalidError{err}
	}
	r, err := h.service.Rollback(ctx, &assentv1.ParticipantServiceRollbackRequest{Branch: ref})
	return newStateBody(r.GetState(), r.GetReason()), err
}

func (h *handler) prepared(ctx context.Context, body []byte) (any, error) {
	call, err := readDomainBody(body)
	if err != nil {
		return nil, invalidError{err}
	}
	r, err := h.service.ListPrepared(ctx, call)
	return newListBody(r), err
}

func (h *handler) forget(ctx context.Context, body []byte) (any, error) {
	call, err := readForgetBody(body)
	if err != nil {
		return nil, invalidError{err}
	}
	_, err = h.service.Forget(ctx, call)
	return struct{}{}, err
}

func (h *handler) explain(ctx context.Context, body []byte) (any, error) {
	if _, err := readCall(body, phaseExplain); err != nil {
		return nil, invalidError{err}
	}
	r, err := h.service.Explain(ctx, &assentv1.ExplainRequest{})
	return newExplainBody(r), err
}

func (h *handler) serveJSON(ctx context.Context, w http.ResponseWriter, r *http.Request, phase string, body []byte) {
	if !isJSON(r.Header) {
		writeError(w, http.StatusUnsupportedMediaType, codeInvalid, "the body has to be application/json")
		return
	}
	answer, err := h.answer(phase)(ctx, body)
	if err == nil {
		write(w, http.StatusOK, answer)
		return
	}
	status, code := http.StatusInternalServerError, codeFailed
	var invalid invalidError
	switch {
	case errors.As(err, &invalid):
		status, code = http.StatusBadRequest, codeInvalid
	case errors.Is(err, errors.ErrUnsupported):
		status, code = http.StatusNotImplemented, codeUnsupported
	case errors.Is(err, participant.ErrStaleEpoch):
		status, code = http.StatusConflict, codeStaleEpoch
	case errors.Is(err, participant.ErrConfig):
		code = codeMisconfigured
	}
	writeError(w, status, code, err.Error())
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	write(w, status, errorBody{Error: code, Message: clipped(message)})
}

func write(w http.ResponseWriter, status int, body any) {
	encoded, err := encode(body)
	if err != nil {
		status, encoded = http.StatusInternalServerError, nil
	}
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(status)
	_, _ = w.Write(encoded) // who asked may be gone, and asks again
}

// newRPC returns the service over gRPC and Connect.
func newRPC(s *service) http.Handler {
	server := connect.NewServer(writeCodes)
	assentv1connect.RegisterParticipantServiceHandler(server, s)
	mux := http.NewServeMux()
	connecthttp.Mount(mux, server, connecthttp.WithCodecs(connectproto.NewBinaryCodec()), connecthttp.WithCompressors(), connecthttp.WithReadMaxBytes(maxRequest))
	return mux
}

// writeCodes gives errors of the service a status, and a ParticipantFailure as its detail.
func writeCodes(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		err := next(ctx, spec, stream)
		var ready *connect.Error
		if err == nil || errors.As(err, &ready) && !ready.IsRemote() {
			return err // also of a body that can't be read
		}
		code := connect.CodeUnknown
		var invalid invalidError
		switch {
		case errors.As(err, &invalid):
			code = connect.CodeInvalidArgument
		case errors.Is(err, errors.ErrUnsupported):
			code = connect.CodeUnimplemented
		case errors.Is(err, participant.ErrStaleEpoch), errors.Is(err, participant.ErrConfig):
			code = connect.CodeFailedPrecondition
		}
		written := connect.NewError(code, clipped(err.Error())).WithCause(err)
		if code != connect.CodeUnknown && code != connect.CodeFailedPrecondition {
			return written // the code says it
		}
		detail, detailErr := connectproto.NewErrorDetail(newFailure(err))
		if detailErr != nil {
			return written
		}
		return written.WithDetail(detail)
	}
}
