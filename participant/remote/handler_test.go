package remote_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/remote"
)

// served is a handler and what it hears from a well configured coordinator.
type served struct {
	t       *testing.T
	p       *answering
	handler http.Handler
	heard   map[string]exchange // by phase, of either kind: "commit", "/assent.v1.ParticipantService/Commit"
}

func serveAnswering(t *testing.T) *served {
	t.Helper()
	s := &served{t: t, p: &answering{vote: participant.VotePrepared}, heard: map[string]exchange{}}
	h, err := remote.Handler(s.p, remote.HandlerConfig{Secrets: secrets()})
	require.NoError(t, err)
	o := &overhearing{Handler: h}
	url := serveHandler(t, o)
	for _, p := range []remote.Participant{
		httpAt(t, url, func(cfg *remote.HTTPConfig) { cfg.Secrets = secrets()[1:] }),
		grpcAt(t, url, func(cfg *remote.GRPCConfig) { cfg.Secrets = secrets()[:1] }),
	} {
		_, err := p.Prepare(t.Context(), aBranch())
		require.NoError(t, err)
		require.NoError(t, p.Commit(t.Context(), aBranch()))
		require.NoError(t, p.Rollback(t.Context(), aBranch()))
		_, err = p.(participant.Lister).List(t.Context(), "orders")
		require.NoError(t, err)
		require.NoError(t, p.(participant.Forgetter).Forget(t.Context(), []participant.Branch{aBranch()}))
	}
	require.Equal(t, 8, s.p.calls)
	s.p.calls = 0
	s.handler = h
	for _, e := range o.heard {
		s.heard[strings.TrimPrefix(e.path, "/")] = e
	}
	require.Len(t, s.heard, 10)
	return s
}

// do makes a call again, changed.
func (s *served) do(e exchange, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, e.path, bytes.NewReader(e.call))
	r.Header = e.header.Clone()
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

// refused fails unless the call was refused with this status, and changed nothing.
func (s *served) refused(w *httptest.ResponseRecorder, status int, want string) {
	s.t.Helper()
	require.Equal(s.t, status, w.Code, "%s", w.Body)
	require.Zero(s.t, s.p.calls)
	var body struct{ Error, Message string }
	require.NoError(s.t, json.Unmarshal(w.Body.Bytes(), &body), "%s", w.Body)
	require.NotEmpty(s.t, body.Error)
	require.Contains(s.t, body.Message, want)
}

// A call that is not signed as it has to be changes nothing, over HTTP and over gRPC.
func TestCallsThatAreNotSignedChangeNothing(t *testing.T) {
	s := serveAnswering(t)
	for path, e := range s.heard {
		t.Run(path, func(t *testing.T) {
			s.t = t
			for want, change := range map[string]func(*http.Request){
				"webhook-id":           func(r *http.Request) { r.Header.Del("Webhook-Id") },
				"webhook-timestamp":    func(r *http.Request) { r.Header.Del("Webhook-Timestamp") },
				"webhook-signature":    func(r *http.Request) { r.Header.Del("Webhook-Signature") },
				"exactly one":          func(r *http.Request) { r.Header.Add("Webhook-Signature", r.Header.Get("Webhook-Signature")) },
				"none of the secrets":  func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(string(e.call) + " ")) },
				"none of the secrets:": func(r *http.Request) { r.Header.Set("Webhook-Timestamp", "1") },
			} {
				s.refused(s.do(e, change), http.StatusUnauthorized, strings.TrimSuffix(want, ":"))
			}
			// Signed, and for another call: over gRPC the bodies of all three are equal.
			for other := range s.heard {
				if _, theirs, ok := strings.Cut(other, "Service/"); ok && strings.Contains(path, "Service/") && other != path {
					w := s.do(e, func(r *http.Request) { r.URL.Path = "/" + other })
					s.refused(w, http.StatusUnauthorized, "is no "+strings.ToLower(strings.TrimPrefix(theirs, "List")))
				}
			}
			require.Equal(t, http.StatusOK, s.do(e, nil).Code)
			s.p.calls = 0
		})
	}
}

// A call that was overheard may be made again for as long as its timestamp is taken: it
// does what it did, and no more.
func TestACallThatIsReplayedChangesNothingMore(t *testing.T) {
	store := participanttest.NewStore()
	memory := store.Participant(serviceName)
	h, err := remote.Handler(memory, remote.HandlerConfig{Secrets: secrets()})
	require.NoError(t, err)
	o := &overhearing{Handler: h}
	p := httpAt(t, serveHandler(t, o), func(cfg *remote.HTTPConfig) { cfg.Secrets = secrets() })
	committed, rolledBack := aBranch(), aBranch()
	for _, b := range []participant.Branch{committed, rolledBack} {
		_, err := p.Prepare(t.Context(), b)
		require.NoError(t, err)
	}
	require.NoError(t, p.Commit(t.Context(), committed))
	require.NoError(t, p.Rollback(t.Context(), rolledBack))
	s := &served{t: t, handler: h}
	for range 2 {
		for _, e := range o.heard {
			s.do(e, nil)
		}
	}
	require.Equal(t, participanttest.StateCommitted, memory.State(committed))
	require.Equal(t, participanttest.StateRolledBack, memory.State(rolledBack))
	require.Equal(t, 1, memory.Effects(committed))
	require.Zero(t, memory.Effects(rolledBack))
}

// What is signed and can't be read changes nothing, either.
func TestCallsThatCannotBeReadChangeNothing(t *testing.T) {
	p := &answering{vote: participant.VotePrepared}
	h, err := remote.Handler(p, remote.HandlerConfig{Unsigned: true})
	require.NoError(t, err)
	s := &served{t: t, p: p, handler: h}
	good := `{"protocol":1,"phase":"prepare","domain":"orders","transaction_id":"5x3dka5-01a2246b09d1775bbab1fe99393bdd0f","branch":1,` +
		`"xid":"orders:5x3dka5:01a2246b09d1775bbab1fe99393bdd0f:1","epoch":1,"participant":"service"}`
	call := func(path, contentType, body string) exchange {
		return exchange{path: path, header: http.Header{"Content-Type": {contentType}}, call: []byte(body)}
	}
	const js = "application/json"
	with := func(field string) string { return good[:len(good)-1] + "," + field + "}" }
	for _, c := range []struct {
		e      exchange
		status int
		want   string
	}{
		{call("/prepare", js, ""), 400, "unexpected end of JSON"},
		{call("/prepare", js, "[]"), 400, "not a JSON object"},
		{call("/prepare", js, good+good), 400, "after top-level value"},
		{call("/prepare", js, with(`"epoch":2`)), 400, `"epoch" twice`},
		{call("/prepare", js, strings.Replace(good, "xid", "XID", 1)), 400, `"xid" is missing`},
		{call("/prepare", js, strings.Replace(good, `"protocol":1`, `"protocol":2`, 1)), 400, "protocol 2"},
		{call("/commit", js, good), 400, `phase "prepare"`},
		{call("/prepare", js, strings.Replace(good, ":1\"", ":2\"", 1)), 400, "is not that of the transaction"},
		{call("/prepare", js, strings.Replace(good, `"branch":1`, `"branch":64`, 1)), 400, "xid"},
		{call("/prepare", js, strings.Replace(good, `"branch":1`, `"branch":-1`, 1)), 400, "branch"},
		{call("/prepare", js, strings.Replace(good, `"epoch":1`, `"epoch":1.5`, 1)), 400, "epoch"},
		{call("/prepare", js, strings.ReplaceAll(good, "orders", "or ders")), 400, "domain"},
		{call("/prepare", js, with(`"payload":"a","payload_base64":"YQ=="`)), 400, "payload"},
		{call("/prepare", js, with(`"payload_base64":"?"`)), 400, "payload_base64"},
		{call("/prepare", js, with(`"payload":"`+strings.Repeat("x", participant.MaxData+1)+`"`)), 400, "limit 4096"},
		{call("/prepare", js, with(`"deadline":"tomorrow"`)), 400, "RFC 3339"},
		{call("/prepare", js, with(`"payload":"`+strings.Repeat("x", 64<<10)+`"`)), 413, "too long"},
		{call("/prepare", js, strings.Replace(good, `"service"`, `"bank"`, 1)), 500, `call is for "bank"`},
		{call("/prepare", "text/plain", good), 415, "application/json"},
		{call("/prepare", "", good), 415, "application/json"},
		{call("/prepared", js, `{"protocol":1,"phase":"prepared","domain":"a b"}`), 400, "domain"},
		{call("/forget", js, `{"protocol":1,"phase":"forget","branches":["x"]}`), 400, "xid"},
		{call("/forget", js, `{"protocol":1,"phase":"forget","branches":"x"}`), 400, "branches"},
		{call("/", js, good), 404, "no such call"},
		{call("/prepare/", js, good), 404, "no such call"},
		{call("//prepare", js, good), 404, "no such call"},
		{call("/assent.v1.ParticipantService/Other", "application/grpc", ""), 404, "no such call"},
	} {
		s.refused(s.do(c.e, nil), c.status, c.want)
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodHead, "PREPARE"} {
		w := s.do(call("/prepare", js, good), func(r *http.Request) { r.Method = method })
		require.Equal(t, http.StatusMethodNotAllowed, w.Code)
		require.Equal(t, http.MethodPost, w.Header().Get("Allow"))
	}
	for _, body := range []string{"", "\x00\x00\x00\x00\x02\xff\xff", "\x00\xff\xff\xff\xff", "\x01\x00\x00\x00\x00", strings.Repeat("x", 65<<10)} {
		s.do(call("/assent.v1.ParticipantService/Commit", "application/grpc", body), func(r *http.Request) { r.ProtoMajor, r.Proto = 2, "HTTP/2.0" })
		require.Zero(t, p.calls)
	}
	require.Equal(t, http.StatusOK, s.do(call("/prepare", js, with(`"payload":"a\u0000"`)), nil).Code)
	require.Equal(t, "a\x00", string(p.last.Data))
}

// R9: who was taken over from is refused, and told that, over HTTP and gRPC.
func TestR9AFormerCoordinatorIsRefused(t *testing.T) {
	url := serveHere(t, &answering{vote: participant.VotePrepared}, remote.HandlerConfig{Unsigned: true})
	for _, p := range []remote.Participant{httpAt(t, url), grpcAt(t, url)} {
		b := aBranch()
		b.Epoch = 8
		_, err := p.Prepare(t.Context(), b)
		require.NoError(t, err)
		b.Epoch = 7
		vote, err := p.Prepare(t.Context(), b)
		require.False(t, vote.Valid())
		for _, err := range []error{err, p.Commit(t.Context(), b), p.Rollback(t.Context(), b)} {
			require.ErrorIs(t, err, participant.ErrStaleEpoch)
			require.NotErrorIs(t, err, participant.ErrConfig)
		}
		other := b
		other.Tx.Term = participant.NewTerm(3, 0xbeef)
		other.Epoch = 1
		require.NoError(t, p.Commit(t.Context(), other))
	}
}

// What a participant fails with reaches the coordinator as what it is.
func TestFailuresOfTheParticipantAreTold(t *testing.T) {
	a := &answering{}
	url := serveHere(t, a, remote.HandlerConfig{Unsigned: true, Logger: slog.New(slog.DiscardHandler)})
	for _, p := range []remote.Participant{httpAt(t, url), grpcAt(t, url)} {
		for _, is := range []error{participant.ErrConfig, participant.ErrStaleEpoch} {
			a.err = errors.Join(errors.New("this is why"), is)
			vote, errs := asked(t, p)
			noAnswer(t, vote, errs)
			for _, err := range errs {
				require.ErrorIs(t, err, is)
				require.ErrorContains(t, err, "this is why")
			}
		}
		a.err = errors.New("the disk is full")
		vote, errs := asked(t, p)
		noAnswer(t, vote, errs)
		for _, err := range errs {
			require.ErrorContains(t, err, "the disk is full")
			require.NotErrorIs(t, err, participant.ErrConfig)
		}
		var none *participant.HeuristicError
		a.err = none // panics when it is asked what it is
		vote, errs = asked(t, p)
		require.False(t, vote.Valid())
		for _, err := range errs {
			require.ErrorContains(t, err, "participant panicked")
		}
		a.err = nil
	}
}

// minimal lacks every optional interface.
type minimal struct{ participant.Participant }

func TestWhatAParticipantDoesNotSupportIsTold(t *testing.T) {
	url := serveHere(t, &minimal{&answering{}}, remote.HandlerConfig{Unsigned: true})
	for _, p := range []remote.Participant{httpAt(t, url), grpcAt(t, url)} {
		_, err := p.(participant.Lister).List(t.Context(), "orders")
		for _, err := range []error{err, p.(participant.Forgetter).Forget(t.Context(), []participant.Branch{aBranch()})} {
			require.ErrorIs(t, err, participant.ErrConfig)
			require.ErrorContains(t, err, "do not configure it as one that lists or forgets")
		}
		_, err = p.(participant.Explainer).Explain(t.Context())
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.NotErrorIs(t, err, participant.ErrConfig)
	}
}

// What is shown to operators does nothing to their terminals, and who can't be asked in
// turn says so.
func TestExplanationsAreForPeople(t *testing.T) {
	a := &answering{shown: []participant.Explanation{{Name: "a\x1b[31m", Commit: "COMMIT\x00;\nSELECT;", Rollback: "\xff"}}}
	url := serveHere(t, a, remote.HandlerConfig{Unsigned: true})
	for _, p := range []remote.Participant{httpAt(t, url), grpcAt(t, url)} {
		a.err = nil
		shown, err := p.(participant.Explainer).Explain(t.Context())
		require.NoError(t, err)
		require.Equal(t, []participant.Explanation{{Name: "a [31m", Commit: "COMMIT ;\nSELECT;", Rollback: "\uFFFD"}}, shown)
		a.err = fmt.Errorf("ask further: %w", errors.ErrUnsupported)
		_, err = p.(participant.Explainer).Explain(t.Context())
		require.ErrorIs(t, err, errors.ErrUnsupported)
		a.err = errors.New("no disk")
		_, err = p.(participant.Explainer).Explain(t.Context())
		require.ErrorContains(t, err, "no disk")
	}
}

// waiting waits in Prepare until its context ends.
type waiting struct {
	answering
	arrived, left chan struct{}
}

func (w *waiting) Prepare(ctx context.Context, _ participant.Branch) (participant.Vote, error) {
	close(w.arrived)
	<-ctx.Done()
	close(w.left)
	return 0, ctx.Err()
}

// Who no longer waits for an answer ends the call also at the service.
func TestACallEndsAtTheServiceWithItsContext(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			w := &waiting{arrived: make(chan struct{}), left: make(chan struct{})}
			url := serveHere(t, w, remote.HandlerConfig{Unsigned: true})
			p := httpAt(t, url)
			if kind == "grpc" {
				p = grpcAt(t, url)
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-w.arrived
				cancel()
			}()
			vote, err := p.Prepare(ctx, aBranch())
			require.False(t, vote.Valid())
			require.ErrorIs(t, err, context.Canceled)
			<-w.left
		})
	}
}

// tracing keeps the traceparents of its calls.
type tracing struct {
	answering
	mu   sync.Mutex
	seen []string
}

func (p *tracing) Commit(ctx context.Context, _ participant.Branch) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, remote.Traceparent(ctx))
	return nil
}

func TestTraceparentsArePassedOn(t *testing.T) {
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	tr := &tracing{}
	url := serveHere(t, tr, remote.HandlerConfig{Unsigned: true})
	for _, p := range []remote.Participant{httpAt(t, url), grpcAt(t, url)} {
		require.NoError(t, p.Commit(remote.WithTraceparent(t.Context(), traceparent), aBranch()))
		require.NoError(t, p.Commit(remote.WithTraceparent(t.Context(), "00-\r\nX: y"), aBranch()))
		require.NoError(t, p.Commit(t.Context(), aBranch()))
	}
	require.Equal(t, []string{traceparent, "", "", traceparent, "", ""}, tr.seen)
}

// The handler works below a path, too.
func TestAHandlerHasAnyPlace(t *testing.T) {
	h, err := remote.Handler(&answering{}, remote.HandlerConfig{Unsigned: true})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/assent/", http.StripPrefix("/assent", h))
	url := serveHandler(t, mux)
	for _, at := range []string{url + "/assent", url + "/assent/"} {
		require.NoError(t, httpAt(t, at).Commit(t.Context(), aBranch()))
		require.NoError(t, grpcAt(t, at).Commit(t.Context(), aBranch()))
	}
	require.ErrorIs(t, httpAt(t, url).Commit(t.Context(), aBranch()), participant.ErrConfig)
}

// R12: a call forgets so many branches that it fits, and all are forgotten.
func TestR12ForgetsInPortions(t *testing.T) {
	a := &answering{}
	url := serveHere(t, a, remote.HandlerConfig{Secrets: secrets()})
	b := aBranch()
	b.Domain = strings.Repeat("d", participant.MaxDomain)
	branches := make([]participant.Branch, 1000)
	for i := range branches {
		branches[i] = b
	}
	for _, p := range []remote.Participant{
		httpAt(t, url, func(cfg *remote.HTTPConfig) { cfg.Secrets = secrets() }), grpcAt(t, url, func(cfg *remote.GRPCConfig) { cfg.Secrets = secrets() }),
	} {
		a.calls = 0
		require.NoError(t, p.(participant.Forgetter).Forget(t.Context(), branches))
		require.Equal(t, len(branches), a.calls)
	}
}
