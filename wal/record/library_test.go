package record_test

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// The package writes and reads msgpack by itself: byte for byte what the library
// writes, and nothing but what the library reads as the same.
func TestTheLibraryWritesTheSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genRecord(t)
		ours, err := record.Append(nil, r)
		require.NoError(t, err)
		var body bytes.Buffer
		library := msgpack.NewEncoder(&body)
		library.UseCompactInts(true)
		library.SetSortMapKeys(true)
		require.NoError(t, library.Encode(fields(r, newest(r))))
		if body.Len() < 1<<14 { // the length takes two bytes at most
			require.Equal(t, frame(body.Bytes()), ours)
		}
		requireLibraryReads(t, body.Bytes(), r)
	})
}

// requireLibraryReads fails unless the library finds in the body what r holds.
func requireLibraryReads(t require.TestingT, body []byte, r record.Record) {
	read, err := msgpack.NewDecoder(bytes.NewReader(body)).DecodeInterface()
	require.NoError(t, err)
	version := plain(read.([]any)[1]).(int64)
	require.Equal(t, plain(fields(r, version)), plain(read))
}

// newest is the version in which the record is written.
func newest(r record.Record) int64 {
	h, ok := r.(record.Header)
	carried, _ := r.(record.Carried)
	switch {
	case len(carried.State.Words) > 0:
		return 3
	case !ok:
		return record.Version
	case h.Catalogue != nil && len(h.Catalogue.Terms) > 256:
		return 3
	case h.Catalogue != nil && h.Catalogue.Words != (record.Words{}):
		return 2
	default:
		return 1
	}
}

// fields are a record's values on disk, in order.
func fields(r record.Record, version int64) []any {
	id := r.TxID()
	if h, ok := r.(record.Header); ok {
		return append([]any{uint8(r.Kind()), version, uint64(h.Term), h.Highest[:]}, ofHeader(h, version)...)
	}
	if version == 1 {
		return append([]any{uint8(r.Kind()), version, uint64(id.Term), id.UUID[:]}, ofKind(r, 0)...)
	}
	since := int64(0)
	for _, b := range id.UUID[:6] {
		since = since<<8 | int64(b)
	}
	term := binary.BigEndian.AppendUint64(nil, uint64(id.Term))
	return append([]any{uint8(r.Kind()), version, append(term[1:], id.UUID[:]...)}, ofKind(r, since)...)
}

// ofKind takes the times of Begun and Completed as milliseconds since since.
func ofKind(r record.Record, since int64) []any {
	switch r := r.(type) {
	case record.Begun:
		return []any{r.At.UnixMilli() - since, r.Timeout.Milliseconds(), texts(r.Attributes)}
	case record.Enlisted:
		return []any{r.Number, r.Participant, r.Data}
	case record.Decided:
		return []any{uint8(r.Decision), r.Presumed, votes(r.Votes), uint8(r.Cause), r.Reason, r.By}
	case record.Completed:
		return []any{r.At.UnixMilli() - since}
	case record.Heuristic:
		return []any{r.Number, uint8(r.Outcome), r.Reason}
	case record.Operator:
		return ofOperator(r, since)
	case record.Carried:
		return ofState(r.State, since)
	default:
		return nil
	}
}

func texts(a record.Attributes) map[string]string {
	if a == nil {
		return map[string]string{}
	}
	return a
}

func votes(votes []participant.Vote) []any {
	all := []any{}
	for _, v := range votes {
		all = append(all, uint8(v))
	}
	return all
}

func ofOperator(r record.Operator, since int64) []any {
	return []any{r.Number, r.At.UnixMilli() - since, uint8(r.Verb), r.Branch, uint8(r.Outcome), r.Who, r.Reason}
}

func ofState(s record.State, since int64) []any {
	at, completed := int64(0), int64(0)
	if !s.At.IsZero() {
		at = s.At.UnixMilli()
	}
	if !s.Completed.IsZero() {
		completed = s.Completed.UnixMilli()
	}
	branches := []any{}
	for _, b := range s.Branches {
		branches = append(branches, []any{b.Participant, b.Data, uint8(b.Vote), uint8(b.Outcome), b.Reason})
	}
	all := []any{
		at, s.Timeout.Milliseconds(), texts(s.Attributes), branches, s.Preparing, s.Delegated,
		uint8(s.Decision), s.Presumed, uint8(s.Cause), s.Reason, s.By, completed,
	}
	if len(s.Words) > 0 {
		words := []any{}
		for _, w := range s.Words {
			words = append(words, ofOperator(w, since))
		}
		all = append(all, words)
	}
	return all
}

func ofHeader(h record.Header, version int64) []any {
	if h.Catalogue == nil {
		return []any{h.Seq, h.Mark[:], nil, nil}
	}
	all := []any{h.Seq, h.Mark[:], h.Catalogue.Domain}
	if version < 3 {
		terms := []any{}
		for _, m := range h.Catalogue.Terms {
			terms = append(terms, []any{uint64(m.Term), m.Highest[:], m.Mark[:]})
		}
		all = append(all, terms)
	} else {
		all = append(all, packed(h.Catalogue.Terms))
	}
	if words := h.Catalogue.Words; words != (record.Words{}) || version == 3 {
		all = append(all, ofWord(words.Quarantine), ofWord(words.Acceptance))
	}
	return all
}

// packed is the terms of a catalogue of many.
func packed(terms []record.TermMarks) []byte {
	b := binary.AppendUvarint(nil, uint64(len(terms)))
	before := uint32(0)
	for _, m := range terms {
		counter := uint32(m.Term >> 32)
		head := uint64(counter-before) << 2
		var ids []byte
		none := uuid.UUID{}
		switch {
		case m.Highest == none && m.Mark == none:
		case m.Mark == none:
			head, ids = head|1, m.Highest[:]
		case m.Mark == m.Highest:
			head, ids = head|2, m.Highest[:]
		default:
			head, ids = head|3, append(m.Highest[:], m.Mark[:]...)
		}
		b = binary.AppendUvarint(b, head)
		b = binary.BigEndian.AppendUint32(b, uint32(m.Term))
		b = append(b, ids...)
		before = counter
	}
	return b
}

func ofWord(w record.Word) any {
	if w == (record.Word{}) {
		return nil
	}
	return []any{w.Number, w.At.UnixMilli(), uint64(w.Term), w.Reason}
}

// plain makes values comparable that mean the same to a record: numbers of every
// type, and what is empty and what is nil.
func plain(v any) any {
	switch v := v.(type) {
	case []any:
		all := make([]any, len(v))
		for i := range v {
			all[i] = plain(v[i])
		}
		if len(all) > 0 {
			return all
		}
	case map[string]string:
		all := map[string]any{}
		for k, s := range v {
			all[k] = s
		}
		return plain(all)
	case map[string]any:
		for k := range v {
			v[k] = plain(v[k])
		}
		if len(v) > 0 {
			return v
		}
	case []byte:
		if len(v) > 0 {
			return v
		}
	case string:
		if v != "" {
			return v
		}
	default:
		switch n := reflect.ValueOf(v); {
		case n.CanInt():
			return n.Int()
		case n.CanUint():
			return int64(n.Uint())
		}
		return v
	}
	return nil
}
