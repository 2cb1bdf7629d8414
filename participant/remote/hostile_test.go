package remote_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/remote"
)

// asked returns what a participant's calls make of a service.
func asked(t *testing.T, p remote.Participant) (vote participant.Vote, errs []error) {
	t.Helper()
	vote, err := p.Prepare(t.Context(), aBranch())
	_, listErr := p.(participant.Lister).List(t.Context(), "orders")
	return vote, []error{
		err, p.Commit(t.Context(), aBranch()), p.Rollback(t.Context(), aBranch()), listErr,
		p.(participant.Forgetter).Forget(t.Context(), []participant.Branch{aBranch()}),
	}
}

// noAnswer fails unless nothing that the calls returned is an answer (R4, R6).
func noAnswer(t *testing.T, vote participant.Vote, errs []error) {
	t.Helper()
	require.False(t, vote.Valid(), "%s", vote)
	for _, err := range errs {
		require.Error(t, err)
		var heuristic *participant.HeuristicError
		require.False(t, errors.As(err, &heuristic), "%v", err)
		require.NotErrorIs(t, err, participant.ErrUnknownBranch)
		require.NotErrorIs(t, err, participant.ErrRefused)
		require.Less(t, len(err.Error()), 4<<10)
	}
}

// everyAnswer is what answers every call, if it is taken.
const everyAnswer = `{"vote":"PREPARED","state":"COMMITTED","branches":[],"highest":[]}`

func httpAt(t *testing.T, url string, change ...func(*remote.HTTPConfig)) remote.Participant {
	t.Helper()
	cfg := remote.HTTPConfig{Name: serviceName, URL: url, Lists: true, Forgets: true}
	for _, c := range change {
		c(&cfg)
	}
	p, err := remote.NewHTTP(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// R4, R6: only status 200 with a JSON object that has a known value is an answer.
func TestR4R6WhatIsNoAnswer(t *testing.T) {
	respond := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{contentType}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	ok := func(body string) http.HandlerFunc { return respond(http.StatusOK, "application/json", body) }
	huge := strings.Repeat(" ", 17<<20)
	for name, handler := range map[string]http.HandlerFunc{
		"an empty body":              ok(``),
		"no JSON":                    ok(`OK`),
		"half":                       ok(everyAnswer[:len(everyAnswer)-1]),
		"more":                       ok(everyAnswer + `{}`),
		"a list":                     ok(`[` + everyAnswer + `]`),
		"a string":                   ok(`"PREPARED"`),
		"null":                       ok(`null`),
		"not UTF-8":                  ok(everyAnswer[:len(everyAnswer)-1] + ",\"reason\":\"\xff\"}"),
		"deep":                       ok(`{"a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`),
		"many fields":                ok(`{` + manyFields(100) + `}`),
		"huge":                       ok(huge + everyAnswer),
		"huge behind":                ok(everyAnswer + huge),
		"HTML":                       respond(http.StatusOK, "text/html", everyAnswer),
		"no type":                    respond(http.StatusOK, "", everyAnswer),
		"another charset":            respond(http.StatusOK, "application/json; charset=utf-16", everyAnswer),
		"created":                    respond(http.StatusCreated, "application/json", everyAnswer),
		"accepted":                   respond(http.StatusAccepted, "application/json", everyAnswer),
		"partial":                    respond(http.StatusPartialContent, "application/json", everyAnswer),
		"too many requests":          respond(http.StatusTooManyRequests, "application/json", everyAnswer),
		"conflict, of another kind":  respond(http.StatusConflict, "application/json", `{"error":"busy","message":"\u001b[31mlater"}`),
		"a failure":                  respond(http.StatusInternalServerError, "application/json", everyAnswer),
		"a failure that is huge":     respond(http.StatusInternalServerError, "application/json", huge),
		"a failure with huge reason": respond(http.StatusBadGateway, "application/json", `{"error":"x","message":"`+strings.Repeat("x", 60<<10)+`"}`),
		"nothing":                    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"compressed": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			ok(everyAnswer)(w, r)
		},
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", strconv.Itoa(len(everyAnswer)+1))
			_, _ = io.WriteString(w, everyAnswer)
		},
		"endless headers": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			ok(everyAnswer)(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			vote, errs := asked(t, httpAt(t, serveHandler(t, handler)))
			noAnswer(t, vote, errs)
			require.NotContains(t, fmt.Sprint(errs), "\x1b")
		})
	}
	t.Run("an answer", func(t *testing.T) {
		vote, errs := asked(t, httpAt(t, serveHandler(t, ok(everyAnswer))))
		require.Equal(t, participant.VotePrepared, vote)
		require.NoError(t, errs[0])
		require.NoError(t, errs[1])
		require.Error(t, errs[2], "committed is no answer to Rollback")
		require.NoError(t, errs[3])
		require.NoError(t, errs[4])
	})
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"f%d":1,`, i)
	}
	return b.String() + everyAnswer[1:len(everyAnswer)-1]
}

// A body that says two things to two readers says nothing.
func TestR4AnAmbiguousVoteIsUnknown(t *testing.T) {
	var body atomic.Pointer[string]
	p := httpAt(t, serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, *body.Load())
	})))
	for _, text := range []string{
		`{"vote":"REFUSED","vote":"PREPARED"}`, `{"vote":"PREPARED","vote":"PREPARED"}`, `{"Vote":"PREPARED"}`, `{"VOTE":"PREPARED"}`,
		`{"vote":null}`, `{"vote":1}`, `{"vote":true}`, `{"vote":["PREPARED"]}`, `{"vote":"PREPARED\u0000"}`, `{"vote":" PREPARED"}`,
		`{"vote":"PREPARED","reason":1}`, `{"state":"COMMITTED"}`, `{"vote":"UNSPECIFIED"}`, `{"vote":""}`, `{}`, `{"answer":{"vote":"PREPARED"}}`,
	} {
		body.Store(&text)
		vote, err := p.Prepare(t.Context(), aBranch())
		require.False(t, vote.Valid(), text)
		require.Error(t, err, text)
	}
	for _, text := range []string{`{"vote":"REFUSED","VOTE":"PREPARED","reason":"no stock"}`, ` {"reason":"no stock","vote":"\u0052EFUSED"} `} {
		body.Store(&text)
		vote, err := p.Prepare(t.Context(), aBranch())
		require.Equal(t, participant.VoteRefused, vote)
		require.ErrorIs(t, err, participant.ErrRefused)
		require.ErrorContains(t, err, "no stock")
	}
}

// R10: a list that can't be read whole is none.
func TestR10AListThatIsNone(t *testing.T) {
	var body string
	p := httpAt(t, serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	})))
	xid := string(participant.Branch{Domain: "orders", Tx: aBranch().Tx}.XID())
	for _, text := range []string{
		`{}`, `{"branches":null}`, `{"highest":[]}`, `{"branches":"` + xid + `"}`, `{"branches":["` + xid + `",""]}`, `{"branches":["` + xid + `",null]}`,
		`{"branches":["` + strings.Replace(xid, "orders", "orders-2", 1) + `"]}`, `{"branches":["` + strings.ToUpper(xid) + `"]}`,
		`{"branches":[],"highest":["x"]}`, `{"branches":[],"highest":[1]}`, `{"branches":[],"branches":["` + xid + `"]}`,
	} {
		body = text
		_, err := p.(participant.Lister).List(t.Context(), "orders")
		require.ErrorContains(t, err, `list domain "orders" of participant "service"`, text)
	}
	body = `{"branches":["` + xid + `"]}`
	l, err := p.(participant.Lister).List(t.Context(), "orders")
	require.NoError(t, err)
	require.Len(t, l.Prepared, 1)
	require.Empty(t, l.Highest)
}

// What has to be configured otherwise is told as that, and how.
func TestMistakesAreToldWithTheirFix(t *testing.T) {
	for status, want := range map[int]string{
		http.StatusMovedPermanently: "redirects are not followed", http.StatusFound: "redirects are not followed", http.StatusTemporaryRedirect: "redirects are not followed",
		http.StatusPermanentRedirect: "redirects are not followed", http.StatusUnauthorized: "same secret", http.StatusForbidden: "same secret",
		http.StatusNotFound: "correct the URL", http.StatusNotImplemented: "correct the URL", http.StatusMethodNotAllowed: "contract", http.StatusBadRequest: "contract",
	} {
		var elsewhere atomic.Int32
		mux := http.NewServeMux()
		mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
		mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, everyAnswer)
		})
		vote, errs := asked(t, httpAt(t, serveHandler(t, mux)))
		noAnswer(t, vote, errs)
		require.Zero(t, elsewhere.Load())
		for _, err := range errs {
			require.ErrorIs(t, err, participant.ErrConfig)
			require.ErrorContains(t, err, want)
		}
		_, err := grpcAt(t, serveHandler(t, mux)).Prepare(t.Context(), aBranch())
		require.ErrorIs(t, err, participant.ErrConfig)
		require.ErrorContains(t, err, want)
		require.Zero(t, elsewhere.Load())
	}
}

// A service that is not there, or never answers, holds nobody longer than the call's context.
func TestServicesThatDoNotAnswer(t *testing.T) {
	for _, kind := range kinds {
		at := func(url string) remote.Participant {
			if kind == "grpc" {
				return grpcAt(t, url)
			}
			return httpAt(t, url)
		}
		t.Run(kind+" refuses", func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			require.NoError(t, l.Close())
			vote, errs := asked(t, at("http://"+l.Addr().String()))
			noAnswer(t, vote, errs)
		})
		t.Run(kind+" is slow", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			arrived := make(chan struct{})
			p := at(serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				// It begins to answer, and goes on for ever.
				begun := map[string]string{"application/json": `{"vote":"PREPARED","reason":"`, "application/grpc": "\x00\x00\x00\x00\x02\x08"}
				w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
				_, _ = io.WriteString(w, begun[r.Header.Get("Content-Type")])
				_ = http.NewResponseController(w).Flush()
				close(arrived)
				<-r.Context().Done()
			})))
			go func() {
				<-arrived
				cancel()
			}()
			vote, err := p.Prepare(ctx, aBranch())
			require.False(t, vote.Valid())
			require.ErrorIs(t, err, context.Canceled)
		})
	}
}

// A certificate that is not the service's gets no call, and no service without one.
func TestWhoIsNotTheServiceGetsNoCall(t *testing.T) {
	var calls atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, everyAnswer)
	})
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = quiet()
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	known := x509.NewCertPool()
	known.AddCert(server.Certificate())
	plain := strings.Replace(serveHandler(t, h), "http:", "https:", 1)
	for _, c := range []struct {
		url  string
		tls  *tls.Config
		want string
	}{
		{server.URL, nil, "certificate is not valid here"},
		{server.URL, &tls.Config{RootCAs: known, ServerName: "bank.example2"}, "certificate is not valid here"},
		{server.URL, &tls.Config{RootCAs: known}, "may want a certificate"},
		{plain, nil, "does not speak TLS"},
	} {
		for i, p := range []remote.Participant{
			httpAt(t, c.url, func(cfg *remote.HTTPConfig) { cfg.TLS = c.tls }),
			grpcAt(t, c.url, func(cfg *remote.GRPCConfig) { cfg.TLS = c.tls }),
		} {
			_, err := p.Prepare(t.Context(), aBranch())
			if i == 1 && c.want == "may want a certificate" {
				// TLS 1.3 tells the client when its handshake is over: an HTTP/2 connection is
				// then at times closed before it has heard it.
				require.Error(t, err)
				continue
			}
			require.ErrorIs(t, err, participant.ErrConfig)
			require.ErrorContains(t, err, c.want)
		}
	}
	require.Zero(t, calls.Load())
	own := &tls.Config{RootCAs: known, Certificates: server.TLS.Certificates}
	vote, err := httpAt(t, server.URL, func(cfg *remote.HTTPConfig) { cfg.TLS = own }).Prepare(t.Context(), aBranch())
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
}

// The bytes of a hostile gRPC service, as HTTP/2 bodies.
func TestR4R6WhatIsNoAnswerOverGRPC(t *testing.T) {
	frame := func(flag byte, length int, message []byte) []byte {
		return append([]byte{flag, byte(length >> 24), byte(length >> 16), byte(length >> 8), byte(length)}, message...)
	}
	prepared := []byte{8, 1} // vote = 1, state = 1
	respond := func(contentType string, body []byte, status string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write(body)
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
		}
	}
	for name, handler := range map[string]http.HandlerFunc{
		"no message":       respond("application/grpc", nil, "0"),
		"an empty message": respond("application/grpc", frame(0, 0, nil), "0"),
		"another type":     respond("text/html", frame(0, 2, prepared), "0"),
		"no status": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			_, _ = w.Write(frame(0, 2, prepared))
		},
		"a status beside a vote": respond("application/grpc", frame(0, 2, prepared), "14"),
		"a status in words":      respond("application/grpc", frame(0, 2, prepared), "fine"),
		"a vote nobody knows":    respond("application/grpc", frame(0, 2, []byte{8, 99}), "0"),
		"no message's bytes":     respond("application/grpc", frame(0, 2, []byte{0xff, 0xff}), "0"),
		"two messages":           respond("application/grpc", append(frame(0, 2, prepared), frame(0, 2, prepared)...), "0"),
		"half a message":         respond("application/grpc", frame(0, 99, prepared), "0"),
		"compressed":             respond("application/grpc", frame(1, 2, prepared), "0"),
		"compressed, and it says so": func(w http.ResponseWriter, r *http.Request) {
			var small bytes.Buffer
			z := gzip.NewWriter(&small)
			_, _ = z.Write(prepared)
			_ = z.Close()
			w.Header().Set("Grpc-Encoding", "gzip")
			respond("application/grpc", frame(1, small.Len(), small.Bytes()), "0")(w, r)
		},
		"said to be huge": respond("application/grpc", frame(0, 1<<31-1, prepared), "0"),
		"huge":            respond("application/grpc", frame(0, 17<<20, bytes.Repeat([]byte{0}, 17<<20)), "0"),
	} {
		t.Run(name, func(t *testing.T) {
			p := grpcAt(t, serveHandler(t, handler))
			vote, errs := asked(t, p)
			if name == "an empty message" || name == "a vote nobody knows" {
				errs = errs[:3] // it says that nothing is prepared, and that all is forgotten
			}
			noAnswer(t, vote, errs)
		})
	}
}

func grpcAt(t *testing.T, url string, change ...func(*remote.GRPCConfig)) remote.Participant {
	t.Helper()
	cfg := remote.GRPCConfig{Name: serviceName, URL: url, Lists: true, Forgets: true}
	for _, c := range change {
		c(&cfg)
	}
	p, err := remote.NewGRPC(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}
