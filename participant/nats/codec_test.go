package nats

import (
	"bytes"
	"strings"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestDecodeReadsWhatEncodeWrites(t *testing.T) {
	text := rapid.StringN(0, 40, -1)
	rapid.Check(t, func(t *rapid.T) {
		messages := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) message {
			m := message{Subject: text.Draw(t, "subject"), Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data")}
			if header := rapid.MapOfN(text, rapid.SliceOfN(text, 0, 3), 0, 4).Draw(t, "header"); len(header) > 0 {
				m.Header = header
			}
			return m
		}), 1, 20).Draw(t, "messages")
		data, err := encode(messages)
		require.NoError(t, err)
		got, err := decode(data)
		require.NoError(t, err)
		require.Len(t, got, len(messages))
		size := 0
		for i, m := range messages {
			require.Equal(t, m.Subject, got[i].Subject)
			require.Equal(t, string(m.Data), string(got[i].Data))
			require.Len(t, got[i].Header, len(m.Header))
			for key, values := range m.Header {
				require.Equal(t, strings.Join(values, "|"), strings.Join(got[i].Header[key], "|"))
			}
			size += m.size()
		}
		require.LessOrEqual(t, len(data), size) // R12: what is counted is not less than what is stored
	})
}

func TestDecodeRejects(t *testing.T) {
	good, err := encode([]message{{Subject: "a", Data: []byte("b")}})
	require.NoError(t, err)
	newer := bytes.Clone(good)
	newer[1]++
	none, err := encode(nil)
	require.NoError(t, err)
	many, err := encode(make([]message, maxMessages+1))
	require.NoError(t, err)
	for what, data := range map[string][]byte{
		"nothing": nil, "text": []byte("messages"), "cut": good[:len(good)-1], "more": append(good[:len(good):len(good)], 0),
		"newer": newer, "no messages": none, "too many": many, "promises": {0x92, 1, 0xdd, 0xff, 0xff, 0xff, 0xff}, "a header of promises": {0x92, 1, 0x91, 0x93, 0xa1, 'a', 0xdf, 0xff, 0xff, 0xff, 0xff},
		"long data": {0x92, 1, 0x91, 0x93, 0xa1, 'a', 0x80, 0xc6, 0xff, 0xff, 0xff, 0xff}, "nil": {0xc0}, "four": {0x92, 1, 0x91, 0x94, 0xa1, 'a', 0x80, 0xc0, 0xc0},
	} {
		_, err := decode(data)
		require.ErrorIs(t, err, errDamaged, what)
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range []message{{Subject: "a"}, {Subject: "a.b", Header: natsgo.Header{"K": {"v", "w"}}, Data: []byte{0, 1}}} {
		data, err := encode([]message{m, m})
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte{0x92, 1, 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		messages, err := decode(data)
		if err != nil {
			require.ErrorIs(t, err, errDamaged)
			return
		}
		again, err := encode(messages)
		require.NoError(t, err)
		got, err := decode(again)
		require.NoError(t, err)
		require.Equal(t, messages, got)
	})
}
