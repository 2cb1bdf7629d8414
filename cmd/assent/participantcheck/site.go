package participantcheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/assent-tm/assent/cmd/assent/output"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/remote"
)

const (
	// restartTime is how long a service may take until it answers again.
	restartTime = 30 * time.Second
	// restartPause is how often it is asked whether it does.
	restartPause = 20 * time.Millisecond
	// maxShown is how much is shown of an answer that is wrong.
	maxShown = 200
)

// site is the service, and what its branches have in their payloads. Safe for concurrent
// use.
type site struct {
	Config
	raw    *remote.Raw // nil over gRPC
	look   *http.Client
	unique uuid.UUID
	term   participant.Term
	// patience is how long a call may take that is to be answered at all.
	patience time.Duration

	mu      sync.Mutex
	numbers map[participant.XID]int
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

// newSite returns an error that says what is wrong with the configuration.
func newSite(cfg Config) (*site, error) {
	s := &site{Config: cfg, unique: uuid.New(), patience: callTime, numbers: map[participant.XID]int{}}
	s.term = participant.NewTerm(1, s.unique.ID())
	if cfg.Within <= 0 {
		return nil, fmt.Errorf("--within %s: want more than 0", cfg.Within)
	}
	if err := validVisible(cfg); err != nil {
		return nil, err
	}
	p, err := s.open()
	if err == nil {
		err = p.Close()
	}
	if err == nil && !cfg.GRPC {
		s.raw, err = remote.NewRaw(s.http(cfg.Secrets))
	}
	// The service may be killed between two looks, and a redirect is no answer.
	s.look = &http.Client{
		Timeout: callTime, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: cfg.TLS},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, err
}

// validVisible refuses a URL that could not tell one branch from another.
func validVisible(cfg Config) error {
	if cfg.VisibleURL == "" {
		return nil
	}
	at, err := url.Parse(placeholder.ReplaceAllString(cfg.VisibleURL, "x"))
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
		return fmt.Errorf("--visible-url %q is no URL: write it as http://127.0.0.1:8081/accounts/{uuid}", cfg.VisibleURL)
	}
	found := placeholder.FindAllString(cfg.VisibleURL, -1)
	if len(found) == 0 {
		return fmt.Errorf("--visible-url %q is the same for every branch: put {uuid} or {n} into it and into --data, or {xid} into it", cfg.VisibleURL)
	}
	for _, name := range found {
		switch {
		case name == "{xid}":
		case name != "{uuid}" && name != "{n}":
			return fmt.Errorf("--visible-url: %s means nothing: want {uuid}, {n} or {xid}", name)
		case !strings.Contains(cfg.Data, name):
			return fmt.Errorf("--visible-url has %s and --data has not: the service could not know what is asked for", name)
		}
	}
	return nil
}

func (s *site) close() {
	if s.raw != nil {
		_ = s.raw.Close()
	}
}

func (s *site) http(secrets []remote.Secret) remote.HTTPConfig {
	return remote.HTTPConfig{
		Name: s.Name, URL: s.URL, Secrets: secrets, TLS: s.TLS, AllowPrefixes: s.AllowPrefixes, AllowInsecure: s.AllowInsecure,
		Lists: s.Lists, Forgets: s.Forgets,
	}
}

// open returns the service as a participant.
func (s *site) open() (remote.Participant, error) { return s.openAs(s.Secrets) }

// openAs signs by these secrets.
func (s *site) openAs(secrets []remote.Secret) (remote.Participant, error) {
	if !s.GRPC {
		return remote.NewHTTP(s.http(secrets))
	}
	return remote.NewGRPC(remote.GRPCConfig{
		Name: s.Name, URL: s.URL, Secrets: secrets, TLS: s.TLS, AllowPrefixes: s.AllowPrefixes, AllowInsecure: s.AllowInsecure,
		Lists: s.Lists, Forgets: s.Forgets,
	})
}

// subject is the service for participanttest.
func (s *site) subject() participanttest.Subject {
	subject := participanttest.Subject{
		New:        func(context.Context) (participant.Participant, error) { return s.open() },
		Begin:      s.begin(s.Data),
		Visible:    s.visible,
		KeepsEpoch: s.KeepsEpoch,
		Domain:     domain,
	}
	if s.RefuseData != nil {
		subject.Refuse = s.begin(*s.RefuseData)
	}
	if s.Restart != "" {
		subject.Restart = s.restart
	}
	return subject
}

// begin enlists with a payload: the work itself is Prepare's.
func (s *site) begin(template string) func(context.Context, participant.Participant, participant.Enlister) error {
	return func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
		b, err := tx.Enlist(ctx, p, nil) // the id of the branch is in the payload
		if err != nil || template == "" {
			return err
		}
		_, err = tx.Enlist(ctx, p, []byte(s.fill(template, b)))
		return err
	}
}

// fill replaces what stands for the branch.
func (s *site) fill(template string, b participant.Branch) string {
	xid := b.XID()
	s.mu.Lock()
	n, ok := s.numbers[xid]
	if !ok {
		n = len(s.numbers) + 1
		s.numbers[xid] = n
	}
	s.mu.Unlock()
	return strings.NewReplacer(
		"{n}", strconv.Itoa(n), "{uuid}", uuid.NewSHA1(s.unique, []byte(xid)).String(), "{xid}", string(xid),
	).Replace(template)
}

// branch returns a new transaction's branch.
func (s *site) branch() participant.Branch {
	return participant.Branch{
		Domain: domain, Tx: participant.TxID{Term: s.term, UUID: uuid.Must(uuid.NewV7())}, Epoch: 1, Participant: s.Name,
		Deadline: time.Now().Add(time.Hour),
	}
}

// begun returns one with the payload that the service prepares.
func (s *site) begun() participant.Branch {
	b := s.branch()
	if s.Data != "" {
		b.Data = []byte(s.fill(s.Data, b))
	}
	return b
}

// visible is the Subject's Visible.
func (s *site) visible(ctx context.Context, b participant.Branch) (bool, error) {
	if s.VisibleURL == "" {
		return false, participanttest.ErrUnseen
	}
	at := s.fill(s.VisibleURL, b)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return false, err
	}
	response, err := s.look.Do(request)
	if err != nil {
		return false, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxShown))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return false, fmt.Errorf("GET %s: %w", at, err)
	}
	switch response.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	default:
		return false, fmt.Errorf("GET %s: HTTP status %d, want 200 for visible or 404 for not: %s", at, response.StatusCode, output.Clean(string(body)))
	}
}

// restart is the Subject's Restart.
func (s *site) restart(ctx context.Context) error {
	command := exec.CommandContext(ctx, "sh", "-c", s.Restart)
	// A file, and no pipe: the service that the command leaves behind may keep it open.
	command.Stdout, command.Stderr = s.Output, s.Output
	if err := command.Run(); err != nil {
		return fmt.Errorf("--restart-cmd: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, restartTime)
	defer cancel()
	p, err := s.open()
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	b := s.branch()
	for {
		if err = p.Rollback(ctx, b); rolledBack(err) {
			return nil
		}
		select {
		case <-time.After(restartPause):
		case <-ctx.Done():
			return fmt.Errorf("the service did not answer again within %s after --restart-cmd: %w", restartTime, err)
		}
	}
}
