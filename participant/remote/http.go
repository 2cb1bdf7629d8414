package remote

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

// HTTPConfig is what NewHTTP needs. Name and URL are required.
type HTTPConfig struct {
	// Name is the participant's name, as participant.Participant.Name wants it.
	Name string
	// URL is the service's base: calls go to URL/prepare, URL/commit and so on. https, or
	// http to this machine. No user, no query.
	URL string
	// Secrets sign the calls, each of them: for as long as a secret is being replaced there
	// are two. At most 8. Without any, the service knows by a certificate in TLS who calls,
	// or not at all.
	Secrets []Secret
	// TLS is how the service is verified, and the certificate that is shown to it. Nil is
	// the system's roots and no certificate. TLS 1.2 at least.
	TLS *tls.Config
	// AllowPrefixes are where the service may be; any address if empty. The address is
	// checked after the name was resolved, each time. Link-local, group and metadata
	// addresses are never connected to.
	AllowPrefixes []netip.Prefix
	// AllowInsecure allows http to other machines, and TLS.InsecureSkipVerify: whoever is on
	// the way may read the calls and, without Secrets, make them; and may answer them.
	AllowInsecure bool
	// MaxConns is the number of connections to the service; calls beyond it wait for one.
	// Default 256.
	MaxConns int
	// Lists says that the service has URL/prepared. Without it, recovery can't find the
	// branches at it that no log knows.
	Lists bool
	// Forgets says that the service has URL/forget.
	Forgets bool
}

// NewHTTP returns the participant whose calls go to a service over HTTP/1.1, with the
// bodies that openapi.yaml describes. It connects to nothing yet. An error Is
// participant.ErrInvalidParticipant and says what is wrong with cfg.
func NewHTTP(cfg HTTPConfig) (Participant, error) {
	return newHTTP(cfg.site(), cfg.Lists, cfg.Forgets)
}

func (cfg HTTPConfig) site() *site {
	return &site{
		kind: "http", name: cfg.Name, url: cfg.URL, secrets: cfg.Secrets, tls: cfg.TLS, allow: cfg.AllowPrefixes, insecure: cfg.AllowInsecure,
		maxConns: cfg.MaxConns, protocols: onlyHTTP1,
	}
}

// boundConns bounds the connections where the configuration does not say by how many.
func (s *site) boundConns() error {
	if s.maxConns < 0 {
		return s.invalid("MaxConns %d is negative", s.maxConns)
	}
	s.maxConns = cmp.Or(s.maxConns, DefaultMaxConns)
	return nil
}

func newHTTP(s *site, lists, forgets bool) (Participant, error) {
	if err := s.boundConns(); err != nil {
		return nil, err
	}
	w, err := s.wire()
	if err != nil {
		return nil, err
	}
	base := rooted(w.base)
	c := &jsonClient{name: s.name, wire: w, urls: map[string]*url.URL{}}
	for _, phase := range []string{phasePrepare, phaseCommit, phaseRollback, phasePrepared, phaseForget, phaseExplain} {
		c.urls[phase] = base.JoinPath(phase)
	}
	return (&caller{name: s.name, wire: w, service: c}).as(lists, forgets), nil
}

// rooted returns a URL to which paths can be joined.
func rooted(base *url.URL) *url.URL {
	at := *base
	if at.Path == "" {
		at.Path = "/" // else what is joined to it is no absolute path
	}
	return &at
}

// onlyHTTP1 is for a contract whose calls are bounded by connections.
func onlyHTTP1(bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// jsonClient is assentv1connect.ParticipantServiceClient over the HTTP contract.
type jsonClient struct {
	name string
	wire *wire
	urls map[string]*url.URL
}

func (c *jsonClient) Prepare(ctx context.Context, r *assentv1.PrepareRequest) (*assentv1.PrepareResponse, error) {
	answer, err := c.post(ctx, phasePrepare, newBranchBody(phasePrepare, r.GetBranch()), maxAnswer)
	if err != nil {
		return nil, err
	}
	return readVoteBody(answer)
}

func (c *jsonClient) Commit(ctx context.Context, r *assentv1.ParticipantServiceCommitRequest) (*assentv1.ParticipantServiceCommitResponse, error) {
	answer, err := c.post(ctx, phaseCommit, newBranchBody(phaseCommit, r.GetBranch()), maxAnswer)
	if err != nil {
		return nil, err
	}
	state, reason, err := readStateBody(answer)
	return &assentv1.ParticipantServiceCommitResponse{State: state, Reason: reason}, err
}

func (c *jsonClient) Rollback(ctx context.Context, r *assentv1.ParticipantServiceRollbackRequest) (*assentv1.ParticipantServiceRollbackResponse, error) {
	answer, err := c.post(ctx, phaseRollback, newBranchBody(phaseRollback, r.GetBranch()), maxAnswer)
	if err != nil {
		return nil, err
	}
	state, reason, err := readStateBody(answer)
	return &assentv1.ParticipantServiceRollbackResponse{State: state, Reason: reason}, err
}

func (c *jsonClient) ListPrepared(ctx context.Context, r *assentv1.ListPreparedRequest) (*assentv1.ListPreparedResponse, error) {
	body := domainBody{Protocol: protocolVersion, Phase: phasePrepared, Domain: r.GetDomain(), Participant: c.name}
	answer, err := c.post(ctx, phasePrepared, body, maxList)
	if err != nil {
		return nil, err
	}
	return readListBody(answer)
}

func (c *jsonClient) Forget(ctx context.Context, r *assentv1.ForgetRequest) (*assentv1.ForgetResponse, error) {
	body := forgetBody{Protocol: protocolVersion, Phase: phaseForget, Participant: c.name, Branches: make([]string, 0, len(r.GetBranches()))}
	for _, ref := range r.GetBranches() {
		body.Branches = append(body.Branches, xidOf(ref))
	}
	answer, err := c.post(ctx, phaseForget, body, maxAnswer)
	if err != nil {
		return nil, err
	}
	if _, err := readObject(answer); err != nil {
		return nil, fmt.Errorf("the answer: %w", err)
	}
	return &assentv1.ForgetResponse{}, nil
}

func (c *jsonClient) Explain(ctx context.Context, _ *assentv1.ExplainRequest) (*assentv1.ExplainResponse, error) {
	body := explainCallBody{Protocol: protocolVersion, Phase: phaseExplain, Participant: c.name}
	answer, err := c.post(ctx, phaseExplain, body, maxList)
	if err != nil {
		return nil, err
	}
	return readExplainBody(answer)
}

// post makes one call and returns the body of its answer.
func (c *jsonClient) post(ctx context.Context, phase string, body any, limit int64) ([]byte, error) {
	encoded, err := encode(body)
	if err != nil {
		return nil, err
	}
	at := c.urls[phase]
	request := (&http.Request{
		Method: http.MethodPost, URL: at, Host: at.Host, Header: http.Header{
			"Content-Type": jsonType, "Accept": jsonType, "User-Agent": userAgent,
		},
	}).WithContext(ctx)
	setBody(request, encoded)
	response, err := c.wire.send(request, encoded)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if !isJSON(response.Header) {
		return nil, fmt.Errorf("the answer's Content-Type is %q, want application/json", clipped(strings.Join(response.Header["Content-Type"], ", ")))
	}
	answer, err := readBody(response.Body, response.ContentLength, limit)
	if err != nil {
		return nil, fmt.Errorf("the answer: %w", err)
	}
	return answer, nil
}

var (
	jsonType  = []string{"application/json"}
	userAgent = []string{"assent"}
)
