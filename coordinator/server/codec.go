package server

import (
	"net/http"
	"strings"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"

	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
)

// maxMessage bounds what a caller may send in one message, in bytes after
// decompression (R12).
const maxMessage = 1 << 20

// maxAttached bounds what an attached instance may send in one message: it may have
// much to list.
const maxAttached = 4 << 20

// wire returns how messages are read and written.
func wire() []connecthttp.Option {
	return []connecthttp.Option{
		connecthttp.WithCodecs(connectproto.NewBinaryCodec(), strictJSON()),
		connecthttp.WithReadMaxBytes(maxMessage),
		connecthttp.WithConditionalOptions(func(spec connect.Spec) []connecthttp.Option {
			if spec.Procedure == assentv1connect.AttachmentServiceAttachProcedure {
				return []connecthttp.Option{connecthttp.WithReadMaxBytes(maxAttached)}
			}
			return nil
		}),
		// Below it compression costs more than it saves.
		connecthttp.WithCompressMinBytes(1 << 10),
	}
}

// typed says what is wrong with a form, which is what curl sends unless it is told
// otherwise: connect's answer to it has no words.
func typed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
			say(w, http.StatusUnsupportedMediaType, "want the header Content-Type: application/json (curl: -H 'Content-Type: application/json')")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// strictJSON refuses fields it does not know: a misspelt timeout must not become the
// default one.
func strictJSON() connect.Codec {
	codec := connectproto.NewJSONCodec()
	codec.UnmarshalOptions.DiscardUnknown = false
	return codec
}
