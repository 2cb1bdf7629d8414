package remote

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

func branches() *rapid.Generator[participant.Branch] {
	return rapid.Custom(func(t *rapid.T) participant.Branch {
		b := participant.Branch{
			Domain: rapid.StringMatching(`[a-z0-9-]{1,16}`).Draw(t, "domain"),
			Tx: participant.TxID{
				Term: participant.NewTerm(rapid.Uint32Range(1, 1<<24-1).Draw(t, "counter"), rapid.Uint32().Draw(t, "random")),
				UUID: uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid")),
			},
			Epoch:       rapid.Uint64().Draw(t, "epoch"),
			Number:      rapid.IntRange(0, participant.MaxBranches-1).Draw(t, "number"),
			Participant: rapid.StringMatching(`[A-Za-z0-9._-]{1,64}`).Draw(t, "participant"),
			Data:        rapid.SliceOfN(rapid.Byte(), 0, participant.MaxData).Draw(t, "data"),
		}
		if rapid.Bool().Draw(t, "has a deadline") {
			b.Deadline = time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
		}
		return b
	})
}

// wired takes a message over the wire, so that what it cannot carry is lost.
func wired[M proto.Message](t require.TestingT, m M) M {
	bytes, err := proto.Marshal(m)
	require.NoError(t, err)
	read := m.ProtoReflect().New().Interface()
	require.NoError(t, proto.Unmarshal(bytes, read))
	return read.(M)
}

func TestABranchIsTheSameOnTheOtherSide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := branches().Draw(t, "branch")
		read, err := readBranchRef(wired(t, newBranchRef(b)))
		require.NoError(t, err)
		if len(b.Data) == 0 {
			b.Data, read.Data = nil, nil
		}
		require.Equal(t, b, read)
		named, err := readBranchRef(wired(t, newBranchName(b)))
		require.NoError(t, err)
		require.Equal(t, b.XID(), named.XID())
	})
}

func TestABranchThatIsNoneIsRefused(t *testing.T) {
	good := func() *assentv1.BranchRef {
		return newBranchRef(participant.Branch{Domain: "d", Tx: participant.TxID{Term: participant.NewTerm(1, 2)}, Participant: "p"})
	}
	_, err := readBranchRef(good())
	require.NoError(t, err)
	for want, spoil := range map[string]func(*assentv1.BranchRef){
		"domain":         func(r *assentv1.BranchRef) { r.Domain = "a:b" },
		"transaction id": func(r *assentv1.BranchRef) { r.TransactionId = strings.ToUpper(r.TransactionId) },
		"branch number":  func(r *assentv1.BranchRef) { r.Number = participant.MaxBranches },
		"bytes of data":  func(r *assentv1.BranchRef) { r.Data = make([]byte, participant.MaxData+1) },
		"name":           func(r *assentv1.BranchRef) { r.Participant = "a/b" },
		"deadline":       func(r *assentv1.BranchRef) { r.Deadline = &timestamppb.Timestamp{Seconds: 1 << 60} },
	} {
		r := good()
		spoil(r)
		_, err := readBranchRef(r)
		require.ErrorContains(t, err, want)
	}
	_, err = readBranchRef(nil)
	require.ErrorContains(t, err, "no branch")
	far := participant.Branch{Deadline: time.Unix(1<<50, 0)}
	require.Nil(t, newBranchRef(far).Deadline, "a deadline that can't be written is none")
}

// R4: whatever is no certain vote is unknown.
func TestR4VotesAreReadAsTheyWereGiven(t *testing.T) {
	why := errors.New("no stock")
	for _, vote := range []participant.Vote{participant.VotePrepared, participant.VoteReadOnly, participant.VoteRefused} {
		r, err := newPrepareResponse(vote, nil)
		require.NoError(t, err)
		read, err := readPrepareResponse(wired(t, r))
		require.Equal(t, vote, read)
		require.Equal(t, vote == participant.VoteRefused, errors.Is(err, participant.ErrRefused))
	}
	r, err := newPrepareResponse(participant.VoteRefused, why)
	require.NoError(t, err)
	vote, err := readPrepareResponse(wired(t, r))
	require.Equal(t, participant.VoteRefused, vote)
	require.ErrorIs(t, err, participant.ErrRefused)
	require.EqualError(t, err, "no stock")

	for _, vote := range []participant.Vote{0, participant.VotePrepared, participant.VoteReadOnly, 77} {
		_, err := newPrepareResponse(vote, why)
		require.ErrorIs(t, err, why)
	}
	_, err = newPrepareResponse(77, nil)
	require.ErrorContains(t, err, "invalid vote")
	_, err = newPrepareResponse(participant.VoteRefused, fmt.Errorf("no: %w", participant.ErrStaleEpoch))
	require.ErrorIs(t, err, participant.ErrStaleEpoch)
	for _, unknown := range []assentv1.Vote{0, 4, -1} {
		vote, err := readPrepareResponse(&assentv1.PrepareResponse{Vote: unknown})
		require.False(t, vote.Valid())
		require.ErrorContains(t, err, "is not one of")
	}
}

// R7: not knowing a branch reaches the coordinator as that, and as nothing else.
func TestR7AnswersAreReadAsTheyWereGiven(t *testing.T) {
	why := errors.New("by hand")
	other := errors.New("the disk is full")
	for o := participant.OutcomeCommitted; o.Valid(); o++ {
		err := fmt.Errorf("branch: %w", &participant.HeuristicError{Outcome: o, Err: why})
		commit, noAnswer := newCommitResponse(err)
		require.NoError(t, noAnswer)
		rollback, noAnswer := newRollbackResponse(err)
		require.NoError(t, noAnswer)
		for done, err := range map[participant.Outcome]error{
			participant.OutcomeCommitted: readCommitResponse(wired(t, commit)), participant.OutcomeRolledBack: readRollbackResponse(wired(t, rollback)),
		} {
			var heuristic *participant.HeuristicError
			if o == done {
				require.NoError(t, err)
				continue
			}
			require.ErrorAs(t, err, &heuristic)
			require.Equal(t, o, heuristic.Outcome)
			require.ErrorContains(t, err, "by hand")
		}
	}
	commit, err := newCommitResponse(&participant.HeuristicError{Outcome: 99})
	require.NoError(t, err)
	var heuristic *participant.HeuristicError
	require.ErrorAs(t, readCommitResponse(commit), &heuristic)
	require.Equal(t, participant.OutcomeHeuristicHazard, heuristic.Outcome)

	commit, err = newCommitResponse(fmt.Errorf("what: %w", participant.ErrUnknownBranch))
	require.NoError(t, err)
	require.ErrorIs(t, readCommitResponse(wired(t, commit)), participant.ErrUnknownBranch)
	_, err = newCommitResponse(other)
	require.ErrorIs(t, err, other)
	_, err = newRollbackResponse(other)
	require.ErrorIs(t, err, other)
	for _, unknown := range []assentv1.BranchState{0, 8, -1} {
		err := readCommitResponse(&assentv1.ParticipantServiceCommitResponse{State: unknown})
		require.ErrorContains(t, err, "none that is known")
		require.False(t, errors.As(err, &heuristic) || errors.Is(err, participant.ErrUnknownBranch))
	}
	require.Error(t, readCommitResponse(nil))
	require.Error(t, readRollbackResponse(nil))
}

// R10: a list is all of the domain, and of nothing else.
func TestR10AListIsReadWholeOrNotAtAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l participant.Listing
		for _, b := range rapid.SliceOf(branches()).Draw(t, "prepared") {
			l.Prepared = append(l.Prepared, participant.Branch{Domain: "d", Tx: b.Tx, Number: b.Number})
			l.Highest = append(l.Highest, b.Tx)
		}
		r := wired(t, newListPreparedResponse(l))
		read, err := readListPreparedResponse(r, "d")
		require.NoError(t, err)
		require.Equal(t, l, read)
		if len(l.Prepared) == 0 {
			return
		}
		_, err = readListPreparedResponse(r, "d2")
		require.ErrorContains(t, err, "list that domain alone")
		r.Branches[0].TransactionId = ""
		_, err = readListPreparedResponse(r, "d")
		require.Error(t, err)
	})
	_, err := readListPreparedResponse(&assentv1.ListPreparedResponse{Highest: []string{"x"}}, "d")
	require.ErrorContains(t, err, "highest")
}

// R9: that a newer coordinator drives the transaction is told as that.
func TestR9FailuresAreReadAsTheyWereGiven(t *testing.T) {
	for _, is := range []error{participant.ErrStaleEpoch, participant.ErrConfig} {
		err := readFailure(wired(t, newFailure(fmt.Errorf("here: %w", is))))
		require.ErrorIs(t, err, is)
		require.ErrorContains(t, err, "here: ")
	}
	require.EqualError(t, readFailure(newFailure(errors.New("full"))), "full")
	require.Error(t, readFailure(nil))
	require.ErrorIs(t, readFailure(&assentv1.ParticipantFailure{StaleEpoch: true}), participant.ErrStaleEpoch)
}

// R12: what a service says is bounded.
func TestR12TextsAreClipped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOfN(rapid.Byte(), 0, 3*maxReason).Draw(t, "bytes"))
		if rapid.Bool().Draw(t, "valid") {
			text = rapid.String().Draw(t, "text") + strings.Repeat("é", rapid.IntRange(0, maxReason).Draw(t, "more"))
		}
		short := clipped(text)
		require.True(t, utf8.ValidString(short))
		require.LessOrEqual(t, len(short), maxReason)
		require.NotContains(t, short, "\x00")
		require.NotContains(t, short, "\x1b")
	})
	require.Len(t, clipped(strings.Repeat("a", 2*maxReason)), maxReason)
	require.Equal(t, "a b", clipped("a\x1bb"))
}
