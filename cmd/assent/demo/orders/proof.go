package orders

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/assent-tm/assent/cmd/assent/demo"
	"github.com/assent-tm/assent/participant"
)

// prove is the end.
func (s *story) prove(ctx context.Context, storm *demo.Storm[order]) error {
	a, err := s.readAll(ctx)
	if err != nil {
		return err
	}
	return s.Prove("the servers", append(proveAccount(a, s.Deals), proveStorm(storm)...))
}

// proveAccount checks what the servers say, and whether that agrees with what the
// coordinator answered.
func proveAccount(a account, deals []*demo.Deal[order]) []demo.Claim {
	return []demo.Claim{conserved(a), nothingPrepared(a), nothingLocked(a), nothingMixed(a), oneMessageEach(a), answersTrue(a, deals)}
}

func conserved(a account) demo.Claim {
	opening, total := int64(len(warehouseNames)*len(items)*openingStock), int64(0)
	c := demo.Claim{}
	for _, name := range warehouseNames {
		b := a.warehouses[name]
		moved := map[string]int64{}
		for _, l := range b.lines {
			moved[l.item] += l.pieces
		}
		for _, item := range items {
			has, there := b.stock[item]
			total += has
			c.Check(there && has == openingStock+moved[item], "%s has %d x %s, but began with %d and moved %d", name, has, item, openingStock, moved[item])
			c.Check(has >= 0, "%s has %d x %s", name, has, item)
		}
	}
	c.Text = fmt.Sprintf("pieces are conserved: %s before, %s after", demo.Count(opening), demo.Count(total))
	c.Check(total == opening, "%s pieces are in the warehouses", demo.Count(total))
	return c
}

func nothingPrepared(a account) demo.Claim {
	c := demo.Claim{Text: "nothing is left prepared at any server"}
	for _, name := range slices.Sorted(maps.Keys(a.prepared)) {
		for _, b := range a.prepared[name] {
			c.Check(false, "branch %s is still prepared at %s", b.XID(), name)
		}
	}
	return c
}

func nothingLocked(a account) demo.Claim {
	return demo.Claim{Text: "no lock is left: a writer to every row of both warehouses succeeds at once", Wrong: a.blocked}
}

// nothingMixed looks at the witnesses: each transaction moved pieces in both
// warehouses, once and the same number, or in none.
func nothingMixed(a account) demo.Claim {
	lines := linesByTx(a)
	c := demo.Claim{Text: fmt.Sprintf("no mixed outcome: each of %s orders that left one warehouse came to the other", demo.Count(len(lines)))}
	for _, tx := range slices.SortedFunc(maps.Keys(lines), participant.TxID.Compare) {
		p, m := lines[tx][postgresName], lines[tx][mariadbName]
		c.Check(len(p) == 1 && len(m) == 1 && p[0].item == m[0].item && p[0].pieces == -m[0].pieces,
			"transaction %s moved %s at %s and %s at %s", tx, describe(p), postgresName, describe(m), mariadbName)
	}
	return c
}

// oneMessageEach compares the messages with the witnesses.
func oneMessageEach(a account) demo.Claim {
	c := demo.Claim{Text: fmt.Sprintf("one message for each order that was carried out, none for any other: %s messages", demo.Count(len(a.messages)))}
	lines, messages := linesByTx(a), map[participant.TxID][]message{}
	for _, m := range a.messages {
		messages[m.Tx] = append(messages[m.Tx], m)
		c.Check(lines[m.Tx] != nil, "a message says %s of transaction %s, which moved nothing", m.order, m.Tx)
	}
	for _, tx := range slices.SortedFunc(maps.Keys(lines), participant.TxID.Compare) {
		c.Check(len(messages[tx]) == 1, "transaction %s moved pieces and published %d messages", tx, len(messages[tx]))
		for _, m := range messages[tx] {
			c.Check(isOf(m.order, lines[tx]), "a message says %s of transaction %s, which moved %s at %s and %s at %s",
				m.order, tx, describe(lines[tx][postgresName]), postgresName, describe(lines[tx][mariadbName]), mariadbName)
		}
	}
	return c
}

// answersTrue compares the parent's notes with the witnesses.
func answersTrue(a account, deals []*demo.Deal[order]) demo.Claim {
	c := demo.Claim{Text: fmt.Sprintf("each of %s answers is true: committed means carried out once, refused means untouched", demo.Count(len(deals)))}
	lines := linesByTx(a)
	for _, d := range deals {
		name := fmt.Sprintf("order %d (%s)", d.Number, d.What)
		c.Check(d.Answer == demo.AnswerCommitted || d.Answer == demo.AnswerRefused, "%s was never answered", name)
		c.Check(d.Answer != demo.AnswerCommitted || len(d.Txs) > 0, "%s was committed without a transaction", name)
		for i, tx := range d.Txs {
			found := lines[tx]
			delete(lines, tx)
			if d.Answer == demo.AnswerCommitted && i == len(d.Txs)-1 {
				c.Check(isOf(d.What, found), "%s was committed in transaction %s, which moved %s at %s and %s at %s",
					name, tx, describe(found[postgresName]), postgresName, describe(found[mariadbName]), mariadbName)
				continue
			}
			c.Check(found == nil, "%s was rolled back in transaction %s, which moved %s at %s and %s at %s",
				name, tx, describe(found[postgresName]), postgresName, describe(found[mariadbName]), mariadbName)
		}
	}
	for tx := range lines {
		c.Check(false, "transaction %s moved pieces, and nobody asked for it", tx)
	}
	return c
}

// proveStorm checks what the storm was to show.
func proveStorm(s *demo.Storm[order]) []demo.Claim {
	committed := s.Committed()
	half := demo.Claim{Text: fmt.Sprintf("at least half of %s orders committed: %s", demo.Count(len(s.Deals)), demo.Count(committed))}
	half.Check(2*committed >= len(s.Deals), "only %s did", demo.Count(committed))
	met := demo.Claim{Text: fmt.Sprintf("at least half of the kills met a transaction in doubt: %d of %d", s.Toll.MetInDoubt, s.Toll.Kills)}
	met.Check(2*s.Toll.MetInDoubt >= s.Toll.Kills, "only %d did", s.Toll.MetInDoubt)
	return []demo.Claim{half, met, s.Kept()}
}

// linesByTx returns each transaction's lines by warehouse.
func linesByTx(a account) map[participant.TxID]map[string][]line {
	found := map[participant.TxID]map[string][]line{}
	for name, b := range a.warehouses {
		for _, l := range b.lines {
			if found[l.tx] == nil {
				found[l.tx] = map[string][]line{}
			}
			found[l.tx][name] = append(found[l.tx][name], l)
		}
	}
	return found
}

// isOf reports whether the lines are those of the order, carried out once.
func isOf(o order, lines map[string][]line) bool {
	for _, name := range warehouseNames {
		l := lines[name]
		if len(l) != 1 || l[0].item != o.Item || l[0].pieces != o.moved(name) {
			return false
		}
	}
	return true
}

func describe(lines []line) string {
	if len(lines) == 0 {
		return "nothing"
	}
	var s []string
	for _, l := range lines {
		s = append(s, fmt.Sprintf("%s by %d", l.item, l.pieces))
	}
	return strings.Join(s, ", ")
}
