package record_test

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// version1 is what version 1 of each kind is on disk. Never change it: logs with
// such records exist.
var version1 = []string{
	"41970101cf000000070000feedc4100102030405067008800a0b0c0d0e0f10cf000001a3185c507bcd753082a46e616d65a87472616e73666572a56f776e6572a16fb7acdd8b",
	"2a970201cf000000070000feedc4100102030405067008800a0b0c0d0e0f1001a662616e6b5f62c40200ff72575e20",
	"1e940301cf000000070000feedc4100102030405067008800a0b0c0d0e0f108a8f0c6a",
	"2f9a0401cf000000070000feedc4100102030405067008800a0b0c0d0e0f1002c39301000302a86e6f2066756e647302cf3222dd",
	"1e940501cf000000070000feedc4100102030405067008800a0b0c0d0e0f10b6d80c51",
	"27950601cf000000070000feedc4100102030405067008800a0b0c0d0e0f10cf000001a3185d3c28c1b2353f",
	"25970701cf000000070000feedc4100102030405067008800a0b0c0d0e0f103f06a468616c66ec68f3e2",
	"63dc00100801cf000000070000feedc4100102030405067008800a0b0c0d0e0f10cf000001a3185c507bcdea6081a772657175657374a1729295a662616e6b5f61c401780100a095a662616e6b5f62c00205a13fc3c301c200a0ffcf000001a3185d3c288ae4fadb",
	"35980a01cf000000070000feedc4100102030405067008800a0b0c0d0e0f10cd012cc41009000000000000000000000000000000c0c07c693bd6",
	"67980a01cf000000070000feedc4100000000000000000000000000000000001c41000000000000000000000000000000000a66f72646572739193cf0000000300000001c4100102030405067008800a0b0c0d0e0f10c410090000000000000000000000000000002771e5bd",
}

// version2 is what version 2 is on disk of the kinds that have it, all but Header. Never
// change it.
var version2 = []string{
	"3f960102c4170000070000feed0102030405067008800a0b0c0d0e0f10cf000000a115584b75cd753082a46e616d65a87472616e73666572a56f776e6572a16f7f16872a",
	"28960202c4170000070000feed0102030405067008800a0b0c0d0e0f1001a662616e6b5f62c40200ff87201037",
	"1c930302c4170000070000feed0102030405067008800a0b0c0d0e0f101cb509bd",
	"2d990402c4170000070000feed0102030405067008800a0b0c0d0e0f1002c39301000302a86e6f2066756e647302b5aab79d",
	"1c930502c4170000070000feed0102030405067008800a0b0c0d0e0f102dac627c",
	"25940602c4170000070000feed0102030405067008800a0b0c0d0e0f10cf000000a115593722a977d6ef",
	"23960702c4170000070000feed0102030405067008800a0b0c0d0e0f103f06a468616c665e4df742",
	"5f9f0802c4170000070000feed0102030405067008800a0b0c0d0e0f10cf000001a3185c507bcdea6081a772657175657374a1729295a662616e6b5f61c401780100a095a662616e6b5f62c00205a13fc3c301c200a0ffcf000001a3185d3c28944c7c07",
}

// version3 is what version 3 is on disk of a Header, without operators' words and with.
// Never change it.
var version3 = []string{
	"91019a0a03cf000000070000feedc4100000000000000000000000000000000001c41000000000000000000000000000000000a66f7264657273c45504080000000905000000010102030405067008800a0b0c0d0e0f1002000000020102030405067008800a0b0c0d0e0f100fffffffff0102030405067008800a0b0c0d0e0f1009000000000000000000000000000000c0c051beae6e",
	"ad019a0a03cf000000070000feedc4100000000000000000000000000000000001c41000000000000000000000000000000000a66f7264657273c45504080000000905000000010102030405067008800a0b0c0d0e0f1002000000020102030405067008800a0b0c0d0e0f100fffffffff0102030405067008800a0b0c0d0e0f10090000000000000000000000000000009401cf000001a3185c507bcf0000000300000001a8726573746f726564c071a89fbc",
}

func headersOfVersion3() []record.Record {
	tx := sampleOfEachKind()[0].TxID()
	h := func(w record.Words) record.Header {
		return record.Header{Term: tx.Term, Seq: 1, Catalogue: &record.Catalogue{Domain: "orders", Terms: []record.TermMarks{
			{Term: participant.NewTerm(2, 9)},
			{Term: participant.NewTerm(3, 1), Highest: tx.UUID},
			{Term: participant.NewTerm(3, 2), Highest: tx.UUID, Mark: tx.UUID},
			{Term: participant.NewTerm(6, 1<<32-1), Highest: tx.UUID, Mark: uuid.UUID{9}},
		}, Words: w}}
	}
	return []record.Record{
		h(record.Words{}),
		h(record.Words{Quarantine: record.Word{Number: 1, At: time.UnixMilli(1_800_000_000_123), Term: participant.NewTerm(3, 1), Reason: "restored"}}),
	}
}

func sampleOfEachKind() []record.Record {
	tx := participant.TxID{Term: participant.NewTerm(7, 0xfeed), UUID: uuid.UUID{1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, 16}}
	at, end := time.UnixMilli(1_800_000_000_123), time.UnixMilli(1_800_000_060_456)
	return []record.Record{
		record.Begun{Tx: tx, At: at, Timeout: 30 * time.Second, Attributes: record.Attributes{record.AttributeName: "transfer", record.AttributeOwner: "o"}},
		record.Enlisted{Tx: tx, Number: 1, Participant: "bank_b", Data: []byte{0, 255}},
		record.Preparing{Tx: tx},
		record.Decided{
			Tx: tx, Decision: record.DecisionRollback, Presumed: true, Votes: []participant.Vote{participant.VotePrepared, 0, participant.VoteRefused},
			Cause: record.CauseRefused, Reason: "no funds", By: 2,
		},
		record.Delegated{Tx: tx},
		record.Completed{Tx: tx, At: end},
		record.Heuristic{Tx: tx, Number: 63, Outcome: participant.OutcomeHeuristicMixed, Reason: "half"},
		record.Carried{State: record.State{
			Tx: tx, At: at, Timeout: time.Minute, Attributes: record.Attributes{record.AttributeRequestID: "r"},
			Branches: []record.Branch{
				{Participant: "bank_a", Data: []byte("x"), Vote: participant.VotePrepared},
				{Participant: "bank_b", Vote: participant.VoteReadOnly, Outcome: participant.OutcomeHeuristicHazard, Reason: "?"},
			},
			Preparing: true, Delegated: true, Decision: record.DecisionCommit, By: -1, Completed: end,
		}},
		record.Header{Term: tx.Term, Seq: 300, Highest: tx.UUID, Mark: uuid.UUID{9}},
		record.Header{Term: tx.Term, Seq: 1, Catalogue: &record.Catalogue{Domain: "orders", Terms: []record.TermMarks{
			{Term: participant.NewTerm(3, 1), Highest: tx.UUID, Mark: uuid.UUID{9}},
		}}},
	}
}

func TestEveryVersionStaysReadable(t *testing.T) {
	for version, frames := range [][]string{1: version1, 2: version2, 3: version3} {
		samples := sampleOfEachKind()
		if version == 3 {
			samples = headersOfVersion3()
		}
		for i, digits := range frames {
			want := samples[i]
			frame, err := hex.DecodeString(digits)
			require.NoError(t, err)
			got, rest, err := record.Next(frame)
			require.NoError(t, err, "version %d of %s", version, want.Kind())
			require.Empty(t, rest)
			require.Equal(t, want, got)
			requireSameFromReader(t, frame, got, nil)
		}
	}
}
