package nats

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	natsgo "github.com/nats-io/nats.go"
)

const (
	// ownBytes is at least what the participant's own headers add to a message.
	ownBytes = 512
	// messageOverhead and valueOverhead are at least what the codec adds to a message
	// and to a value of its header.
	messageOverhead = 64
	valueOverhead   = 16
	// maxHeader keeps a header with our own below the 64 KiB that JetStream takes.
	maxHeader = 32 << 10
)

// message is what a session publishes.
type message struct {
	Subject string
	Header  map[string][]string
	Data    []byte
}

// newMessage returns a message that shares nothing with its arguments.
func newMessage(subject string, header natsgo.Header, data []byte) message {
	m := message{Subject: subject, Data: bytes.Clone(data)}
	if len(header) > 0 {
		m.Header = maps.Clone(header)
		for key, values := range m.Header {
			m.Header[key] = slices.Clone(values)
		}
	}
	return m
}

// headerSize returns how many bytes the header has on the wire.
func (m message) headerSize() int {
	size := len("NATS/1.0\r\n\r\n")
	for key, values := range m.Header {
		for _, value := range values {
			size += len(key) + len(value) + len(": \r\n")
		}
	}
	return size
}

// size is at least what the message takes when it is staged.
func (m message) size() int {
	size := messageOverhead + len(m.Subject) + len(m.Data)
	for key, values := range m.Header {
		size += len(key) + valueOverhead
		for _, value := range values {
			size += len(value) + valueOverhead
		}
	}
	return size
}

// wrongHeader tells what is wrong with a message's header.
func (m message) wrongHeader() error {
	for key, values := range m.Header {
		if strings.HasPrefix(strings.ToLower(key), "nats-") {
			return fmt.Errorf("header %q is the server's, and could make the commit fail: leave it out", key)
		}
		if key == "" || strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == ':' }) {
			return fmt.Errorf("header %q is no name of a header", key)
		}
		for _, value := range values {
			if strings.ContainsAny(value, "\r\n") {
				return fmt.Errorf("header %q has a value of several lines", key)
			}
		}
	}
	if size := m.headerSize(); size > maxHeader {
		return fmt.Errorf("%w: %d bytes of header, %d at most", ErrLimit, size, maxHeader)
	}
	return nil
}
