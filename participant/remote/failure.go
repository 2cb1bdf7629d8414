package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"

	"connectrpc.com/connect/v2"

	"github.com/assent-tm/assent/participant"
)

// What the body of an answer that is none says in "error".
const (
	codeStaleEpoch    = "stale_epoch"
	codeMisconfigured = "misconfigured"
	codeUnauthorized  = "unauthorized"
	codeInvalid       = "invalid_request"
	codeUnsupported   = "unsupported"
	codeFailed        = "failed"
)

// statusError is what came in place of an answer: another HTTP status than 200.
type statusError struct {
	status        int
	code, message string
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("the service answered with HTTP status %d", e.status)
	if e.message != "" {
		text += ": " + e.message
	}
	if fix := e.fix(); fix != "" {
		text += " (" + fix + ")"
	}
	return text
}

// Unwrap returns which of the contract's errors it is, if any.
func (e *statusError) Unwrap() error {
	switch {
	case e.status == http.StatusConflict && e.code == codeStaleEpoch:
		return participant.ErrStaleEpoch
	case e.code == codeMisconfigured || e.fix() != "":
		return participant.ErrConfig
	default:
		return nil
	}
}

// lacksCall reports whether a service said that it does not have the call.
func lacksCall(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.status == http.StatusNotFound || status.status == http.StatusNotImplemented
	}
	var remote *connect.Error
	return errors.As(err, &remote) && remote.IsRemote() && remote.Code() == connect.CodeUnimplemented
}

// fix says what to change if the call will fail as often as it is made.
func (e *statusError) fix() string {
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "give the participant's configuration and the service the same secret, or a certificate it accepts, and set both clocks"
	case http.StatusNotFound, http.StatusGone, http.StatusNotImplemented:
		return "the participant's URL is not that of the service, or the service lacks this call: correct the URL, or do not configure it as one that lists or forgets"
	case http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusBadRequest, http.StatusUnprocessableEntity,
		http.StatusRequestEntityTooLarge, http.StatusNotAcceptable, http.StatusHTTPVersionNotSupported:
		return "the service does not keep to the contract, or the URL is not that of the service"
	}
	if 300 <= e.status && e.status < 400 {
		return "redirects are not followed: give the participant the URL that this one leads to"
	}
	return ""
}

// readStatus reads an answer that is none, and closes it.
func readStatus(response *http.Response) error {
	defer func() { _ = response.Body.Close() }()
	e := &statusError{status: response.StatusCode}
	if !isJSON(response.Header) {
		return e
	}
	body, err := readBody(response.Body, response.ContentLength, maxAnswer)
	if err != nil {
		return e
	}
	// What can't be read leaves the status to tell.
	if o, err := readObject(body); err == nil {
		_, _ = o.get("error", &e.code)
		_, _ = o.get("message", &e.message)
		e.code, e.message = clipped(e.code), clipped(e.message)
	}
	return e
}

// isJSON reports whether a body is said to be JSON.
func isJSON(header http.Header) bool {
	values := header["Content-Type"]
	if len(values) != 1 || len(header["Content-Encoding"]) > 0 {
		return false
	}
	kind, params, err := mime.ParseMediaType(values[0])
	charset := params["charset"]
	return err == nil && kind == "application/json" && (charset == "" || charset == "utf-8" || charset == "UTF-8")
}

// explained returns an error of the transport, as an ErrConfig with what to change if it
// will come as often as the call is made.
func explained(err error) error {
	var (
		unverified *tls.CertificateVerificationError
		hostname   x509.HostnameError
		alert      *net.OpError
		noTLS      tls.RecordHeaderError
		noName     *net.DNSError
	)
	switch {
	case errors.Is(err, participant.ErrConfig):
		return err
	case errors.As(err, &unverified), errors.As(err, &hostname):
		return fmt.Errorf("%w: the service's certificate is not valid here: set TLS.RootCAs or TLS.ServerName, or renew it: %w", participant.ErrConfig, err)
	case errors.As(err, &alert) && alert.Op == "remote error": // crypto/tls: a fatal alert
		return fmt.Errorf("%w: the service refused the TLS handshake: it may want a certificate, TLS.Certificates: %w", participant.ErrConfig, err)
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &noTLS):
		return fmt.Errorf("%w: the service does not speak TLS, and the URL is https: %w", participant.ErrConfig, err)
	case errors.As(err, &noName) && noName.IsNotFound:
		return fmt.Errorf("%w: nobody has the name in the URL: %w", participant.ErrConfig, err)
	default:
		return err
	}
}
