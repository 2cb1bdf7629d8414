package server_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"github.com/stretchr/testify/require"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/coordinator/server"
	"github.com/assent-tm/assent/participant"
)

func (s *site) admin(secret string) assentv1connect.AdminServiceClient {
	return assentv1connect.NewAdminServiceClient(s.connection(s.operators, secret))
}

// stuck commits a transaction that bank_b does not acknowledge.
func stuck(t *testing.T, s *site, client assentv1connect.TransactionServiceClient) (id string) {
	t.Helper()
	s.b.commit = func(context.Context, participant.Branch) error {
		return errors.New("down: postgres://assent:swordfish@db")
	}
	done, err := client.Submit(t.Context(), &assentv1.SubmitRequest{Enlistments: both()})
	require.NoError(t, err)
	require.Equal(t, assentv1.State_STATE_COMMITTING, done.GetState())
	return done.GetTransactionId()
}

func TestOperatorsFinishWhatIsStuck(t *testing.T) {
	p := newPeople(t)
	s, ctx := newSite(t, p.authenticated(t), change{server: func(c *server.Config) { c.Version, c.Kinds = "v0", map[string]string{"bank_a": "http"} }}), t.Context()
	id := stuck(t, s, p.as(s, "alice"))
	oscar := s.admin(p.secrets["oscar"])

	status, err := oscar.Status(ctx, &assentv1.StatusRequest{})
	require.NoError(t, err)
	require.Equal(t, "SERVING", status.GetCondition())
	require.Equal(t, "test", status.GetDomain())
	require.Equal(t, uint64(1), status.GetInDoubt())
	require.Len(t, status.GetParticipants(), 2)
	require.Equal(t, "http", status.GetParticipants()[0].GetKind())
	require.Equal(t, "go", status.GetParticipants()[1].GetKind())
	require.Equal(t, uint64(1), status.GetParticipants()[1].GetUndelivered())

	_, err = oscar.Pause(ctx, &assentv1.PauseRequest{TransactionId: id})
	r := refused(t, err)
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_INVALID, r.reason)
	require.Contains(t, r.message, "reason")
	_, err = oscar.Pause(ctx, &assentv1.PauseRequest{TransactionId: id, Reason: strings.Repeat("r", 1<<16)})
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_INVALID, refused(t, err).reason)
	would, err := oscar.Pause(ctx, &assentv1.PauseRequest{TransactionId: id, Reason: "maintenance", DryRun: true})
	require.NoError(t, err)
	require.Len(t, would.GetActions(), 1)
	require.False(t, s.transaction(t, id).GetPaused())
	_, err = oscar.Pause(ctx, &assentv1.PauseRequest{TransactionId: id, Reason: "maintenance"})
	require.NoError(t, err)
	require.True(t, s.transaction(t, id).GetPaused())
	_, err = oscar.Resume(ctx, &assentv1.ResumeRequest{TransactionId: id, Reason: "done"})
	require.NoError(t, err)
	require.False(t, s.transaction(t, id).GetPaused())
	_, err = oscar.Retry(ctx, &assentv1.RetryRequest{TransactionId: id, Reason: "is it there?"})
	require.NoError(t, err)

	_, err = oscar.Resolve(ctx, &assentv1.ResolveRequest{TransactionId: id, Participant: "bank_b", Reason: "by hand"})
	require.Contains(t, refused(t, err).message, "outcome")
	_, err = oscar.Resolve(ctx, &assentv1.ResolveRequest{TransactionId: id, Participant: "bank_c", Reason: "by hand", Outcome: assentv1.Outcome_OUTCOME_COMMITTED})
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_UNFIT, refused(t, err).reason)
	_, err = oscar.Resolve(ctx, &assentv1.ResolveRequest{TransactionId: id, Participant: "bank_b", Reason: "by hand", Outcome: assentv1.Outcome_OUTCOME_COMMITTED})
	require.NoError(t, err)
	require.Equal(t, assentv1.State_STATE_COMMITTED, s.transaction(t, id).GetState())

	tx, err := participant.ParseTxID(id)
	require.NoError(t, err)
	words, err := s.dtm.Words(ctx, tx)
	require.NoError(t, err)
	require.NotEmpty(t, words)
	for _, w := range words {
		require.Equal(t, "oscar", w.Who)
	}
	_, err = oscar.Retry(ctx, &assentv1.RetryRequest{TransactionId: id, Reason: "again"})
	require.Equal(t, connect.CodeFailedPrecondition, refused(t, err).code)
}

// transaction is what an operator sees of one.
func (s *site) transaction(t *testing.T, id string) *assentv1.Transaction {
	t.Helper()
	tx, err := participant.ParseTxID(id)
	require.NoError(t, err)
	info, err := s.dtm.Get(t.Context(), tx)
	require.NoError(t, err)
	return server.Transaction(&info)
}

func TestABranchIsGivenUpInTheOperatorsName(t *testing.T) {
	s, ctx := newSite(t), t.Context()
	id := stuck(t, s, s.client)
	admin := s.admin("")
	_, err := admin.ForgetBranch(ctx, &assentv1.ForgetBranchRequest{TransactionId: id, Reason: "the bank is gone"})
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_INVALID, refused(t, err).reason)
	_, err = admin.ForgetBranch(ctx, &assentv1.ForgetBranchRequest{TransactionId: id, Participant: "bank_b", Reason: "the bank is gone"})
	require.NoError(t, err)
	_, err = s.client.Commit(ctx, &assentv1.CommitRequest{TransactionId: id})
	r := refused(t, err)
	require.Equal(t, connect.CodeDataLoss, r.code)
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_HEURISTIC, r.reason)
	require.Equal(t, assentv1.Decision_DECISION_COMMIT, r.info.GetDecision())
	require.Equal(t, assentv1.Outcome_OUTCOME_HEURISTIC_HAZARD, r.info.GetOutcome())
	require.Len(t, r.info.GetBranches(), 1)
	orphans, err := admin.Orphans(ctx, &assentv1.OrphansRequest{})
	require.NoError(t, err)
	require.Empty(t, orphans.GetOrphans())
}

func TestRolesSayWhoMayOperate(t *testing.T) {
	p := newPeople(t)
	s, ctx := newSite(t, p.authenticated(t)), t.Context()
	id := stuck(t, s, p.as(s, "alice"))
	for name, may := range map[string]struct{ look, act bool }{
		"alice": {false, false}, "vera": {true, false}, "oscar": {true, true}, "ada": {true, true},
	} {
		admin := s.admin(p.secrets[name])
		_, err := admin.Status(ctx, &assentv1.StatusRequest{})
		require.Equal(t, may.look, err == nil, name)
		_, err = admin.Orphans(ctx, &assentv1.OrphansRequest{})
		require.Equal(t, may.look, err == nil, name)
		_, err = admin.Retry(ctx, &assentv1.RetryRequest{TransactionId: id, Reason: "r"})
		require.Equal(t, may.act, err == nil, name)
		if !may.act {
			r := refused(t, err)
			require.Equal(t, connect.CodePermissionDenied, r.code)
			require.Equal(t, assentv1.ErrorReason_ERROR_REASON_FORBIDDEN, r.reason)
			for _, call := range []func() error{
				func() error {
					_, err := admin.Pause(ctx, &assentv1.PauseRequest{TransactionId: id, Reason: "r"})
					return err
				},
				func() error {
					_, err := admin.Resume(ctx, &assentv1.ResumeRequest{TransactionId: id, Reason: "r"})
					return err
				},
				func() error {
					_, err := admin.ForgetBranch(ctx, &assentv1.ForgetBranchRequest{TransactionId: id, Participant: "bank_b", Reason: "r"})
					return err
				},
				func() error {
					_, err := admin.Resolve(ctx, &assentv1.ResolveRequest{TransactionId: id, Participant: "bank_b", Reason: "r", Outcome: assentv1.Outcome_OUTCOME_COMMITTED})
					return err
				},
			} {
				require.Equal(t, connect.CodePermissionDenied, refused(t, call()).code, name)
			}
		}
	}
	require.Equal(t, assentv1.State_STATE_COMMITTING, s.transaction(t, id).GetState())
}
