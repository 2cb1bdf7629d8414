package server_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/server"
)

// Whatever is sent is answered as one of the documented refusals, or done; never is it
// an error of the server's own.
func FuzzRequests(f *testing.F) {
	methods := []string{"Begin", "Enlist", "Commit", "Rollback", "Submit", "Get", "List", "Outcome"}
	types := []string{"application/json", "application/proto", "application/grpc-web+proto"}
	f.Add(uint8(0), uint8(0), []byte(`{"name":"n","timeout":"5s","requestId":"r"}`))
	f.Add(uint8(1), uint8(0), []byte(`{"transactionId":"kf12oi-0123","enlistment":{"participant":"bank_a","data":"AA=="}}`))
	f.Add(uint8(4), uint8(0), []byte(submitted))
	f.Add(uint8(6), uint8(0), []byte(`{"done":true,"limit":7,"owner":"o"}`))
	binary, err := proto.Marshal(&assentv1.SubmitRequest{Enlistments: both(), RequestId: "r"})
	require.NoError(f, err)
	f.Add(uint8(4), uint8(1), binary)
	f.Add(uint8(4), uint8(2), append([]byte{0, 0, 0, 0, byte(len(binary))}, binary...))
	s := newSite(f)
	handler := s.server.API()
	f.Fuzz(func(t *testing.T, method, kind uint8, body []byte) {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/assent.v1.TransactionService/"+methods[int(method)%len(methods)], bytes.NewReader(body))
		request.RemoteAddr = "127.0.0.1:1"
		request.Header.Set("Content-Type", types[int(kind)%len(types)])
		response := httptest.NewRecorder()
		handler.ServeHTTP(response, request)
		require.Less(t, response.Code, 500, "%s", response.Body)
		if response.Header().Get("Content-Type") == "application/json" {
			require.True(t, json.Valid(response.Body.Bytes()), "%s", response.Body)
		}
	})
}

// What is read as credentials is written and read the same; the rest is refused.
func FuzzCredentials(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"tokens":[{"name":"a","role":"client","sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","expires":"2030-01-01T00:00:00Z","participants":["p"]}]}`))
	f.Add([]byte(`{"certificates":[{"san":"dns:a","name":"a","role":"admin"}]}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(dir, "credentials.json")
		require.NoError(t, os.WriteFile(path, text, 0o600))
		c, err := server.ReadCredentials(path)
		if err != nil {
			return
		}
		require.NoError(t, server.WriteCredentials(path, c))
		again, err := server.ReadCredentials(path)
		require.NoError(t, err)
		require.Equal(t, len(c.Tokens)+len(c.Certificates), len(again.Tokens)+len(again.Certificates))
		before, err := json.Marshal(c)
		require.NoError(t, err)
		after, err := json.Marshal(again)
		require.NoError(t, err)
		require.JSONEq(t, string(before), string(after))
	})
}
