package remote

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

// What is sent raw arrives as it is, to where the participant's calls go, and is verified
// as they are.
func TestRawCallsArriveAsTheyAre(t *testing.T) {
	var path, verified string
	secret, err := ParseSecret("whsec_" + strings.Repeat("QUJD", 10))
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		body, err := receive(w, r)
		if err == nil {
			verified, err = verify(r.Header, []Secret{secret}, body, time.Now(), time.Minute)
		}
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(body)
	}))
	defer server.Close()
	raw, err := NewRaw(HTTPConfig{Name: "bank", URL: server.URL, Secrets: []Secret{secret}})
	require.NoError(t, err)
	defer func() { require.NoError(t, raw.Close()) }()

	body := []byte(`{"not": a call`)
	header := http.Header{}
	raw.Sign(header, "x-prepare", time.Now(), body)
	status, answer, err := raw.Post(t.Context(), "prepare", header, body)
	require.NoError(t, err)
	require.Equal(t, http.StatusTeapot, status)
	require.Equal(t, body, answer)
	require.Equal(t, "/prepare", path)
	require.Equal(t, "x-prepare", verified)

	status, _, err = raw.Post(t.Context(), "prepare", header, append(body, ' '))
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, status)
	require.Len(t, header, 3, "the caller's headers stay as they are")
}

// It goes nowhere that the participant does not go.
func TestRawCallsAreGuarded(t *testing.T) {
	for _, cfg := range []HTTPConfig{
		{Name: "bank", URL: "http://169.254.169.254/latest", AllowInsecure: true},
		{Name: "bank", URL: "http://bank.example"},
		{Name: "bank", URL: "https://127.0.0.1", MaxConns: -1},
		{URL: "https://127.0.0.1"},
	} {
		_, err := NewRaw(cfg)
		require.ErrorIs(t, err, participant.ErrInvalidParticipant)
	}
}
