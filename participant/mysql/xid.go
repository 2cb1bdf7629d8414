package mysql

import (
	"fmt"
	"strings"

	"github.com/assent-tm/assent/participant"
)

// formatID tells our branches from those of other applications: "ASNT".
const formatID = 0x41534e54

// maxBqual is the number of bytes that X/Open gives a branch qualifier.
const maxBqual = 64

// bqual is the second half of the server's XIDs of a participant. A server lists
// the branches of all its databases: this tells which are of this one, and of
// which participant, as far as the name fits.
func bqual(database, name string) string {
	q := database + "." + name
	return q[:min(len(q), maxBqual)]
}

// xaID is how the server knows a branch.
type xaID struct {
	format       int64
	gtrid, bqual string
}

func newXAID(b participant.Branch, q string) xaID { return xaID{formatID, string(b.XID()), q} }

// literal returns the id as the server's grammar has it, which takes no parameters
// there.
func (id xaID) literal() string {
	return fmt.Sprintf("%s,%s,%d", hexText(id.gtrid), hexText(id.bqual), id.format)
}

// String is the literal for people, if it can be.
func (id xaID) String() string {
	if !plain(id.gtrid) || !plain(id.bqual) {
		return id.literal()
	}
	return fmt.Sprintf("'%s','%s',%d", id.gtrid, id.bqual, id.format)
}

func plain(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '\'' || c == '\\' {
			return false
		}
	}
	return true
}

// branch returns what the id says if one of Assent's participants has made it, in this
// database or in another one of the server.
func (id xaID) branch() (b participant.Branch, ok bool) {
	if id.format != formatID || id.database() == "" {
		return b, false
	}
	b, err := participant.ParseXID(id.gtrid)
	return b, err == nil
}

// database returns the identity of the database that the branch is in; "" if the id is
// not of a branch.
func (id xaID) database() string {
	if database, name, _ := strings.Cut(id.bqual, "."); isHex(database) && name != "" {
		return database
	}
	return ""
}

// split returns the id that a row of XA RECOVER means.
func split(format int64, gtrid, bqual int, data []byte) (id xaID, ok bool) {
	if gtrid < 0 || bqual < 0 || gtrid+bqual != len(data) {
		return id, false
	}
	return xaID{format, string(data[:gtrid]), string(data[gtrid:])}, true
}

// hexText returns the literal of a string, also of an empty one.
func hexText(s string) string { return fmt.Sprintf("x'%x'", s) }
