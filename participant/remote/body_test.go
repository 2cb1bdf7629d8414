package remote

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// What a service reads of a branch is what it was told, and any call fits into its limit.
func TestABranchIsTheSameInJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := branches().Draw(t, "branch")
		if rapid.Bool().Draw(t, "text") {
			b.Data = []byte(strings.Repeat(rapid.StringN(0, 64, 64).Draw(t, "data"), rapid.IntRange(1, 64).Draw(t, "times")))
		}
		ref := newBranchRef(b)
		body, err := encode(newBranchBody(phaseCommit, ref))
		require.NoError(t, err)
		require.LessOrEqual(t, len(body), maxRequest)
		read, err := readBranchBody(body, phaseCommit)
		require.NoError(t, err)
		if len(b.Data) == 0 {
			ref.Data, read.Data = nil, nil
		}
		require.True(t, proto.Equal(ref, read), "%s", body)
		var fields map[string]any
		require.NoError(t, json.Unmarshal(body, &fields))
		require.Equal(t, len(b.Data) > 0 && utf8.Valid(b.Data), fields["payload"] != nil)
		require.Equal(t, len(b.Data) > 0 && !utf8.Valid(b.Data), fields["payload_base64"] != nil)
		_, err = readBranchBody(body, phaseRollback)
		require.ErrorContains(t, err, "is not that of the path")
	})
}

func TestAListIsTheSameInJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newListPreparedResponse(participant.Listing{})
		for _, b := range rapid.SliceOf(branches()).Draw(t, "prepared") {
			b.Participant = ""
			r.Branches, r.Highest = append(r.Branches, newBranchName(b)), append(r.Highest, b.Tx.String())
		}
		body, err := encode(newListBody(r))
		require.NoError(t, err)
		read, err := readListBody(body)
		require.NoError(t, err)
		require.True(t, proto.Equal(r, read))
	})
}

// A full list, of as many branches as a coordinator lets a participant have, fits.
func TestAFullListFits(t *testing.T) {
	longest := newBranchName(participant.Branch{
		Domain: strings.Repeat("d", participant.MaxDomain), Tx: participant.TxID{Term: participant.NewTerm(1<<24-1, 1<<32-1)}, Number: 63,
	})
	r := &assentv1.ListPreparedResponse{}
	for range 2000 {
		r.Branches = append(r.Branches, longest)
	}
	body, err := encode(newListBody(r))
	require.NoError(t, err)
	require.Less(t, 100*len(body), maxList)
	require.Less(t, 100*proto.Size(r), maxList)
}

// The decoders take what they are given or return an error; and what they take of a
// body, encoding/json reads in the same way.
func FuzzReadAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"vote":"PREPARED"}`, `{"vote":"REFUSED","reason":"no"}`, `{"state":"HEURISTIC_MIXED","reason":""}`, `{"vote":"PREPARED","Vote":"x"}`,
		`{"branches":["d:5x3dka5:01a2246b09d1775bbab1fe99393bdd0f:1"],"highest":[]}`, `{"vote":"a","vote":"b"}`, `{"a":{"b":[1,{}]},"vote":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if r, err := readVoteBody(body); err == nil {
			var plain struct{ Vote string }
			var exact map[string]any
			require.NoError(t, json.Unmarshal(body, &exact))
			plain.Vote, _ = exact["vote"].(string)
			require.Equal(t, newVoteBody(r).Vote, plain.Vote)
			vote, _ := readPrepareResponse(r)
			require.True(t, vote.Valid())
		}
		if state, _, err := readStateBody(body); err == nil {
			require.NotZero(t, state)
			require.Contains(t, string(newStateBody(state, "").State), strings.TrimPrefix(state.String(), statePrefix))
		}
		if r, err := readListBody(body); err == nil {
			again, err := encode(newListBody(r))
			require.NoError(t, err)
			read, err := readListBody(again)
			require.NoError(t, err)
			require.True(t, proto.Equal(r, read))
			_, _ = readListPreparedResponse(r, "d")
		}
		o, err := readObject(body)
		if err != nil {
			return
		}
		var exact map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(body, &exact))
		require.Len(t, o, len(exact))
		require.LessOrEqual(t, len(o), maxFields)
		for _, f := range o {
			require.Equal(t, string(exact[f.name]), string(f.value), "%q", f.name)
		}
	})
}

func FuzzReadCall(f *testing.F) {
	b := participant.Branch{Domain: "d", Tx: participant.TxID{Term: participant.NewTerm(1, 2)}, Participant: "p", Data: []byte("x")}
	body, err := encode(newBranchBody(phasePrepare, newBranchRef(b)))
	require.NoError(f, err)
	f.Add(body)
	f.Add([]byte(`{"protocol":1,"phase":"prepared","domain":"d"}`))
	f.Add([]byte(`{"protocol":1,"phase":"forget","branches":["d:5x3dka5:01a2246b09d1775bbab1fe99393bdd0f:1"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if ref, err := readBranchBody(body, phasePrepare); err == nil {
			b, err := readBranchRef(ref)
			if err != nil {
				return // a service refuses it there
			}
			parsed, err := participant.ParseXID(xidOf(ref))
			require.NoError(t, err)
			require.Equal(t, b.XID(), parsed.XID())
		}
		if r, err := readDomainBody(body); err == nil {
			require.NotNil(t, r)
		}
		if r, err := readForgetBody(body); err == nil {
			for _, ref := range r.Branches {
				_, err := readBranchRef(ref)
				require.NoError(t, err)
			}
		}
	})
}

func FuzzReadBranchRef(f *testing.F) {
	b := participant.Branch{Domain: "d", Tx: participant.TxID{Term: participant.NewTerm(1, 2)}, Participant: "p", Data: []byte("x"), Epoch: 1}
	message, err := proto.Marshal(newBranchRef(b))
	require.NoError(f, err)
	f.Add(message)
	f.Fuzz(func(t *testing.T, message []byte) {
		ref := &assentv1.BranchRef{}
		if proto.Unmarshal(message, ref) != nil {
			return
		}
		b, err := readBranchRef(ref)
		if err != nil {
			return
		}
		parsed, err := participant.ParseXID(string(b.XID()))
		require.NoError(t, err)
		require.Equal(t, b.XID(), parsed.XID())
		again, err := readBranchRef(newBranchRef(b))
		require.NoError(t, err)
		require.True(t, b.Deadline.Equal(again.Deadline))
		require.Equal(t, len(b.Data), len(again.Data))
		require.Equal(t, b.XID(), again.XID())
		require.NotPanics(t, func() { sign(http.Header{}, nil, callID(ref, phasePrepare), b.Deadline, message) })
	})
}
