package server

import (
	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
)

// maxMessage bounds what a caller may send in one message, in bytes after
// decompression (R12).
const maxMessage = 1 << 20

// wire returns how messages are read and written: the same for every procedure.
func wire() []connecthttp.Option {
	return []connecthttp.Option{
		connecthttp.WithCodecs(connectproto.NewBinaryCodec(), strictJSON()),
		connecthttp.WithReadMaxBytes(maxMessage),
		// Below it compression costs more than it saves.
		connecthttp.WithCompressMinBytes(1 << 10),
	}
}

// strictJSON refuses fields it does not know: a misspelt timeout must not become the
// default one.
func strictJSON() connect.Codec {
	codec := connectproto.NewJSONCodec()
	codec.UnmarshalOptions.DiscardUnknown = false
	return codec
}
