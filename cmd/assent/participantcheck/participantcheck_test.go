package participantcheck

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/cmd/assent/devbank"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/remote"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secretText = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

func secret(t *testing.T) remote.Secret {
	t.Helper()
	s, err := remote.ParseSecret(secretText)
	require.NoError(t, err)
	return s
}

// calls is a service with nothing wrong: the reference participant.
func calls(t *testing.T, p participant.Participant, cfg remote.HandlerConfig) http.Handler {
	t.Helper()
	if !cfg.Unsigned {
		cfg.Secrets = []remote.Secret{secret(t)}
	}
	handler, err := remote.Handler(p, cfg)
	require.NoError(t, err)
	return handler
}

// effects shows at /effects/XID what a reference participant has done.
func effects(of *participanttest.Memory, next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", next)
	mux.HandleFunc("GET /effects/{xid}", func(w http.ResponseWriter, r *http.Request) {
		b, err := participant.ParseXID(r.PathValue("xid"))
		switch n := of.Effects(b); {
		case err != nil || n > 1:
			http.Error(w, fmt.Sprintf("%v: there %d times", err, n), http.StatusConflict)
		case n == 0:
			http.NotFound(w, r)
		}
	})
	return mux
}

// serve starts a service, over HTTP/1.1 and HTTP/2, and returns what to check it by.
func serve(t *testing.T, handler http.Handler) Config {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	refuse := participanttest.DataRefuse
	return Config{
		URL: server.URL, Name: "bank", Secrets: []remote.Secret{secret(t)}, Lists: true, Forgets: true, KeepsEpoch: true,
		Data: "work", RefuseData: &refuse, VisibleURL: server.URL + "/effects/{xid}", Restart: "true", Within: 10 * time.Second,
	}
}

func run(t *testing.T, cfg Config) ([]Result, error) {
	t.Helper()
	check, err := New(cfg)
	require.NoError(t, err)
	return check.Run(t.Context(), func(Result) {})
}

// of returns the names of the cases with this outcome.
func of(results []Result, outcome Outcome) (names []string) {
	for _, r := range results {
		if r.Outcome == outcome {
			names = append(names, r.Name)
		}
	}
	return names
}

// The reference passes everything, over both protocols, and nothing is left prepared.
func TestTheReferencePasses(t *testing.T) {
	for _, grpc := range []bool{false, true} {
		bank := participanttest.NewStore().Participant("bank")
		cfg := serve(t, effects(bank, calls(t, bank, remote.HandlerConfig{})))
		cfg.GRPC = grpc
		results, err := run(t, cfg)
		require.NoError(t, err)
		for _, r := range results {
			onlyHTTP := grpc && strings.Contains(r.Why, "over HTTP alone")
			require.True(t, r.Outcome == Passed || onlyHTTP, "%+v", r)
		}
		require.Len(t, results, len(Cases()))
		for _, e := range bank.Entries() {
			require.NotEqual(t, participanttest.StatePrepared, e.State, e.Branch.XID())
		}
	}
}

// What nobody looked at, or the service was not said to have, is not called passed.
func TestWhatIsNotCheckedIsSaid(t *testing.T) {
	handler, err := devbank.New("bank", 100).Handler(secret(t))
	require.NoError(t, err)
	cfg := serve(t, handler)
	results, err := run(t, Config{URL: cfg.URL + devbank.Path, Name: "bank", Secrets: cfg.Secrets, Data: "1", Within: cfg.Within})
	require.NoError(t, err)
	require.Empty(t, of(results, Failed))
	require.Subset(t, of(results, Partly), []string{"prepare-hides", "commit-shows", "unsigned"})
	require.Equal(t, []string{
		"refused", "stale-epoch", "list-prepared", "list-highest", "forget", "commit-after-forget", "explain",
		"begun-after-restart", "prepare-during-restart", "commit-after-restart", "rollback-after-restart", "finish-during-restart", "repeat-after-restart",
	}, of(results, NotRun))
	for _, r := range results {
		require.Equal(t, r.Outcome == Passed, r.Why == "", r.Name)
		require.NotContains(t, r.Why, participanttest.ErrNotApplicable.Error())
	}

	unsigned := serve(t, calls(t, participanttest.NewStore().Participant("bank"), remote.HandlerConfig{Unsigned: true}))
	unsigned.Secrets, unsigned.VisibleURL = nil, ""
	results, err = run(t, unsigned)
	require.NoError(t, err)
	require.Equal(t, []string{"unsigned", "bad-signature", "altered-body", "old-timestamp", "early-timestamp"}, of(results, NotRun))
	require.Empty(t, of(results, Failed))
}

func TestNobodyVerifiesOverGRPC(t *testing.T) {
	bank := participanttest.NewStore().Participant("bank")
	cfg := serve(t, effects(bank, calls(t, bank, remote.HandlerConfig{Unsigned: true})))
	cfg.GRPC = true
	results, err := run(t, cfg)
	require.NoError(t, err)
	require.Equal(t, []string{"unsigned", "bad-signature"}, of(results, Failed))
}

// A slow service is found and asked on; one that hangs, or takes nothing of what it is
// given, is not asked the rest.
func TestSlowAndDeafServices(t *testing.T) {
	bank := participanttest.NewStore().Participant("bank")
	handler := effects(bank, calls(t, bank, remote.HandlerConfig{}))
	slow := serve(t, handler)
	slow.Within = time.Nanosecond
	results, err := run(t, slow)
	require.NoError(t, err)
	require.Equal(t, []string{"in-time"}, of(results, Failed))
	require.Empty(t, of(results, NotRun))

	deaf := serve(t, handler)
	deaf.Name = "shop"
	results, err = run(t, deaf)
	require.NoError(t, err)
	require.Equal(t, []string{"answers"}, of(results, Failed))
	require.Len(t, of(results, NotRun), len(Cases())-1)
	require.Contains(t, results[0].Why, `participant "bank"`)
	require.Equal(t, "mend answers first", results[1].Why)

	other := serve(t, handler)
	other.Data = participanttest.DataRefuse
	results, err = run(t, other)
	require.NoError(t, err)
	require.Equal(t, []string{"in-time"}, of(results, Failed))
	require.Contains(t, results[1].Why, "--data")

	hangs := serve(t, altered(func(w http.ResponseWriter, r *http.Request, _ []byte, next http.Handler) {
		if r.URL.Path == "/prepare" {
			<-r.Context().Done()
			return
		}
		next.ServeHTTP(w, r)
	})(t, bank))
	check, err := New(hangs)
	require.NoError(t, err)
	check.site.patience = 2 * time.Second
	results, err = check.Run(t.Context(), func(Result) {})
	require.NoError(t, err)
	require.Equal(t, []string{"in-time"}, of(results, Failed))
	require.Contains(t, results[1].Why, "has no answer after")
	require.Len(t, of(results, NotRun), len(Cases())-2)
}

func TestServicesThatAreNotThere(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	cfg := Config{URL: gone.URL, Name: "bank", Within: time.Second}
	gone.Close()
	for _, cfg.GRPC = range []bool{false, true} {
		results, err := run(t, cfg)
		require.ErrorIs(t, err, ErrUnreachable)
		require.Empty(t, results)
	}

	// It leaves during the cases: what ran is told.
	bank := participanttest.NewStore().Participant("bank")
	var server *httptest.Server
	next := calls(t, bank, remote.HandlerConfig{})
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/commit" {
			server.CloseClientConnections()
			_ = server.Listener.Close()
			return
		}
		next.ServeHTTP(w, r)
	}))
	defer server.Close()
	cfg = Config{URL: server.URL, Name: "bank", Secrets: []remote.Secret{secret(t)}, Data: "work", Within: time.Minute}
	results, err := run(t, cfg)
	require.ErrorIs(t, err, ErrUnreachable)
	require.Equal(t, []string{"in-time"}, of(results, Failed))

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	check, err := New(serve(t, next))
	require.NoError(t, err)
	_, err = check.Run(ended, func(Result) {})
	require.ErrorIs(t, err, context.Canceled)
}

func TestRestartCommands(t *testing.T) {
	bank := participanttest.NewStore().Participant("bank")
	cfg := serve(t, effects(bank, calls(t, bank, remote.HandlerConfig{})))
	cfg.Restart, cfg.Cases = "exit 3", []string{"commit-after-restart"}
	results, err := run(t, cfg)
	require.NoError(t, err)
	require.Contains(t, results[0].Why, "--restart-cmd: exit status 3")
}

// What the URL shows decides, where answers alone would not tell.
func TestEffectsAreLookedAt(t *testing.T) {
	for status, failed := range map[int][]string{
		http.StatusOK:       {"prepare-hides", "rollback-hides"},
		http.StatusNotFound: {"commit-shows"},
		http.StatusConflict: {"prepare-hides", "commit-shows", "rollback-hides"},
	} {
		bank := participanttest.NewStore().Participant("bank")
		cfg := serve(t, calls(t, bank, remote.HandlerConfig{}))
		shown := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "two of them", status) }))
		t.Cleanup(shown.Close)
		cfg.VisibleURL, cfg.Cases = shown.URL+"/{xid}", []string{"prepare-hides", "commit-shows", "rollback-hides"}
		results, err := run(t, cfg)
		require.NoError(t, err)
		require.Equal(t, failed, of(results, Failed))
		if status == http.StatusConflict {
			require.Contains(t, results[0].Why, "HTTP status 409, want 200 for visible or 404 for not: two of them")
		}
	}
}

// A service that keeps in memory what it promised loses it when it is killed.
func TestALostPromiseIsFound(t *testing.T) {
	capability.Need(t, capability.Curl)
	fresh := func() *http.Handler {
		handler := calls(t, participanttest.NewStore().Participant("bank"), remote.HandlerConfig{})
		return &handler
	}
	var service atomic.Pointer[http.Handler]
	service.Store(fresh())
	mux := http.NewServeMux()
	mux.HandleFunc("/kill", func(http.ResponseWriter, *http.Request) { service.Store(fresh()) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { (*service.Load()).ServeHTTP(w, r) })
	cfg := serve(t, mux)
	cfg.VisibleURL, cfg.Restart, cfg.Cases = "", "curl -fsS "+cfg.URL+"/kill", []string{"commit-after-restart", "commit-twice"}
	results, err := run(t, cfg)
	require.NoError(t, err)
	require.Equal(t, []string{"commit-after-restart"}, of(results, Failed))
}

func TestConfigsThatMeanNothing(t *testing.T) {
	for want, change := range map[string]func(*Config){
		`there is no case "prepare"`:   func(c *Config) { c.Cases = []string{"prepare"} },
		"is the same for every branch": func(c *Config) { c.VisibleURL = "http://127.0.0.1/accounts" },
		"{id} means nothing":           func(c *Config) { c.VisibleURL = "http://127.0.0.1/{id}" },
		"--data has not":               func(c *Config) { c.VisibleURL = "http://127.0.0.1/{uuid}" },
		"is no URL":                    func(c *Config) { c.VisibleURL = "127.0.0.1/{xid}" },
		"not encrypted":                func(c *Config) { c.URL = "http://bank.example" },
		`name "a b"`:                   func(c *Config) { c.Name = "a b" },
		"--within":                     func(c *Config) { c.Within = 0 },
	} {
		cfg := Config{URL: "http://127.0.0.1:1", Name: "bank", Within: time.Second}
		change(&cfg)
		_, err := New(cfg)
		require.ErrorContains(t, err, want)
	}
}

// A branch has the same payload each time, and no other branch has it.
func TestPayloads(t *testing.T) {
	s, err := newSite(Config{URL: "http://127.0.0.1:1", Name: "bank", Within: time.Second, Data: "{n} {uuid} {xid} {other}"})
	require.NoError(t, err)
	a, b := s.begun(), s.begun()
	require.Equal(t, string(a.Data), s.fill(s.Data, a))
	require.Regexp(t, `^1 [-0-9a-f]{36} `+string(a.XID())+` \{other\}$`, string(a.Data))
	require.Regexp(t, `^2 `, string(b.Data))
	require.NotEqual(t, strings.Fields(string(a.Data))[1], strings.Fields(string(b.Data))[1])
}

// Every case is explained, and what is left out of the kit's is what a service over the
// wire can't be asked.
func TestCasesAreExplained(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		require.NotEmpty(t, c.Rule, c.Name)
		require.NotEmpty(t, c.Fix, c.Name)
		require.False(t, seen[c.Name], c.Name)
		seen[c.Name] = true
	}
	for name := range fixes {
		require.True(t, seen[name], "there is no case %s", name)
	}
	bank := participanttest.NewStore().Participant("bank")
	s, err := newSite(serve(t, effects(bank, calls(t, bank, remote.HandlerConfig{}))))
	require.NoError(t, err)
	for _, c := range participanttest.Cases() {
		if !seen[c.Name] && c.Name != "name" {
			require.ErrorIs(t, c.Run(t.Context(), s.subject()), participanttest.ErrNotApplicable, c.Name)
		}
	}
}
