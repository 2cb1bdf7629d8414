package client

import (
	"context"
	"fmt"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// Get returns what is known of a transaction; see coordinator.DTM.Get. The phase is as
// near as the API tells: a decision on its way to the disk, say, is Preparing. Errors
// are those of DTM, and those of Begin.
func (c *Client) Get(ctx context.Context, id participant.TxID) (coordinator.Info, error) {
	answer, end := ask(ctx, c, c.config.Patience, &assentv1.GetRequest{TransactionId: id.String()}, c.server.Get)
	if end != nil {
		return coordinator.Info{}, fmt.Errorf("get transaction %s: %w", id, end.error(id))
	}
	info, err := newInfo(answer.GetTransaction())
	if err != nil {
		return coordinator.Info{}, fmt.Errorf("get transaction %s: the server's answer: %w", id, err)
	}
	return info, nil
}

// List returns the transactions that the filter chooses; see coordinator.DTM.List.
// Clients see their own alone. Errors are those of DTM, and those of Begin.
func (c *Client) List(ctx context.Context, f coordinator.Filter) ([]coordinator.Info, error) {
	answer, end := ask(ctx, c, c.config.Patience, &assentv1.ListRequest{
		Done: f.Done, InDoubt: f.InDoubt, Participant: f.Participant, Owner: f.Owner, Limit: uint32(max(f.Limit, 0)),
	}, c.server.List)
	if end != nil {
		return nil, fmt.Errorf("list transactions: %w", end.error(participant.TxID{}))
	}
	var infos []coordinator.Info
	for _, t := range answer.GetTransactions() {
		info, err := newInfo(t)
		if err != nil {
			return nil, fmt.Errorf("list transactions: the server's answer: %w", err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// Outcome says what a participant in doubt may do with its branch; see
// coordinator.DTM.Outcome. Errors are those of DTM, and those of Begin.
func (c *Client) Outcome(ctx context.Context, id participant.TxID) (coordinator.Inquiry, error) {
	answer, end := ask(ctx, c, c.config.Patience, &assentv1.OutcomeRequest{TransactionId: id.String()}, c.server.Outcome)
	if end != nil {
		return 0, fmt.Errorf("inquire the outcome of transaction %s: %w", id, end.error(id))
	}
	switch answer.GetInquiry() {
	case assentv1.Inquiry_INQUIRY_COMMITTED:
		return coordinator.InquiryCommitted, nil
	case assentv1.Inquiry_INQUIRY_ROLLED_BACK:
		return coordinator.InquiryRolledBack, nil
	case assentv1.Inquiry_INQUIRY_UNDECIDED:
		return coordinator.InquiryUndecided, nil
	default:
		return coordinator.InquiryUnknown, nil // never more than the server said (R13)
	}
}
