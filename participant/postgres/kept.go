package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tm/assent/participant"
)

// keepTime is how long a prepared branch keeps its connection: as a rule the decision
// comes much sooner, and is told on it. So as many branches are finished at once as
// were prepared at once, and share the server's fsyncs, which two connections of the
// participant's own could not do.
const keepTime = time.Second

// keep keeps the connection of a branch that voted prepared, for tell or until keepTime
// is over.
func (p *Participant) keep(tx participant.TxID, l lease) {
	p.mu.Lock()
	keeps := !p.closing
	if keeps {
		p.kept[tx] = l
	}
	p.mu.Unlock()
	if !keeps {
		l.giveBack(false)
		return
	}
	time.AfterFunc(keepTime, func() { p.letGo(tx, l) })
}

// letGo gives a connection back that is still kept.
func (p *Participant) letGo(tx participant.TxID, l lease) {
	p.mu.Lock()
	keeps := p.kept[tx] == l
	if keeps {
		delete(p.kept, tx)
	}
	p.mu.Unlock()
	if keeps {
		l.giveBack(false)
	}
}

// takeKept returns the branch's connection if it is kept, and hands it over.
func (p *Participant) takeKept(b participant.Branch) (l lease, keeps bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, keeps = p.kept[b.Tx]
	delete(p.kept, b.Tx)
	return l, keeps
}

// tellOnKept runs a statement on the branch's own connection, and reports whether that
// did it. It is nobody else's, and so may break when ctx ends.
func (p *Participant) tellOnKept(ctx context.Context, b participant.Branch, statement string) bool {
	if ctx.Err() != nil {
		return false
	}
	l, keeps := p.takeKept(b)
	if !keeps {
		return false
	}
	err := l.use(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, statement)
		return err
	})
	l.giveBack(err != nil) // ctx may have cut it off
	return err == nil
}
