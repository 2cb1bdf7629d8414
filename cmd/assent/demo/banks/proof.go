package banks

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/assent-tm/assent/cmd/assent/demo"
	"github.com/assent-tm/assent/participant"
)

// payment is a transfer as the parent remembers it.
type payment = demo.Deal[Transfer]

func openingTotal() (sum int64) {
	for _, accounts := range accountsOf {
		sum += openingBalance * int64(len(accounts))
	}
	return sum
}

// proveBooks checks what the two databases say, and whether that agrees with what
// the coordinator answered.
func proveBooks(all map[string]books, payments []*payment) []demo.Claim {
	return []demo.Claim{conserved(all), nothingPrepared(all), nothingMixed(all), answersTrue(all, payments)}
}

func conserved(all map[string]books) demo.Claim {
	c := demo.Claim{Text: fmt.Sprintf("money is conserved: %s coins before, %s after", demo.Count(openingTotal()), demo.Count(total(all)))}
	c.Check(total(all) == openingTotal(), "%s coins are in the accounts", demo.Count(total(all)))
	moved := map[string]int64{}
	for _, b := range all {
		for _, e := range b.entries {
			moved[e.account] += e.amount
		}
	}
	found := balances(all)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		c.Check(found[name] == openingBalance+moved[name], "%s has %s, but began with %s and moved %s", name, demo.Count(found[name]), demo.Count(openingBalance), demo.Count(moved[name]))
		c.Check(found[name] >= 0, "%s is overdrawn: %s", name, demo.Count(found[name]))
	}
	return c
}

func nothingPrepared(all map[string]books) demo.Claim {
	c := demo.Claim{Text: "nothing is left prepared or reserved"}
	for _, bank := range bankNames {
		for tx, state := range all[bank].branches {
			c.Check(state != prepared, "transaction %s is still prepared in %s", tx, bank)
		}
		for name, a := range all[bank].accounts {
			c.Check(a.reserved == 0, "%s coins of %s are still reserved", demo.Count(a.reserved), name)
		}
	}
	return c
}

// nothingMixed looks at the witnesses: each transaction moved money in both banks,
// once and the same amount, or in none.
func nothingMixed(all map[string]books) demo.Claim {
	a, b := byTx(all[bankA].entries), byTx(all[bankB].entries)
	debits := 0
	c := demo.Claim{}
	for _, tx := range transactions(all) {
		ea, eb := a[tx], b[tx]
		if len(ea) == 0 && len(eb) == 0 {
			continue
		}
		debits++
		c.Check(len(ea) == 1 && len(eb) == 1 && ea[0].amount == -eb[0].amount,
			"transaction %s moved %s in %s and %s in %s", tx, describe(ea), bankA, describe(eb), bankB)
	}
	for _, tx := range transactions(all) {
		sa, sb := all[bankA].branches[tx], all[bankB].branches[tx]
		// One that is rolled back in one bank may never have reached the other.
		c.Check((sa == committed) == (sb == committed), "transaction %s: its branch is %s in %s and %s in %s", tx, orNone(sa), bankA, orNone(sb), bankB)
		c.Check((sa == committed) == (len(a[tx]) > 0) && (sb == committed) == (len(b[tx]) > 0),
			"transaction %s moved %s in %s and %s in %s, but its branches are %s and %s", tx, describe(a[tx]), bankA, describe(b[tx]), bankB, orNone(sa), orNone(sb))
	}
	c.Text = fmt.Sprintf("no mixed outcome: each of %s debits in one bank has its credit in the other", demo.Count(debits))
	return c
}

// answersTrue compares the parent's notes with the books.
func answersTrue(all map[string]books, payments []*payment) demo.Claim {
	c := demo.Claim{Text: fmt.Sprintf("each of %s answers is true: committed means moved once, refused means untouched", demo.Count(len(payments)))}
	entries := byTx(slices.Concat(all[bankA].entries, all[bankB].entries))
	for _, p := range payments {
		name := fmt.Sprintf("transfer %d (%s)", p.Number, p.What)
		c.Check(p.Answer == demo.AnswerCommitted || p.Answer == demo.AnswerRefused, "%s was never answered", name)
		for i, tx := range p.Txs {
			found := entries[tx]
			delete(entries, tx)
			if p.Answer != demo.AnswerCommitted || i < len(p.Txs)-1 {
				c.Check(len(found) == 0, "%s was rolled back in transaction %s, but moved %s", name, tx, describe(found))
				continue
			}
			moved := map[string]int64{}
			for _, e := range found {
				moved[e.account] += e.amount
			}
			right := len(found) == 2 && moved[p.What.From] == -p.What.Amount && moved[p.What.To] == p.What.Amount
			c.Check(right, "%s was committed in transaction %s, but moved %s", name, tx, describe(found))
		}
		c.Check(p.Answer != demo.AnswerCommitted || len(p.Txs) > 0, "%s was committed without a transaction", name)
	}
	for tx, found := range entries {
		c.Check(false, "transaction %s moved %s, and nobody asked for it", tx, describe(found))
	}
	return c
}

// proveStorm checks what the storm was to show.
func proveStorm(s *demo.Storm[Transfer]) []demo.Claim {
	committed := s.Committed()
	half := demo.Claim{Text: fmt.Sprintf("at least half of %s transfers committed: %s", demo.Count(len(s.Deals)), demo.Count(committed))}
	half.Check(2*committed >= len(s.Deals), "only %s did", demo.Count(committed))
	met := demo.Claim{Text: fmt.Sprintf("at least %d kills met a transaction in doubt: %d of %d", minMetInDoubt, s.Toll.MetInDoubt, s.Toll.Kills)}
	met.Check(s.Toll.MetInDoubt >= minMetInDoubt, "only %d did", s.Toll.MetInDoubt)
	return []demo.Claim{half, met, s.Kept()}
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
		s = append(s, fmt.Sprintf("%s by %s", e.account, demo.Count(e.amount)))
	}
	return strings.Join(s, ", ")
}

func orNone(state string) string {
	if state == "" {
		return "unknown"
	}
	return state
}
