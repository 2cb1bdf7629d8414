package mysql

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// origin says where a branch's work was begun. It is the branch's Data, and the
// witness row keeps it for those who know no more than the XID.
type origin struct {
	// database is the identity of the database: 32 hexadecimal digits that were
	// drawn when its tables were created.
	database string
	// started is when the server had started, by its own clock, in seconds since
	// 1970 and one or two wrong. It tells the runs of a server apart: after a
	// restart others get the same connection ids.
	started int64
	// connection is the server's number for the connection.
	connection uint64
	// session names the connection for ever: 32 random hexadecimal digits. While it
	// lives it holds the user-level lock of this name.
	session string
}

const (
	originFormat = "1"
	digits       = 32
	lockPrefix   = "assent:"
	// clockError is how far the start of one run may be off when it is asked twice.
	clockError = 2
)

func (o origin) String() string {
	return fmt.Sprintf("%s:%s:%d:%d:%s", originFormat, o.database, o.started, o.connection, o.session)
}

// parseOrigin reads what origin.String writes, and nothing else.
func parseOrigin(s string) (origin, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 5 || parts[0] != originFormat {
		return origin{}, fmt.Errorf("%.100q is not where a branch was begun: want what Join enlisted", s)
	}
	o := origin{database: parts[1], session: parts[4]}
	var errStarted, errConnection error
	o.started, errStarted = strconv.ParseInt(parts[2], 10, 64)
	o.connection, errConnection = strconv.ParseUint(parts[3], 10, 64)
	if !isHex(o.database) || !isHex(o.session) || errStarted != nil || errConnection != nil || o.String() != s {
		return origin{}, fmt.Errorf("%.100q is not where a branch was begun: want what Join enlisted", s)
	}
	return o, nil
}

// sameRun reports whether the server was not restarted between o and other.
func (o origin) sameRun(other origin) bool {
	off := o.started - other.started
	return -clockError <= off && off <= clockError
}

// lock is the name of the user-level lock that the session holds.
func (o origin) lock() string { return lockPrefix + o.session }

func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == digits && strings.ToLower(s) == s
}
