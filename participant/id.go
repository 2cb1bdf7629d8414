package participant

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

const (
	// MaxDomain is the number of bytes a domain may have.
	MaxDomain = 16
	// MaxXID is the number of bytes an XID may have. It fits the 64 bytes that
	// X/Open gives a global transaction id, the smallest bound among resource
	// managers.
	MaxXID = 64

	maxCounter  = 1<<24 - 1
	termDigits  = 11 // of base 36: a term is below 2^56, which is below 36^11
	uuidDigits  = 32
	counterBits = 32
)

// Term numbers one coordinator's stream of log records: counter<<32 | 32 random
// bits. The counter orders the terms of one log; the random bits keep a number
// from ever being equal to one of another log, of a copy or of an earlier file
// (R9). Zero is no term.
type Term uint64

// NewTerm returns the term with this counter, 1 to 2^24-1, and these random bits.
func NewTerm(counter uint32, random uint32) Term {
	if counter == 0 || counter > maxCounter {
		panic(fmt.Sprintf("participant: term counter %d is outside 1 to %d", counter, maxCounter))
	}
	return Term(uint64(counter)<<counterBits | uint64(random))
}

// Counter returns the part that orders the terms of one log.
func (t Term) Counter() uint32 { return uint32(t >> counterBits) }

// Valid reports whether t is a term's number: its counter is within 1 to 2^24-1.
func (t Term) Valid() bool { return t.Counter() != 0 && t.Counter() <= maxCounter }

// String returns the term in base 36.
func (t Term) String() string { return strconv.FormatUint(uint64(t), 36) }

// ParseTerm reads what Term.String writes, and nothing else.
func ParseTerm(s string) (Term, error) {
	n, err := strconv.ParseUint(s, 36, 64)
	if t := Term(n); err == nil && t.Valid() && t.String() == s {
		return t, nil
	}
	return 0, fmt.Errorf("%q is not a term: want a base-36 number as assent writes it", s)
}

// TxID identifies a transaction, for ever: the term routes to the coordinator
// that owns it, the UUID (version 7) tells the transactions of a term apart.
// Comparable; the zero value is no transaction.
type TxID struct {
	Term Term
	UUID uuid.UUID
}

// IsZero reports whether id is the zero value.
func (id TxID) IsZero() bool { return id == TxID{} }

// Compare orders ids by term, then by UUID, which within a term is the order of
// Begin.
func (id TxID) Compare(other TxID) int {
	if c := cmp.Compare(id.Term, other.Term); c != 0 {
		return c
	}
	return bytes.Compare(id.UUID[:], other.UUID[:])
}

// String returns "term-uuid": base 36, then 32 hexadecimal digits.
func (id TxID) String() string {
	return id.Term.String() + "-" + hex.EncodeToString(id.UUID[:])
}

// MarshalText is String, so that an id is a string in JSON.
func (id TxID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseTxID.
func (id *TxID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseTxID(string(text))
	return err
}

// ParseTxID reads what TxID.String writes, and nothing else.
func ParseTxID(s string) (TxID, error) {
	term, digits, found := strings.Cut(s, "-")
	if !found {
		return TxID{}, fmt.Errorf("%q is not a transaction id: want TERM-UUID as assent writes it", s)
	}
	id, err := parseTxID(term, digits)
	if err != nil {
		return TxID{}, fmt.Errorf("transaction id %q: %w", s, err)
	}
	return id, nil
}

func parseTxID(term, digits string) (id TxID, err error) {
	if id.Term, err = ParseTerm(term); err != nil {
		return TxID{}, err
	}
	if len(digits) != uuidDigits || strings.ToLower(digits) != digits {
		return TxID{}, fmt.Errorf("%q is not %d lower-case hexadecimal digits", digits, uuidDigits)
	}
	if _, err = hex.Decode(id.UUID[:], []byte(digits)); err != nil {
		return TxID{}, fmt.Errorf("%q: %w", digits, err)
	}
	return id, nil
}

// XID is a branch's constant text form, "domain:term:uuid:number", under which a
// resource manager keeps it. At most MaxXID bytes of [a-z0-9:-], never reused.
type XID string

// XID returns the branch's text form.
func (b Branch) XID() XID {
	var buf [MaxXID]byte
	s := append(buf[:0], b.Domain...)
	s = append(s, ':')
	s = strconv.AppendUint(s, uint64(b.Tx.Term), 36)
	s = append(s, ':')
	s = hex.AppendEncode(s, b.Tx.UUID[:])
	s = append(s, ':')
	s = strconv.AppendInt(s, int64(b.Number), 10)
	return XID(s)
}

// ParseXID reads what Branch.XID writes, and nothing else. The returned branch
// has Domain, Tx and Number.
func ParseXID(s string) (Branch, error) {
	b, err := parseXID(s)
	if err != nil {
		return Branch{}, fmt.Errorf("xid %q: %w", s, err)
	}
	return b, nil
}

func parseXID(s string) (Branch, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 4 {
		return Branch{}, fmt.Errorf("want domain:term:uuid:number")
	}
	if err := ValidDomain(parts[0]); err != nil {
		return Branch{}, err
	}
	id, err := parseTxID(parts[1], parts[2])
	if err != nil {
		return Branch{}, err
	}
	number, err := strconv.Atoi(parts[3])
	if err != nil || number < 0 || number >= MaxBranches || strconv.Itoa(number) != parts[3] {
		return Branch{}, fmt.Errorf("branch number %q is not 0 to %d", parts[3], MaxBranches-1)
	}
	return Branch{Domain: parts[0], Tx: id, Number: number}, nil
}

// XIDPrefix returns how the XIDs of a domain begin. A resource manager's list is
// filtered by this exact prefix, never by a pattern: '_' and '%' are wildcards to
// SQL's LIKE (R10).
func XIDPrefix(domain string) string { return domain + ":" }

// ValidDomain returns nil if the domain is 1 to MaxDomain bytes of [a-z0-9-].
func ValidDomain(domain string) error {
	valid := domain != "" && len(domain) <= MaxDomain
	for i := range len(domain) {
		valid = valid && (lowerAlnum(domain[i]) || domain[i] == '-')
	}
	if !valid {
		return fmt.Errorf("domain %q is not 1 to %d characters of a-z, 0-9 and '-'", domain, MaxDomain)
	}
	return nil
}

func lowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
