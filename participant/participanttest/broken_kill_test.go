package participanttest

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

// slow is what something takes that is to be struck while it is under way.
const slow = 50 * time.Millisecond

// brokenByKill keep the contract as long as no process of theirs is killed and no
// two are at it. Each is found by one case at least.
var brokenByKill = []struct {
	defect, found string
	spoil         func(*bank)
}{
	{"confirms what another process confirms", "processes-overlap", func(p *bank) {
		p.apart = true
		p.commit = func(ctx context.Context, b participant.Branch) error {
			state, err := p.state(ctx, b)
			time.Sleep(slow)
			if err == nil && state == "prepared" {
				err = p.pay(ctx, b)
			}
			if err != nil {
				return err
			}
			return p.Participant.Commit(ctx, b)
		}
	}},
	{"takes work that is not its own for none", "begun-after-kill", func(p *bank) {
		p.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			if state, err := p.state(ctx, b); err != nil {
				return 0, err
			} else if _, mine := p.mine.Load(b.XID()); !mine && state == "" {
				return participant.VoteReadOnly, nil
			}
			return p.Participant.Prepare(ctx, b)
		}
	}},
	{"has effects before it has a row", "prepare-during-kill", func(p *bank) {
		p.apart = true
		p.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			if state, err := p.state(ctx, b); err != nil || state != "" {
				return p.Participant.Prepare(ctx, b)
			}
			if err := p.pay(ctx, b); err != nil {
				return 0, err
			}
			time.Sleep(slow)
			return p.Participant.Prepare(ctx, b)
		}
		p.rollback = func(ctx context.Context, b participant.Branch) error {
			state, err := p.state(ctx, b)
			if err == nil && state == "prepared" {
				_, err = p.db.ExecContext(ctx, `DELETE FROM payment WHERE id = ?1`, string(b.XID()))
			}
			if err != nil {
				return err
			}
			return p.Participant.Rollback(ctx, b)
		}
	}},
	{"commits only in the process that began", "commit-after-kill", func(p *bank) {
		p.commit = func(ctx context.Context, b participant.Branch) error {
			if _, mine := p.mine.Load(b.XID()); !mine {
				return participant.ErrUnknownBranch
			}
			return p.Participant.Commit(ctx, b)
		}
	}},
	{"rolls back only in the process that began", "rollback-after-kill", func(p *bank) {
		p.rollback = func(ctx context.Context, b participant.Branch) error {
			if _, mine := p.mine.Load(b.XID()); !mine {
				return nil
			}
			return p.Participant.Rollback(ctx, b)
		}
	}},
	{"has effects after it has committed", "finish-during-kill", func(p *bank) {
		p.apart = true
		p.commit = func(ctx context.Context, b participant.Branch) error {
			state, err := p.state(ctx, b)
			if err == nil {
				err = p.Participant.Commit(ctx, b)
			}
			if err != nil || state != "prepared" {
				return err
			}
			time.Sleep(slow)
			return p.pay(ctx, b)
		}
	}},
	{"knows only what it finished itself", "repeat-after-kill", func(p *bank) {
		p.commit = func(ctx context.Context, b participant.Branch) error {
			if state, err := p.state(ctx, b); err != nil {
				return err
			} else if _, mine := p.mine.LoadOrStore(b.XID(), true); !mine && state == "committed" {
				return participant.ErrUnknownBranch
			}
			return p.Participant.Commit(ctx, b)
		}
	}},
	{"takes a one-phase commit that is not its own for rolled back", "one-phase-during-kill", func(p *bank) {
		p.rollback = func(ctx context.Context, b participant.Branch) error {
			if _, mine := p.mine.Load(b.XID()); !mine {
				return nil
			}
			return p.Participant.Rollback(ctx, b)
		}
	}},
}

func TestEveryKillIsSurvivedByABarrierOverSQLite(t *testing.T) {
	subject, err := bankSubject("\n" + filepath.Join(t.TempDir(), "bank.db"))
	require.NoError(t, err)
	for _, c := range Cases() {
		// A file has no service to be killed; and by hand nobody runs the functions.
		if strings.HasSuffix(c.Name, "-restart") || c.Name == "explain" {
			continue
		}
		t.Run(c.Name, func(t *testing.T) { require.NoError(t, c.Run(t.Context(), subject)) })
	}
}

func TestEveryKillFindsABrokenParticipant(t *testing.T) {
	found := map[string]bool{}
	for _, broken := range brokenByKill {
		for _, c := range Cases() {
			if c.Name != broken.found {
				continue
			}
			found[c.Name] = true
			t.Run(c.Name, func(t *testing.T) {
				subject, err := bankSubject(broken.defect + "\n" + filepath.Join(t.TempDir(), "bank.db"))
				require.NoError(t, err)
				err = c.Run(t.Context(), subject)
				require.Error(t, err, broken.defect)
				require.NotErrorIs(t, err, ErrNotApplicable)
				t.Logf("%s: %v", broken.defect, err)
			})
		}
	}
	for _, c := range Cases() {
		require.True(t, found[c.Name] || !needsProcesses(c), "no broken participant fails case %q", c.Name)
	}
}
