package remotetx

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A reason without a kind would end the program with the wrong exit code.
func TestEveryReasonHasAKind(t *testing.T) {
	for number, name := range assentv1.ErrorReason_name {
		reason := assentv1.ErrorReason(number)
		if reason == assentv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
			continue
		}
		require.NotZero(t, kinds[reason], name)
	}
}

func inDoubt(d assentv1.Decision) *assentv1.Transaction {
	return &assentv1.Transaction{
		TransactionId: "1z141z4-0192d0f1c2a37c55a1b2c3d4e5f60718", State: assentv1.State_STATE_COMMITTING, Decision: d,
		Branches: []*assentv1.Branch{
			{Number: 0, Participant: "stock", Xid: "orders:1:2:0", CommitStatement: "COMMIT PREPARED 'orders:1:2:0';", RollbackStatement: "ROLLBACK PREPARED 'orders:1:2:0';\nINSERT;"},
			{Number: 1, Participant: "bank", Xid: "orders:1:2:1", Outcome: assentv1.Outcome_OUTCOME_COMMITTED},
			{Number: 2, Participant: "mail\n", Xid: "orders:1:2:2"},
		},
	}
}

// What is pasted is the decision's, and nothing else: all around it is a comment (R3).
func TestStatements(t *testing.T) {
	for decision, want := range map[assentv1.Decision]string{
		assentv1.Decision_DECISION_COMMIT:      "COMMIT PREPARED 'orders:1:2:0';\n",
		assentv1.Decision_DECISION_ROLLBACK:    "ROLLBACK PREPARED 'orders:1:2:0';\nINSERT;\n",
		assentv1.Decision_DECISION_UNSPECIFIED: "",
	} {
		var text, pasted strings.Builder
		require.NoError(t, WriteStatements(&text, inDoubt(decision)))
		for line := range strings.Lines(text.String()) {
			if !strings.HasPrefix(line, "-- ") {
				pasted.WriteString(line)
			}
		}
		require.Equal(t, want, pasted.String(), "%s", &text)
		require.Contains(t, text.String(), `mail\n`)
		require.Equal(t, decision == 0, strings.Contains(text.String(), "finish nothing by hand"))
	}
}

// Which of both ways is right nobody knows who has not looked: both are comments.
func TestOrphanStatements(t *testing.T) {
	var text strings.Builder
	require.NoError(t, WriteOrphanStatements(&text, []*assentv1.Orphan{
		{Participant: "stock", Xid: "orders:1:2:0", Action: "foreign term", CommitStatement: "COMMIT;\nSELECT;", RollbackStatement: "ROLLBACK;"},
		{Participant: "bank", Name: "theirs"},
	}))
	for line := range strings.Lines(text.String()) {
		require.True(t, strings.HasPrefix(line, "-- "), line)
	}
	require.Contains(t, text.String(), "--   SELECT;\n")
	require.Contains(t, text.String(), "theirs at bank")
}

func TestCheck(t *testing.T) {
	serving := func(change func(*assentv1.StatusResponse)) *assentv1.StatusResponse {
		s := &assentv1.StatusResponse{Condition: "SERVING", Participants: []*assentv1.ParticipantStatus{{Name: "bank"}}}
		change(s)
		return s
	}
	for name, c := range map[string]struct {
		status *assentv1.StatusResponse
		err    error
		want   Severity
		says   string
	}{
		"well":        {serving(func(*assentv1.StatusResponse) {}), nil, OK, "no transaction is in doubt"},
		"young doubt": {serving(func(s *assentv1.StatusResponse) { s.InDoubt, s.OldestInDoubt = 1, durationpb.New(time.Second) }), nil, OK, "the oldest for 1s"},
		"old doubt":   {serving(func(s *assentv1.StatusResponse) { s.InDoubt, s.OldestInDoubt = 2, durationpb.New(time.Hour) }), nil, Critical, "for 1h0m, more than 1m0s"},
		"down": {serving(func(s *assentv1.StatusResponse) {
			s.Participants[0].Down, s.Participants[0].LastError = true, "refused | reset"
		}), nil, Warning, "participant bank is down"},
		"draining":    {&assentv1.StatusResponse{Condition: "DRAINING"}, nil, Warning, "the server is DRAINING"},
		"safe mode":   {&assentv1.StatusResponse{Condition: "SAFE_MODE", Reason: "restored"}, nil, Critical, "the server is SAFE_MODE: restored"},
		"newer":       {&assentv1.StatusResponse{Condition: "DREAMING"}, nil, Unknown, "DREAMING"},
		"unreachable": {nil, &Error{Kind: Unreachable, Message: "nobody there"}, Critical, "nobody there"},
		"forbidden":   {nil, &Error{Kind: Auth, Message: "no token"}, Unknown, "no token"},
		"other":       {nil, errors.New("other"), Unknown, "other"},
	} {
		t.Run(name, func(t *testing.T) {
			v := Check(c.status, c.err, time.Minute)
			require.Equal(t, c.want, v.Severity)
			var nagios, json, metrics, text strings.Builder
			require.NoError(t, errors.Join(v.WriteNagios(&nagios), v.WriteJSON(&json), v.WritePrometheus(&metrics), v.WriteText(&text)))
			first, _, _ := strings.Cut(nagios.String(), "\n")
			require.True(t, strings.HasPrefix(first, "ASSENT "+c.want.String()+" - "), first)
			require.LessOrEqual(t, strings.Count(nagios.String(), "|"), 1, "what stands behind it are figures")
			require.Contains(t, nagios.String(), c.says)
			require.Contains(t, text.String(), c.says)
			require.Contains(t, json.String(), `"severity": "`+strings.ToLower(c.want.String())+`"`)
			require.Contains(t, metrics.String(), "\nassent_up ")
		})
	}
}

func TestDurationsAsPeopleReadThem(t *testing.T) {
	for d, text := range map[time.Duration]string{
		1500 * time.Microsecond: "1ms", 61 * time.Second: "1m1s", 90 * time.Minute: "1h30m", 49 * time.Hour: "49h0m",
	} {
		require.Equal(t, text, durationText(d))
	}
}
