package participantcheck

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/remote"
)

// broken is a service with one thing wrong, and the cases that find it.
type broken struct {
	name   string
	serve  func(t *testing.T, bank *participanttest.Memory) http.Handler
	failed []string
}

// altered changes calls before, or answers after, the reference has them.
func altered(alter func(w http.ResponseWriter, r *http.Request, body []byte, next http.Handler)) func(*testing.T, *participanttest.Memory) http.Handler {
	return func(t *testing.T, bank *participanttest.Memory) http.Handler {
		next := calls(t, bank, remote.HandlerConfig{})
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return // who asked has left
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			alter(w, r, body, next)
		})
	}
}

// says answers a phase with this, whatever it is about.
func says(phase, text string) func(*testing.T, *participanttest.Memory) http.Handler {
	return altered(func(w http.ResponseWriter, r *http.Request, _ []byte, next http.Handler) {
		if r.URL.Path != "/"+phase {
			next.ServeHTTP(w, r)
			return
		}
		discarded := httptest.NewRecorder()
		if next.ServeHTTP(discarded, r); discarded.Code != http.StatusOK {
			copyAnswer(w, discarded)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, text)
	})
}

func copyAnswer(w http.ResponseWriter, from *httptest.ResponseRecorder) {
	w.Header().Set("Content-Type", from.Header().Get("Content-Type"))
	w.WriteHeader(from.Code)
	_, _ = w.Write(from.Body.Bytes())
}

var brokenServices = []broken{
	{"nobody verifies", func(t *testing.T, bank *participanttest.Memory) http.Handler {
		return calls(t, bank, remote.HandlerConfig{Unsigned: true})
	}, []string{"unsigned", "bad-signature", "altered-body", "old-timestamp", "early-timestamp"}},
	{"signatures are good for ever", func(t *testing.T, bank *participanttest.Memory) http.Handler {
		return calls(t, bank, remote.HandlerConfig{Tolerance: time.Hour})
	}, []string{"old-timestamp", "early-timestamp"}},
	{"does what it refuses", altered(func(w http.ResponseWriter, r *http.Request, body []byte, next http.Handler) {
		refused := httptest.NewRecorder()
		if next.ServeHTTP(refused, r); refused.Code == http.StatusUnauthorized {
			resigned := httptest.NewRequestWithContext(r.Context(), r.Method, r.URL.Path, bytes.NewReader(body))
			resigned.Header.Set("Content-Type", "application/json")
			raw, err := remote.NewRaw(remote.HTTPConfig{Name: "bank", URL: "http://127.0.0.1", Secrets: mustSecret()})
			if err != nil {
				panic(err)
			}
			raw.Sign(resigned.Header, "x-"+path.Base(r.URL.Path), time.Now(), body)
			next.ServeHTTP(httptest.NewRecorder(), resigned)
		}
		copyAnswer(w, refused)
	}), []string{"unsigned", "bad-signature", "altered-body", "old-timestamp", "early-timestamp"}},
	{"403 for a bad signature", altered(func(w http.ResponseWriter, r *http.Request, _ []byte, next http.Handler) {
		refused := httptest.NewRecorder()
		if next.ServeHTTP(refused, r); refused.Code == http.StatusUnauthorized {
			refused.Code = http.StatusForbidden
		}
		copyAnswer(w, refused)
	}), []string{"unsigned", "bad-signature", "altered-body", "old-timestamp", "early-timestamp"}},
	{"takes the path at its word", func(t *testing.T, bank *participanttest.Memory) http.Handler {
		verifies, does := calls(t, bank, remote.HandlerConfig{}), calls(t, bank, remote.HandlerConfig{Unsigned: true})
		return altered(func(w http.ResponseWriter, r *http.Request, body []byte, _ http.Handler) {
			var said map[string]any
			_ = json.Unmarshal(body, &said)
			phase, _ := said["phase"].(string)
			first := httptest.NewRecorder()
			at := *r
			at.URL = &url.URL{Path: "/" + phase}
			if verifies.ServeHTTP(first, &at); phase == "" || "/"+phase == r.URL.Path || first.Code != http.StatusOK {
				if phase == "" {
					r.Body = io.NopCloser(bytes.NewReader(body))
					first = httptest.NewRecorder()
					verifies.ServeHTTP(first, r)
				}
				copyAnswer(w, first)
				return
			}
			said["phase"] = path.Base(r.URL.Path)
			body, _ = json.Marshal(said)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			does.ServeHTTP(w, r)
		})(t, bank)
	}, []string{"other-phase"}},
	{"refuses what it does not know", altered(func(w http.ResponseWriter, r *http.Request, body []byte, next http.Handler) {
		if bytes.Contains(body, []byte("x_unknown")) {
			http.Error(w, "x_unknown", http.StatusBadRequest)
			return
		}
		next.ServeHTTP(w, r)
	}), []string{"unknown-fields"}},
	{"answers everything", altered(func(w http.ResponseWriter, r *http.Request, _ []byte, next http.Handler) {
		answer := httptest.NewRecorder()
		if next.ServeHTTP(answer, r); answer.Code == http.StatusNotFound {
			answer.Code = http.StatusOK
		}
		copyAnswer(w, answer)
	}), []string{"unknown-call"}},
	{"takes anything for a prepare", altered(func(w http.ResponseWriter, r *http.Request, _ []byte, next http.Handler) {
		answer := httptest.NewRecorder()
		if next.ServeHTTP(answer, r); answer.Code == http.StatusBadRequest && r.URL.Path == "/prepare" {
			answer.Code = http.StatusOK
		}
		copyAnswer(w, answer)
	}), []string{"malformed"}},
	{"commits whatever it is told", says(commit, `{"state":"COMMITTED"}`), []string{"commit-unknown", "commit-after-rollback", "refused"}},
	{"prepares whatever it is told", says(prepare, `{"vote":"PREPARED"}`), []string{"prepare-after-rollback", "rollback-before-prepare", "prepare-after-commit", "refused"}},
	{"rolls back whatever it is told", says(rollback, `{"state":"ROLLED_BACK"}`), []string{"rollback-after-commit"}},
	{"lists nothing", says("prepared", `{"branches":[]}`), []string{"list-prepared"}},
}

func mustSecret() []remote.Secret {
	s, err := remote.ParseSecret(secretText)
	if err != nil {
		panic(err)
	}
	return []remote.Secret{s}
}

// Each broken service is found by the cases that are about what is wrong with it, and told
// what to mend. Calls that no coordinator makes fail for nothing else.
func TestBrokenServicesAreFound(t *testing.T) {
	for _, service := range brokenServices {
		t.Run(service.name, func(t *testing.T) {
			bank := participanttest.NewStore().Participant("bank")
			cfg := serve(t, effects(bank, service.serve(t, bank)))
			cfg.Cases = append(cfg.Cases, service.failed...)
			for _, c := range wireCases {
				cfg.Cases = append(cfg.Cases, c.Name)
			}
			results, err := run(t, cfg)
			require.NoError(t, err)
			require.ElementsMatch(t, service.failed, of(results, Failed))
			var table strings.Builder
			require.NoError(t, WriteTable(&table, results))
			for _, r := range results {
				if r.Outcome == Failed {
					require.Contains(t, table.String(), "  rule: "+r.Rule+"\n  fix:  "+r.Fix+"\n")
				}
			}
		})
	}
}
