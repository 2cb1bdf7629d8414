package redis

import (
	"context"
	"crypto/rand"
	_ "embed" // the scripts
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/assent-tm/assent/participant"
)

//go:embed branch.lua
var branchSource string

//go:embed forget.lua
var forgetSource string

// Scripts are sent by their hash, and whole if the server does not have them.
var (
	branchScript = goredis.NewScript(branchSource)
	forgetScript = goredis.NewScript(forgetSource)
)

// keys are the participant's own.
type keys struct {
	prefix string
	// identity names the database. terms has the newest epoch and highest transaction
	// of each term, used when it was last used. pending are the XIDs in doubt. scratch
	// is there within a script only.
	identity, terms, used, pending, scratch string
}

func newKeys(tag, name string) keys {
	prefix := "assent:{" + tag + "}:" + name + ":"
	return keys{prefix, prefix + "database", prefix + "terms", prefix + "used", prefix + "prepared", prefix + "scratch"}
}

// branch is where the branch's state is, staged where its operations are.
func (k keys) branch(xid participant.XID) string { return k.prefix + "branch:" + string(xid) }
func (k keys) staged(xid participant.XID) string { return k.prefix + "staged:" + string(xid) }

// verb is what the branch script is to do.
type verb string

const (
	verbProbe    verb = "probe"
	verbPrepare  verb = "prepare"
	verbCommit   verb = "commit"
	verbRollback verb = "rollback"
	verbOnePhase verb = "one-phase"
)

// What the branch script answers.
const (
	isPrepared   = "prepared"
	isCommitted  = "committed"
	isRolledBack = "rolled back"
	isUnknown    = "unknown"
	isEmpty      = "empty"      // nothing was staged
	isLost       = "lost"       // what was staged is not here: rolled back
	isUnfit      = "unfit"      // key, reason: rolled back
	isBlocked    = "blocked"    // key, reason: prepared, and can't be applied as it is
	isUndeclared = "undeclared" // key: the operations are others than the caller knew
	isDamaged    = "damaged"    // prepared, but operations are missing
	isStale      = "stale"      // epoch
	isElsewhere  = "elsewhere"  // it is another database
	isForbidden  = "forbidden"  // command, key
	isAble       = "able"
)

// answer is what a script returned.
type answer struct {
	what, first, second string
}

// run runs the branch script. operations are what the branch has staged here, keys
// what its operations write.
func (p *Participant) run(ctx context.Context, v verb, b participant.Branch, session bool, operations []operation, written []string) (answer, error) {
	xid := b.XID()
	k := p.keys
	declared := append([]string{k.identity, k.terms, k.used, k.pending, k.scratch, k.branch(xid), k.staged(xid)}, written...)
	term := participant.XIDPrefix(b.Domain) + b.Tx.Term.String()
	flat := encode(operations)
	args := make([]any, 0, 8+len(flat))
	args = append(args, string(v), string(xid), term, hex.EncodeToString(b.Tx.UUID[:]), fmt.Sprintf("%020d", b.Epoch), string(b.Data),
		strconv.FormatInt(seconds(p.cfg.MaxRetention), 10), "")
	if session {
		args[len(args)-1] = "here"
	}
	for _, word := range flat {
		args = append(args, word)
	}
	words, err := branchScript.Run(ctx, p.cfg.Client, declared, args...).StringSlice()
	if err != nil {
		return answer{}, p.misconfigured(err)
	}
	a := answer{what: words[0]}
	if len(words) > 1 {
		a.first = words[1]
	}
	if len(words) > 2 {
		a.second = words[2]
	}
	if a.what == isElsewhere {
		p.database.Store(nil) // the next Join asks again
	}
	return a, nil
}

// seconds rounds up: nothing goes early.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// knownDatabase returns the random name of the database behind the client. It gives
// it one if it has none.
func (p *Participant) knownDatabase(ctx context.Context) (string, error) {
	if known := p.database.Load(); known != nil {
		return *known, nil
	}
	err := p.cfg.Client.SetNX(ctx, p.keys.identity, rand.Text(), 0).Err()
	if err != nil {
		return "", fmt.Errorf("name the database: %w", p.misconfigured(err))
	}
	name, err := p.cfg.Client.Get(ctx, p.keys.identity).Result()
	if err != nil {
		return "", fmt.Errorf("ask the database for its name: %w", p.misconfigured(err))
	}
	p.database.Store(&name)
	return name, nil
}

// err returns what an answer that is no state of the branch says. p is for its name.
func (a answer) err(p *Participant) error {
	switch a.what {
	case isStale:
		return fmt.Errorf("epoch seen is %s: %w", a.first, participant.ErrStaleEpoch)
	case isElsewhere:
		return fmt.Errorf("%w: this is another database than the one where the branch was begun, or one that lost its data: key %q differs from the branch's Data",
			participant.ErrConfig, p.keys.identity)
	case isForbidden:
		return fmt.Errorf("%w: the user of this connection may not run %s on key %q: grant it with ACL SETUSER", participant.ErrConfig, a.first, a.second)
	case isDamaged:
		return fmt.Errorf("%w: %w", participant.ErrUnknownBranch, errDamaged)
	case isBlocked:
		// ErrConfig has it reported at once: somebody has to mend the key (R6).
		return fmt.Errorf("%w: %w: %q: %s; nothing is applied until this is put right, by RENAME of the key perhaps", participant.ErrConfig, ErrKey, a.first, a.second)
	case isUnfit:
		return fmt.Errorf("%w: %w: %q: %s", participant.ErrRefused, ErrKey, a.first, a.second)
	case isLost:
		return fmt.Errorf("%w: what it staged is not in this process", participant.ErrRefused)
	case isCommitted, isRolledBack:
		return fmt.Errorf("%w: the branch is %s already", participant.ErrRefused, a.what)
	default:
		return fmt.Errorf("the script answers %q", a.what)
	}
}

// fixes tells for errors of the server by which one an operator has to act, and how.
var fixes = []struct{ prefix, fix string }{
	{"NOAUTH", "the server wants a password: give Username and Password in the client's options"},
	{"WRONGPASS", "Username or Password in the client's options is wrong"},
	{"NOPERM", "grant the user the participant's commands and keys with ACL SETUSER"},
	{"READONLY", "this is a replica: connect to the master"},
	{"MOVED", "the server belongs to a cluster: connect with redis.NewClusterClient"},
	{"MISCONF", "the server can't write to its disk and takes no writes: free space or mend the disk"},
	{"WRONGTYPE", "a key of the participant's own, which begin with assent:, was overwritten"},
}

// misconfigured marks the errors by which an operator has to act.
func (p *Participant) misconfigured(err error) error {
	for _, f := range fixes {
		if goredis.HasErrorPrefix(err, f.prefix) {
			return fmt.Errorf("%w: %s: %w", participant.ErrConfig, f.fix, err)
		}
	}
	return err
}

// outOfMemory reports whether the server refused a write for want of memory. Of the
// branch script it says that nothing was written.
func outOfMemory(err error) bool {
	return err != nil && (goredis.IsOOMError(err) || goredis.HasErrorPrefix(errors.Unwrap(err), "OOM"))
}

// explain says what was being done to which branch.
func (p *Participant) explain(what string, b participant.Branch, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s branch %s of participant %q: %w", what, b.XID(), p.cfg.Name, err)
}
