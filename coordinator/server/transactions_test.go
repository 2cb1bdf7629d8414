package server_test

import (
	"testing"

	"connectrpc.com/connect/v2"
	"github.com/stretchr/testify/require"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

func TestALifeOverGRPC(t *testing.T) {
	s, ctx := newSite(t), t.Context()
	begun, err := s.client.Begin(ctx, &assentv1.BeginRequest{Name: "transfer"})
	require.NoError(t, err)
	id := begun.GetTransactionId()
	for _, e := range both() {
		_, err := s.client.Enlist(ctx, &assentv1.EnlistRequest{TransactionId: id, Enlistment: e})
		require.NoError(t, err)
	}
	got, err := s.client.Get(ctx, &assentv1.GetRequest{TransactionId: id})
	require.NoError(t, err)
	require.Equal(t, assentv1.State_STATE_ACTIVE, got.GetTransaction().GetState())
	require.Equal(t, "transfer", got.GetTransaction().GetName())
	require.Len(t, got.GetTransaction().GetBranches(), 2)
	listed, err := s.client.List(ctx, &assentv1.ListRequest{})
	require.NoError(t, err)
	require.Len(t, listed.GetTransactions(), 1)
	committed, err := s.client.Commit(ctx, &assentv1.CommitRequest{TransactionId: id})
	require.NoError(t, err)
	require.Equal(t, assentv1.State_STATE_COMMITTED, committed.GetState())
	answer, err := s.client.Outcome(ctx, &assentv1.OutcomeRequest{TransactionId: id})
	require.NoError(t, err)
	require.Equal(t, assentv1.Inquiry_INQUIRY_COMMITTED, answer.GetInquiry())
	_, err = s.client.Rollback(ctx, &assentv1.RollbackRequest{TransactionId: id})
	r := refused(t, err)
	require.Equal(t, connect.CodeFailedPrecondition, r.code)
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_COMMITTED, r.reason)
}

func TestALifeOverJSON(t *testing.T) {
	s := newSite(t)
	status, answer := s.post(t, "Begin", `{"name":"transfer","timeout":"5s"}`)
	require.Equal(t, 200, status)
	id := answer["transactionId"].(string)
	status, answer = s.post(t, "Enlist", `{"transaction_id":"`+id+`","enlistment":{"participant":"bank_a","text":"-30"}}`)
	require.Equal(t, 200, status, "%v", answer)
	require.Equal(t, "test", answer["domain"])
	status, answer = s.post(t, "Commit", `{"transactionId":"`+id+`"}`)
	require.Equal(t, 200, status)
	require.Equal(t, "STATE_COMMITTED", answer["state"])
}

func TestSubmit(t *testing.T) {
	s := newSite(t)
	status, answer := s.post(t, "Submit", `{"enlistments":[{"participant":"bank_a","text":"-30"},{"participant":"bank_b","text":"+30"}]}`)
	require.Equal(t, 200, status)
	require.Equal(t, "STATE_COMMITTED", answer["state"])
	require.NotEmpty(t, answer["transactionId"])
}

func TestARefusalIsToldInTheParticipantsWords(t *testing.T) {
	s := newSite(t)
	s.b.refuses("insufficient funds")
	_, err := s.client.Submit(t.Context(), &assentv1.SubmitRequest{Enlistments: both()})
	r := refused(t, err)
	require.Equal(t, connect.CodeAborted, r.code)
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_ROLLED_BACK, r.reason)
	require.Equal(t, assentv1.Decision_DECISION_ROLLBACK, r.info.GetDecision())
	require.Equal(t, "bank_b", r.info.GetParticipant())
	require.Contains(t, r.message, "insufficient funds")
}
