// Package devbank is an account that takes part in transactions: what `assent dev`
// serves over HTTP to be tried with. It keeps everything in memory.
package devbank

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/remote"
)

// Path is where a bank takes the calls of a coordinator.
const Path = "/assent"

// Bank is an account with a balance. A branch's data is the amount to book, such as 30
// or -30; it refuses what would leave less than nothing. Safe for concurrent use.
type Bank struct {
	branches *participanttest.Memory

	mu      sync.Mutex
	balance int64
}

var (
	_ participant.Lister    = (*Bank)(nil)
	_ participant.Forgetter = (*Bank)(nil)
)

// New returns a bank with this balance.
func New(name string, balance int64) *Bank {
	return &Bank{branches: participanttest.NewStore().Participant(name), balance: balance}
}

// Name is its name as a participant.
func (b *Bank) Name() string { return b.branches.Name() }

// Prepare sets the amount aside.
func (b *Bank) Prepare(ctx context.Context, branch participant.Branch) (participant.Vote, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.branches.State(branch) == participanttest.StateUnknown {
		available, _ := b.available()
		switch amount, err := amountOf(branch); {
		case err != nil:
			return participant.VoteRefused, fmt.Errorf("%w: %w", participant.ErrRefused, err)
		case available+amount < 0:
			return participant.VoteRefused, fmt.Errorf("%w: %d wanted, %d available", participant.ErrRefused, -amount, available)
		}
	}
	return b.branches.Prepare(ctx, branch)
}

func amountOf(branch participant.Branch) (int64, error) {
	amount, err := strconv.ParseInt(strings.TrimSpace(string(branch.Data)), 10, 32)
	if err != nil || amount == 0 {
		return 0, fmt.Errorf("%q is not an amount such as 30 or -30", branch.Data)
	}
	return amount, nil
}

// available is what is not set aside, and by how many branches something is.
func (b *Bank) available() (available int64, prepared int) {
	available = b.balance
	for _, e := range b.branches.Entries() {
		if e.State != participanttest.StatePrepared {
			continue
		}
		prepared++
		if amount, err := amountOf(e.Branch); err == nil {
			available += min(amount, 0)
		}
	}
	return available, prepared
}

// Commit books the amount.
func (b *Bank) Commit(ctx context.Context, branch participant.Branch) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.branches.Effects(branch)
	if err := b.branches.Commit(ctx, branch); err != nil {
		return err
	}
	if b.branches.Effects(branch) > before {
		amount, err := amountOf(branch)
		b.balance += amount
		return err
	}
	return nil
}

// Rollback gives the amount back.
func (b *Bank) Rollback(ctx context.Context, branch participant.Branch) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.branches.Rollback(ctx, branch)
}

// List returns what is set aside.
func (b *Bank) List(ctx context.Context, domain string) (participant.Listing, error) {
	return b.branches.List(ctx, domain)
}

// Forget drops finished branches.
func (b *Bank) Forget(ctx context.Context, branches []participant.Branch) error {
	return b.branches.Forget(ctx, branches)
}

// Handler serves the calls of a coordinator under Path, and at / what is in the account.
func (b *Bank) Handler(secret remote.Secret) (http.Handler, error) {
	calls, err := remote.Handler(b, remote.HandlerConfig{Secrets: []remote.Secret{secret}})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle(Path+"/", http.StripPrefix(Path, calls))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// Who asked is gone if it can't be written.
		_ = json.NewEncoder(w).Encode(b.account())
	})
	return mux, nil
}

type account struct {
	Bank    string `json:"bank"`
	Balance int64  `json:"balance"`
	// Prepared is how many branches wait for a decision.
	Prepared int `json:"prepared"`
}

func (b *Bank) account() account {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, prepared := b.available()
	return account{Bank: b.Name(), Balance: b.balance, Prepared: prepared}
}
