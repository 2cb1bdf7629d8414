package remote

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"
)

// Raw sends to a service what no coordinator sends, to see what the service does with it. It
// reaches the service as the participant of NewHTTP does: the same addresses, and TLS. Safe
// for concurrent use.
type Raw struct{ wire *wire }

// NewRaw connects to nothing yet. An error Is participant.ErrInvalidParticipant and says what
// is wrong with cfg.
func NewRaw(cfg HTTPConfig) (*Raw, error) {
	s := cfg.site()
	if err := s.boundConns(); err != nil {
		return nil, err
	}
	w, err := s.wire()
	return &Raw{w}, err
}

// Sign adds what shows that whoever has one of the config's secrets sent this body at this
// time. id is the call's: up to 128 bytes without a dot, that end with '-' and the phase.
func (r *Raw) Sign(header http.Header, id string, at time.Time, body []byte) {
	sign(header, r.wire.secrets, id, at, body)
}

// Post sends the body to URL/call, as JSON, with these headers, which are not nil, and a
// User-Agent, and returns the HTTP status of the answer and what it says. An error means that
// nothing was answered, or more than 64 KiB.
func (r *Raw) Post(ctx context.Context, call string, header http.Header, body []byte) (status int, answer []byte, err error) {
	at := rooted(r.wire.base).JoinPath(call)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header = header.Clone()
	request.Header["Content-Type"], request.Header["User-Agent"] = jsonType, userAgent
	response, err := r.wire.transport.RoundTrip(request)
	if err != nil {
		return 0, nil, explained(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err = readBody(response.Body, response.ContentLength, maxAnswer)
	return response.StatusCode, answer, err
}

// Close implements io.Closer: it gives up the connections that nobody uses.
func (r *Raw) Close() error { return r.wire.close() }

var _ io.Closer = (*Raw)(nil)
