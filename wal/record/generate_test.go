package record_test

import (
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

func genUUID(t *rapid.T) (u uuid.UUID) {
	copy(u[:], rapid.SliceOfN(rapid.Byte(), len(u), len(u)).Draw(t, "uuid"))
	return u
}

func genTerm(t *rapid.T) participant.Term {
	return participant.NewTerm(rapid.Uint32Range(1, 1<<24-1).Draw(t, "counter"), rapid.Uint32().Draw(t, "random"))
}

func genTx(t *rapid.T) participant.TxID {
	id := genUUID(t)
	if rapid.Bool().Draw(t, "early") {
		clear(id[:4]) // so that genTime draws times before it and after it
	}
	return participant.TxID{Term: genTerm(t), UUID: id}
}

// genTime draws what a record keeps of a time: whole milliseconds.
func genTime(t *rapid.T) time.Time {
	return time.UnixMilli(rapid.Int64Range(1, 1<<50).Draw(t, "ms"))
}

func genText(t *rapid.T, limit int) string {
	return rapid.StringN(0, -1, limit).Draw(t, "text")
}

func genName(t *rapid.T) string {
	return rapid.StringMatching(`[A-Za-z0-9._-]{1,64}`).Draw(t, "name")
}

func genData(t *rapid.T) []byte {
	data := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "data")
	if rapid.IntRange(0, 9).Draw(t, "large") == 0 {
		data = make([]byte, participant.MaxData)
	}
	if len(data) == 0 {
		return nil // no data and empty data are the same
	}
	return data
}

func genAttributes(t *rapid.T) record.Attributes {
	m := rapid.MapOfN(rapid.StringN(0, 8, 8), rapid.StringN(0, 100, 100), 0, 9).Draw(t, "attributes")
	if len(m) == 0 {
		return nil
	}
	return m
}

func genNumber(t *rapid.T) int { return rapid.IntRange(0, participant.MaxBranches-1).Draw(t, "number") }

func genBy(t *rapid.T) int { return rapid.IntRange(-1, participant.MaxBranches-1).Draw(t, "by") }

func genVote(t *rapid.T) participant.Vote {
	return rapid.SampledFrom([]participant.Vote{0, participant.VotePrepared, participant.VoteReadOnly, participant.VoteRefused}).Draw(t, "vote")
}

func genOutcome(t *rapid.T) participant.Outcome {
	return participant.Outcome(rapid.Uint8Range(1, uint8(participant.OutcomeHeuristicMixed)).Draw(t, "outcome"))
}

func genDecision(t *rapid.T) record.Decision {
	return rapid.SampledFrom([]record.Decision{record.DecisionCommit, record.DecisionRollback}).Draw(t, "decision")
}

func genCause(t *rapid.T) record.Cause {
	return record.Cause(rapid.Uint8Range(0, uint8(record.CauseContext)).Draw(t, "cause"))
}

func genDuration(t *rapid.T) time.Duration {
	return time.Duration(rapid.Int64Range(-1e12, 1e12).Draw(t, "ms")) * time.Millisecond
}

// genRecord draws any record that may be encoded, of any kind.
func genRecord(t *rapid.T) record.Record {
	return genRecordOf(t, rapid.SampledFrom(kinds).Draw(t, "kind"))
}

func genRecordOf(t *rapid.T, kind record.Kind) record.Record {
	tx := genTx(t)
	switch kind {
	case record.KindBegun:
		return record.Begun{Tx: tx, At: genTime(t), Timeout: genDuration(t), Attributes: genAttributes(t)}
	case record.KindEnlisted:
		return record.Enlisted{Tx: tx, Number: genNumber(t), Participant: genName(t), Data: genData(t)}
	case record.KindPreparing:
		return record.Preparing{Tx: tx}
	case record.KindDecided:
		return record.Decided{
			Tx: tx, Decision: genDecision(t), Presumed: rapid.Bool().Draw(t, "presumed"), Votes: genVotes(t),
			Cause: genCause(t), Reason: genText(t, record.MaxReason), By: genBy(t),
		}
	case record.KindDelegated:
		return record.Delegated{Tx: tx}
	case record.KindCompleted:
		return record.Completed{Tx: tx, At: genTime(t)}
	case record.KindHeuristic:
		return record.Heuristic{Tx: tx, Number: genNumber(t), Outcome: genOutcome(t), Reason: genText(t, record.MaxReason)}
	case record.KindOperator:
		return genOperator(t, tx)
	case record.KindCarried:
		return record.Carried{State: genState(t, tx)}
	default:
		return genHeader(t)
	}
}

var kinds = []record.Kind{
	record.KindBegun, record.KindEnlisted, record.KindPreparing, record.KindDecided, record.KindDelegated,
	record.KindCompleted, record.KindHeuristic, record.KindCarried, record.KindOperator, record.KindHeader,
}

func genVotes(t *rapid.T) (votes []participant.Vote) {
	for range rapid.IntRange(0, participant.MaxBranches).Draw(t, "votes") {
		votes = append(votes, genVote(t))
	}
	return votes
}

func genState(t *rapid.T, tx participant.TxID) record.State {
	s := record.State{
		Tx: tx, Timeout: genDuration(t), Attributes: genAttributes(t),
		Preparing: rapid.Bool().Draw(t, "preparing"), Delegated: rapid.Bool().Draw(t, "delegated"),
		Presumed: rapid.Bool().Draw(t, "presumed"), Cause: genCause(t), Reason: genText(t, record.MaxReason), By: genBy(t),
	}
	if rapid.Bool().Draw(t, "begun") {
		s.At = genTime(t)
	}
	if rapid.Bool().Draw(t, "decided") {
		s.Decision = genDecision(t)
	}
	if rapid.Bool().Draw(t, "completed") {
		s.Completed = genTime(t)
	}
	for range rapid.IntRange(0, 5).Draw(t, "branches") {
		b := record.Branch{Participant: genName(t), Data: genData(t), Vote: genVote(t), Reason: genText(t, record.MaxReason)}
		if rapid.Bool().Draw(t, "ended") {
			b.Outcome = genOutcome(t)
		}
		s.Branches = append(s.Branches, b)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "words") {
		w := genOperator(t, tx)
		w.Number = uint64(i) + 1
		s.Words = append(s.Words, w)
	}
	return s
}

// genOperator draws from few numbers, so that two words often have the same.
func genOperator(t *rapid.T, tx participant.TxID) record.Operator {
	return record.Operator{
		Tx: tx, Number: rapid.Uint64Range(1, 3).Draw(t, "number of the word"), At: genTime(t),
		Verb: record.Verb(rapid.Uint8Range(1, uint8(record.VerbResolve)).Draw(t, "verb")), Branch: genBy(t),
		Outcome: rapid.SampledFrom([]participant.Outcome{0, participant.OutcomeCommitted, participant.OutcomeRolledBack}).Draw(t, "outcome"),
		Who:     genText(t, record.MaxWho), Reason: genText(t, record.MaxReason),
	}
}

func genHeader(t *rapid.T) record.Header {
	h := record.Header{Term: genTerm(t), Seq: rapid.Uint64().Draw(t, "seq"), Highest: genUUID(t), Mark: genUUID(t)}
	if rapid.Bool().Draw(t, "catalogue") {
		h.Catalogue = &record.Catalogue{Domain: rapid.StringMatching(`[a-z0-9-]{1,16}`).Draw(t, "domain")}
		for range rapid.IntRange(0, 5).Draw(t, "terms") {
			h.Catalogue.Terms = append(h.Catalogue.Terms, genTermMarks(t))
		}
		if n := len(h.Catalogue.Terms); n > 0 && rapid.Bool().Draw(t, "many") {
			for i := range rapid.IntRange(250, 300).Draw(t, "more") {
				h.Catalogue.Terms = append(h.Catalogue.Terms, h.Catalogue.Terms[i%n])
				h.Catalogue.Terms[i].Term += participant.Term(i) << 32
			}
		}
		if rapid.Bool().Draw(t, "words") {
			h.Catalogue.Words = genWords(t)
		}
	}
	return h
}

func genTermMarks(t *rapid.T) record.TermMarks {
	m := record.TermMarks{Term: genTerm(t), Highest: genUUID(t), Mark: genUUID(t)}
	switch rapid.IntRange(0, 3).Draw(t, "ids") {
	case 0:
		m.Highest, m.Mark = uuid.Nil, uuid.Nil
	case 1:
		m.Mark = uuid.Nil
	case 2:
		m.Mark = m.Highest
	}
	return m
}

func genWords(t *rapid.T) record.Words {
	return record.Words{Quarantine: genWord(t), Acceptance: genWord(t)}
}

// genWord draws from few numbers, so that two words often have the same.
func genWord(t *rapid.T) record.Word {
	n := rapid.Uint64Range(0, 3).Draw(t, "number of the word")
	if n == 0 {
		return record.Word{}
	}
	return record.Word{Number: n, At: genTime(t), Term: genTerm(t), Reason: genText(t, record.MaxReason)}
}

// genHistory draws the records that coordinators could have left of one
// transaction, whole or cut off anywhere, some of them re-written as Carried.
func genHistory(t *rapid.T) []record.Record {
	tx := genTx(t)
	h := []record.Record{record.Begun{Tx: tx, At: genTime(t), Timeout: genDuration(t), Attributes: genAttributes(t)}}
	branches := rapid.IntRange(0, 4).Draw(t, "branches")
	for i := range branches {
		h = append(h, record.Enlisted{Tx: tx, Number: i, Participant: genName(t), Data: genData(t)})
	}
	h = append(h, record.Preparing{Tx: tx})
	if rapid.Bool().Draw(t, "delegated") {
		h[len(h)-1] = record.Delegated{Tx: tx}
	}
	decided := record.Decided{Tx: tx, Decision: genDecision(t), By: -1}
	for range branches {
		decided.Votes = append(decided.Votes, genVote(t))
	}
	if decided.Decision == record.DecisionRollback {
		decided.Cause, decided.Reason, decided.By = genCause(t), genText(t, 20), genBy(t)
	}
	h = append(h, decided)
	for i := range branches {
		outcome := genOutcome(t)
		for range rapid.IntRange(0, 2).Draw(t, "suspicions") {
			h = append(h, record.Heuristic{Tx: tx, Number: i, Outcome: participant.OutcomeHeuristicHazard, Reason: genText(t, 5)})
		}
		if rapid.Bool().Draw(t, "heuristic") {
			h = append(h, record.Heuristic{Tx: tx, Number: i, Outcome: outcome, Reason: genText(t, 5)})
		}
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "operators' words") {
		w := genOperator(t, tx)
		w.Number = uint64(i) + 1
		h = append(h, w)
	}
	for range rapid.IntRange(0, 1).Draw(t, "many words") * 80 { // more than are kept
		w := record.Operator{
			Tx: tx, Number: uint64(len(h)), At: time.UnixMilli(int64(len(h))), Branch: record.NoBranch,
			Verb: rapid.SampledFrom([]record.Verb{record.VerbRetry, record.VerbRetry, record.VerbRetry, record.VerbPause, record.VerbResume}).Draw(t, "verb"),
		}
		h = append(h, w)
	}
	for range rapid.IntRange(1, 2).Draw(t, "completions") { // a crash may lose the first for a while
		h = append(h, record.Completed{Tx: tx, At: genTime(t)})
	}
	return h[:rapid.IntRange(1, len(h)).Draw(t, "length")]
}
