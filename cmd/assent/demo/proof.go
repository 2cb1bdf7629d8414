package demo

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/assent-tm/assent/participant"
)

// payment is a transfer as the parent remembers it.
type payment struct {
	number   int
	transfer Transfer
	// txs are all transactions that were begun for it: another one only after it
	// was certain that the one before was rolled back. The last is the current one
	// if begun.
	txs    []participant.TxID
	begun  bool
	answer answer
}

// tx is the current transaction.
func (p *payment) tx() participant.TxID { return p.txs[len(p.txs)-1] }

// claim is one thing that the demo proves, with what speaks against it.
type claim struct {
	text  string
	wrong []string
}

func (c *claim) check(holds bool, format string, args ...any) {
	if !holds {
		c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
	}
}

func openingTotal() (sum int64) {
	for _, accounts := range accountsOf {
		sum += openingBalance * int64(len(accounts))
	}
	return sum
}

// proveBooks checks what the two databases say, and whether that agrees with what
// the coordinator answered.
func proveBooks(all map[string]books, payments []*payment) []claim {
	return []claim{conserved(all), nothingPrepared(all), nothingMixed(all), answersTrue(all, payments)}
}

func conserved(all map[string]books) claim {
	c := claim{text: fmt.Sprintf("money is conserved: %s coins before, %s after", count(openingTotal()), count(total(all)))}
	c.check(total(all) == openingTotal(), "%s coins are in the accounts", count(total(all)))
	moved := map[string]int64{}
	for _, b := range all {
		for _, e := range b.entries {
			moved[e.account] += e.amount
		}
	}
	found := balances(all)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		c.check(found[name] == openingBalance+moved[name], "%s has %s, but began with %s and moved %s", name, count(found[name]), count(openingBalance), count(moved[name]))
		c.check(found[name] >= 0, "%s is overdrawn: %s", name, count(found[name]))
	}
	return c
}

func nothingPrepared(all map[string]books) claim {
	c := claim{text: "nothing is left prepared or reserved"}
	for _, bank := range bankNames {
		for tx, state := range all[bank].branches {
			c.check(state != prepared, "transaction %s is still prepared in %s", tx, bank)
		}
		for name, a := range all[bank].accounts {
			c.check(a.reserved == 0, "%s coins of %s are still reserved", count(a.reserved), name)
		}
	}
	return c
}

// nothingMixed looks at the witnesses: each transaction moved money in both banks,
// once and the same amount, or in none.
func nothingMixed(all map[string]books) claim {
	a, b := byTx(all[bankA].entries), byTx(all[bankB].entries)
	debits := 0
	c := claim{}
	for _, tx := range transactions(all) {
		ea, eb := a[tx], b[tx]
		if len(ea) == 0 && len(eb) == 0 {
			continue
		}
		debits++
		c.check(len(ea) == 1 && len(eb) == 1 && ea[0].amount == -eb[0].amount,
			"transaction %s moved %s in %s and %s in %s", tx, describe(ea), bankA, describe(eb), bankB)
	}
	for _, tx := range transactions(all) {
		sa, sb := all[bankA].branches[tx], all[bankB].branches[tx]
		// One that is rolled back in one bank may never have reached the other.
		c.check((sa == committed) == (sb == committed), "transaction %s: its branch is %s in %s and %s in %s", tx, orNone(sa), bankA, orNone(sb), bankB)
		c.check((sa == committed) == (len(a[tx]) > 0) && (sb == committed) == (len(b[tx]) > 0),
			"transaction %s moved %s in %s and %s in %s, but its branches are %s and %s", tx, describe(a[tx]), bankA, describe(b[tx]), bankB, orNone(sa), orNone(sb))
	}
	c.text = fmt.Sprintf("no mixed outcome: each of %s debits in one bank has its credit in the other", count(debits))
	return c
}

// answersTrue compares the parent's notes with the books.
func answersTrue(all map[string]books, payments []*payment) claim {
	c := claim{text: fmt.Sprintf("each of %s answers is true: committed means moved once, refused means untouched", count(len(payments)))}
	entries := byTx(slices.Concat(all[bankA].entries, all[bankB].entries))
	for _, p := range payments {
		name := fmt.Sprintf("transfer %d (%s)", p.number, p.transfer)
		c.check(p.answer == answerCommitted || p.answer == answerRefused, "%s was never answered", name)
		for i, tx := range p.txs {
			found := entries[tx]
			delete(entries, tx)
			if p.answer != answerCommitted || i < len(p.txs)-1 {
				c.check(len(found) == 0, "%s was rolled back in transaction %s, but moved %s", name, tx, describe(found))
				continue
			}
			moved := map[string]int64{}
			for _, e := range found {
				moved[e.account] += e.amount
			}
			right := len(found) == 2 && moved[p.transfer.From] == -p.transfer.Amount && moved[p.transfer.To] == p.transfer.Amount
			c.check(right, "%s was committed in transaction %s, but moved %s", name, tx, describe(found))
		}
		c.check(p.answer != answerCommitted || len(p.txs) > 0, "%s was committed without a transaction", name)
	}
	for tx, found := range entries {
		c.check(false, "transaction %s moved %s, and nobody asked for it", tx, describe(found))
	}
	return c
}

func byTx(entries []entry) map[participant.TxID][]entry {
	found := map[participant.TxID][]entry{}
	for _, e := range entries {
		found[e.tx] = append(found[e.tx], e)
	}
	return found
}

// transactions returns every transaction that either database names, in order.
func transactions(all map[string]books) []participant.TxID {
	found := map[participant.TxID]bool{}
	for _, b := range all {
		for tx := range b.branches {
			found[tx] = true
		}
		for _, e := range b.entries {
			found[e.tx] = true
		}
	}
	return slices.SortedFunc(maps.Keys(found), participant.TxID.Compare)
}

func describe(entries []entry) string {
	if len(entries) == 0 {
		return "nothing"
	}
	var s []string
	for _, e := range entries {
		s = append(s, fmt.Sprintf("%s by %s", e.account, count(e.amount)))
	}
	return strings.Join(s, ", ")
}

func orNone(state string) string {
	if state == "" {
		return "unknown"
	}
	return state
}
