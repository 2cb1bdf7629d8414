package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"go.uber.org/zap"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

// Auth knows who may call, by a file of Credentials that it reads again when that
// changes. Safe for concurrent use.
type Auth struct{ admitted *fresh[admitted] }

// OpenAuth reads the file; see ReadCredentials. logger gets what becomes of changes;
// nil for silence.
func OpenAuth(path string, logger *zap.Logger) (*Auth, error) {
	if logger == nil {
		logger = zap.NewNop()
	}
	f, err := newFresh(logger, func() (*admitted, error) {
		c, err := ReadCredentials(path)
		if err != nil {
			return nil, err
		}
		return newAdmitted(c), nil
	}, path)
	if err != nil {
		return nil, err
	}
	return &Auth{admitted: f}, nil
}

// admitted is a Credentials as it is looked up.
type admitted struct {
	// tokens are found by a part of their hash, and then compared as a whole.
	tokens       map[[8]byte][]*admittedToken
	certificates map[string]*Identity
}

type admittedToken struct {
	hash     [sha256.Size]byte
	expires  time.Time
	identity Identity
}

func newAdmitted(c *Credentials) *admitted {
	a := &admitted{tokens: map[[8]byte][]*admittedToken{}, certificates: map[string]*Identity{}}
	for _, t := range c.Tokens {
		entry := &admittedToken{expires: t.Expires, identity: Identity{Name: t.Name, Role: t.Role, Participants: t.Participants}}
		_, _ = hex.Decode(entry.hash[:], []byte(t.SHA256)) // validated
		key := [8]byte(entry.hash[:8])
		a.tokens[key] = append(a.tokens[key], entry)
	}
	for _, e := range c.Certificates {
		a.certificates[e.SAN] = &Identity{Name: e.Name, Role: e.Role, Participants: e.Participants}
	}
	return a
}

// token returns whose token it is; nil if it is nobody's, or expired. It takes as long
// whatever the token has in common with another.
func (a *admitted) token(token string, now time.Time) *Identity {
	hash := sha256.Sum256([]byte(token))
	for _, entry := range a.tokens[[8]byte(hash[:8])] {
		if subtle.ConstantTimeCompare(entry.hash[:], hash[:]) == 1 && (entry.expires.IsZero() || now.Before(entry.expires)) {
			return &entry.identity
		}
	}
	return nil
}

// certificate returns whose certificate the peer has; nil if it has none that the
// listener's authorities signed, or nobody's.
func (a *admitted) certificate(state *tls.ConnectionState, now time.Time) *Identity {
	if state == nil || len(state.VerifiedChains) == 0 {
		return nil
	}
	leaf := state.VerifiedChains[0][0]
	if now.After(leaf.NotAfter) { // of a connection that outlasts it
		return nil
	}
	for _, name := range leaf.DNSNames {
		if i := a.certificates["dns:"+name]; i != nil {
			return i
		}
	}
	for _, uri := range leaf.URIs {
		if i := a.certificates["uri:"+uri.String()]; i != nil {
			return i
		}
	}
	return nil
}

// who returns who calls with this Authorization header, if there is one, else by the
// connection's certificate; nil for nobody.
func (a *Auth) who(authorization string, state *tls.ConnectionState) *Identity {
	admitted, now := a.admitted.get(), time.Now()
	if authorization == "" {
		return admitted.certificate(state, now)
	}
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	return admitted.token(strings.TrimSpace(token), now)
}

// headers are what the server reads of a call's, and what its connection shows. A
// stream's are looked at again while it lasts.
type headers struct {
	authorization, traceparent string
	tls                        *tls.ConnectionState
}

// headersOf returns those of an RPC.
func headersOf(ctx context.Context) headers {
	var h headers
	if info, ok := connect.CallInfoForServerContext(ctx); ok {
		h.authorization, h.traceparent = info.RequestHeader().Get("Authorization"), info.RequestHeader().Get("Traceparent")
		if over, ok := info.TransportInfo.(*connecthttp.ServerInfo); ok {
			h.tls = over.TLS()
		}
	}
	return h
}

// admit returns who calls, or why he may not call what needs this role.
func (s *Server) admit(h headers, procedure string) (*Identity, *failure) {
	needed, listed := roles[procedure]
	if listed && needed == open {
		return &Identity{}, nil
	}
	who := anybody
	if s.config.Auth != nil {
		if who = s.config.Auth.who(h.authorization, h.tls); who == nil {
			return nil, unauthenticated()
		}
	}
	if !listed {
		return nil, forbidden("nobody may call this")
	}
	if who.Role < needed {
		return nil, forbidden(fmt.Sprintf("role %s may not call this: it takes role %s", who.Role, needed))
	}
	return who, nil
}

// unauthenticated reads the same whatever is wrong.
func unauthenticated() *failure {
	f := &failure{code: connect.CodeUnauthenticated, message: "no valid token and no known client certificate: send Authorization: Bearer TOKEN"}
	f.info.Reason = assentv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED
	return f
}

func forbidden(why string) *failure {
	f := &failure{code: connect.CodePermissionDenied, message: why}
	f.info.Reason = assentv1.ErrorReason_ERROR_REASON_FORBIDDEN
	return f
}
