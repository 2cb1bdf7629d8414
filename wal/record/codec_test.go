package record_test

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

func TestRecordsReadBackAsTheyWereWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var frames []byte
		var want []record.Record
		for _, kind := range rapid.Permutation(kinds).Draw(t, "kinds") {
			r := genRecordOf(t, kind)
			var err error
			frames, err = record.Append(frames, r)
			require.NoError(t, err)
			want = append(want, r)
		}
		for _, r := range want {
			frame, _, err := record.NextFrame(frames)
			require.NoError(t, err)
			got, rest, err := record.Next(frames)
			require.NoError(t, err)
			require.Equal(t, r, got)
			require.Equal(t, r.Kind(), got.Kind())
			require.Equal(t, len(frames), len(frame)+len(rest))
			frames = rest
		}
		require.Empty(t, frames)
	})
}

func TestEveryFlippedBitIsDetected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		frame, err := record.Append(nil, genRecord(t))
		require.NoError(t, err)
		if len(frame) > 400 {
			t.Skip("long")
		}
		for bit := range len(frame) * 8 {
			damaged := bytes.Clone(frame)
			damaged[bit/8] ^= 1 << (bit % 8)
			_, _, err := record.Next(damaged)
			require.ErrorIs(t, err, record.ErrCorrupt, "bit %d", bit)
		}
		for cut := range len(frame) {
			_, _, err := record.Next(frame[:cut])
			require.ErrorIs(t, err, record.ErrCorrupt, "cut to %d bytes", cut)
		}
	})
}

func TestWhatExceedsALimitIsNotEncoded(t *testing.T) {
	tx := participant.TxID{Term: participant.NewTerm(1, 1)}
	at := time.UnixMilli(1)
	long := func(n int) string { return strings.Repeat("x", n) }
	for name, r := range map[string]record.Record{
		"invalid term":         record.Preparing{},
		"begun without time":   record.Begun{Tx: tx},
		"attributes":           record.Begun{Tx: tx, At: at, Attributes: record.Attributes{"k": long(record.MaxAttributes)}},
		"branch number":        record.Enlisted{Tx: tx, Number: participant.MaxBranches},
		"negative number":      record.Enlisted{Tx: tx, Number: -1},
		"participant":          record.Enlisted{Tx: tx, Participant: long(participant.MaxName + 1)},
		"data":                 record.Enlisted{Tx: tx, Data: make([]byte, participant.MaxData+1)},
		"no decision":          record.Decided{Tx: tx},
		"invalid decision":     record.Decided{Tx: tx, Decision: 3},
		"reason":               record.Decided{Tx: tx, Decision: record.DecisionRollback, Reason: long(record.MaxReason + 1)},
		"votes":                record.Decided{Tx: tx, Decision: record.DecisionCommit, Votes: make([]participant.Vote, participant.MaxBranches+1)},
		"invalid vote":         record.Decided{Tx: tx, Decision: record.DecisionCommit, Votes: []participant.Vote{9}},
		"invalid cause":        record.Decided{Tx: tx, Decision: record.DecisionRollback, Cause: 99},
		"by":                   record.Decided{Tx: tx, Decision: record.DecisionRollback, By: -2},
		"word of no number":    record.Operator{Tx: tx, At: at, Verb: record.VerbRetry},
		"word of no time":      record.Operator{Tx: tx, Number: 1, Verb: record.VerbRetry},
		"word of no verb":      record.Operator{Tx: tx, Number: 1, At: at},
		"invalid verb":         record.Operator{Tx: tx, Number: 1, At: at, Verb: record.VerbResolve + 1},
		"word on no branch":    record.Operator{Tx: tx, Number: 1, At: at, Verb: record.VerbRetry, Branch: -2},
		"who":                  record.Operator{Tx: tx, Number: 1, At: at, Verb: record.VerbRetry, Who: long(record.MaxWho + 1)},
		"why":                  record.Operator{Tx: tx, Number: 1, At: at, Verb: record.VerbRetry, Reason: long(record.MaxReason + 1)},
		"words":                record.Carried{State: record.State{Tx: tx, Words: make([]record.Operator, 1000)}},
		"no outcome":           record.Heuristic{Tx: tx},
		"completed when?":      record.Completed{Tx: tx, At: time.UnixMilli(0)},
		"branches":             record.Carried{State: record.State{Tx: tx, Branches: make([]record.Branch, participant.MaxBranches+1)}},
		"word without time":    record.Header{Term: tx.Term, Catalogue: &record.Catalogue{Words: record.Words{Quarantine: record.Word{Number: 1}}}},
		"word without number":  record.Header{Term: tx.Term, Catalogue: &record.Catalogue{Words: record.Words{Acceptance: record.Word{At: at, Reason: "x"}}}},
		"word too long":        record.Header{Term: tx.Term, Catalogue: &record.Catalogue{Words: record.Words{Acceptance: record.Word{Number: 1, At: at, Reason: long(record.MaxReason + 1)}}}},
		"catalogue of nothing": record.Header{Term: tx.Term, Catalogue: &record.Catalogue{Domain: long(participant.MaxDomain + 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			before := []byte("before")
			after, err := record.Append(before, r)
			require.Error(t, err)
			require.Equal(t, before, after)
		})
	}
}

func TestTheLargestStateFitsHalfASegment(t *testing.T) {
	s := record.NewState(participant.TxID{Term: participant.NewTerm(1<<24-1, 1<<32-1)})
	s.At, s.Completed = time.UnixMilli(1<<50), time.UnixMilli(1<<50)
	s.Attributes = record.Attributes{"": strings.Repeat("x", record.MaxAttributes)}
	for range participant.MaxBranches {
		s.Branches = append(s.Branches, record.Branch{
			Participant: strings.Repeat("x", participant.MaxName), Data: make([]byte, participant.MaxData),
			Reason: strings.Repeat("x", record.MaxReason),
		})
	}
	for i := range 1000 {
		w := record.Operator{
			Tx: s.Tx, Number: uint64(i + 1), At: time.UnixMilli(1 << 50), Verb: record.VerbRetry, Branch: record.NoBranch,
			Who: strings.Repeat("x", record.MaxWho), Reason: strings.Repeat("x", record.MaxReason),
		}
		if i < participant.MaxBranches {
			w.Verb, w.Branch = record.VerbForgetBranch, i
		}
		require.NoError(t, s.Apply(w))
	}
	frame, err := record.Append(nil, record.Carried{State: *s})
	require.NoError(t, err)
	require.Less(t, len(frame), 400<<10)
}

func TestAnUnknownRecordNamesWhatItTakesToReadIt(t *testing.T) {
	for _, c := range []struct{ kind, version int }{{200, 1}, {int(record.KindOperator), 1}, {int(record.KindOperator), 3}, {int(record.KindCarried), 4}, {int(record.KindBegun), 3}, {int(record.KindBegun), 0}, {int(record.KindHeader), 4}, {int(record.KindHeader), 0}, {0, 1}} {
		body, err := msgpack.Marshal([]any{c.kind, c.version, "whatever", 2, "comes"})
		require.NoError(t, err)
		_, _, err = record.Next(frame(body))
		unknown := (*record.UnknownError)(nil)
		require.ErrorAs(t, err, &unknown)
		require.Equal(t, record.UnknownError{Kind: record.Kind(c.kind), Version: c.version}, *unknown)
		require.ErrorContains(t, err, fmt.Sprintf("kind %d (", c.kind))
		require.ErrorContains(t, err, fmt.Sprintf("version %d", c.version))
		require.NotErrorIs(t, err, record.ErrCorrupt)
	}
}

func TestReasonIsCutBetweenCharacters(t *testing.T) {
	require.Equal(t, "short", record.Reason("short"))
	cut := record.Reason("x" + strings.Repeat("é", record.MaxReason))
	require.Len(t, cut, record.MaxReason-1)
	require.True(t, strings.HasSuffix(cut, "é"))
}

func TestEnumerationsNameEveryValue(t *testing.T) {
	for kind := record.KindBegun; kind <= record.KindHeader; kind++ {
		require.NotContains(t, kind.String(), "invalid")
	}
	for verb := record.VerbRetry; verb.Valid(); verb++ {
		require.NotContains(t, verb.String(), "invalid")
	}
	require.Contains(t, record.Verb(0).String(), "invalid")
	for cause := record.CauseRequested; cause.Valid(); cause++ {
		require.NotContains(t, cause.String(), "invalid")
	}
	require.Contains(t, record.Kind(0).String(), "invalid")
	require.Contains(t, record.Cause(0).String(), "invalid")
	require.Equal(t, "undecided", record.Decision(0).String())
	require.Zero(t, record.Decision(0).Outcome())
}

// frame puts a body into a frame with a right checksum.
func frame(body []byte) []byte {
	b := []byte{byte(len(body))}
	if len(body) > 127 {
		b = []byte{byte(len(body)) | 0x80, byte(len(body) >> 7)}
	}
	b = append(b, body...)
	sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
	return append(b, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
}

// FuzzNext feeds the decoder bodies with a right checksum: it must never panic,
// and what it accepts must be written and read again as the same record.
func FuzzNext(f *testing.F) {
	for i := range 50 {
		r := rapid.Custom(genRecord).Example(i)
		encoded, err := record.Append(nil, r)
		if err != nil {
			f.Fatal(err)
		}
		n := 1
		for encoded[n-1]&0x80 != 0 {
			n++
		}
		f.Add(encoded[n : len(encoded)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 1<<14-1 {
			return
		}
		_, _, _ = record.Next(body)
		r, rest, err := record.Next(frame(body))
		requireSameFromReader(t, frame(body), r, err)
		if err != nil {
			if unknown := (*record.UnknownError)(nil); !errors.Is(err, record.ErrCorrupt) && !errors.As(err, &unknown) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		require.Empty(t, rest)
		requireLibraryReads(t, body, r)
		again, err := record.Append(nil, r)
		require.NoError(t, err)
		r2, _, err := record.Next(again)
		require.NoError(t, err)
		require.Equal(t, r, r2)
	})
}

func BenchmarkAppend(b *testing.B) {
	tx := participant.TxID{Term: participant.NewTerm(1, 1)}
	for _, r := range []record.Record{
		record.Begun{Tx: tx, At: time.UnixMilli(1 << 40), Timeout: 30 * time.Second},
		record.Enlisted{Tx: tx, Participant: "bank_a", Data: []byte("account 17")},
		record.Decided{Tx: tx, Decision: record.DecisionCommit, Votes: []participant.Vote{1, 1}, By: -1},
	} {
		b.Run(r.Kind().String(), func(b *testing.B) {
			var buf []byte
			for b.Loop() {
				buf, _ = record.Append(buf[:0], r)
			}
			b.ReportMetric(float64(len(buf)), "bytes")
		})
	}
}
