package nats

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/vmihailenco/msgpack/v5"
)

// stagedVersion is that of what is staged:
//
//	[version, [[subject, {key: [value, ...]}, data], ...]]
const stagedVersion = 1

var errDamaged = errors.New("the messages that the server keeps for the branch are damaged")

func encode(messages []message) ([]byte, error) {
	var buffer bytes.Buffer
	e := encoder{Encoder: msgpack.NewEncoder(&buffer)}
	e.note(e.EncodeArrayLen(2))
	e.note(e.EncodeInt(stagedVersion))
	e.note(e.EncodeArrayLen(len(messages)))
	for _, m := range messages {
		e.note(e.EncodeArrayLen(3))
		e.note(e.EncodeString(m.Subject))
		e.note(e.EncodeMapLen(len(m.Header)))
		for _, key := range slices.Sorted(maps.Keys(m.Header)) {
			e.note(e.EncodeString(key))
			e.note(e.EncodeArrayLen(len(m.Header[key])))
			for _, value := range m.Header[key] {
				e.note(e.EncodeString(value))
			}
		}
		e.note(e.EncodeBytes(m.Data))
	}
	if e.err != nil {
		return nil, fmt.Errorf("encode the messages: %w", e.err)
	}
	return buffer.Bytes(), nil
}

// encoder keeps the first error.
type encoder struct {
	*msgpack.Encoder
	err error
}

func (e *encoder) note(err error) {
	if e.err == nil {
		e.err = err
	}
}

// decode reads what encode writes. It reads item by item: the library's decoding of
// slices makes room for as many as the data promises.
func decode(data []byte) ([]message, error) {
	r := bytes.NewReader(data)
	d := decoder{Decoder: msgpack.NewDecoder(r), r: r}
	d.expect(d.array(), 2)
	version := read(&d, d.DecodeInt)
	if d.err == nil && version != stagedVersion {
		return nil, fmt.Errorf("%w: they have version %d, this program reads %d", errDamaged, version, stagedVersion)
	}
	var messages []message
	for range d.array() {
		messages = append(messages, d.message())
	}
	if d.err == nil && (r.Len() > 0 || len(messages) == 0 || len(messages) > maxMessages) {
		d.err = fmt.Errorf("%d messages and %d more bytes", len(messages), r.Len())
	}
	if d.err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, d.err)
	}
	return messages, nil
}

// decoder keeps the first error, and reads nothing after it.
type decoder struct {
	*msgpack.Decoder
	r   *bytes.Reader
	err error
}

func (d *decoder) message() (m message) {
	d.expect(d.array(), 3)
	m.Subject = read(d, d.DecodeString)
	for range d.length(d.DecodeMapLen) {
		key := read(d, d.DecodeString)
		values := []string{}
		for range d.array() {
			values = append(values, read(d, d.DecodeString))
		}
		if m.Header == nil {
			m.Header = map[string][]string{}
		}
		m.Header[key] = values
	}
	m.Data = read(d, d.DecodeBytes)
	return m
}

func read[T any](d *decoder, decode func() (T, error)) (value T) {
	if d.err == nil {
		value, d.err = decode()
	}
	return value
}

func (d *decoder) array() int { return d.length(d.DecodeArrayLen) }

// length reads how many items follow. Each takes a byte at least.
func (d *decoder) length(decode func() (int, error)) int {
	n := read(d, decode)
	if d.err == nil && (n < 0 || n > d.r.Len()) {
		d.err = fmt.Errorf("%d items in %d bytes", n, d.r.Len())
	}
	if d.err != nil {
		return 0
	}
	return n
}

func (d *decoder) expect(n, want int) {
	if d.err == nil && n != want {
		d.err = fmt.Errorf("%d items, want %d", n, want)
	}
}
