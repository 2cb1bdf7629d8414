package history

// Version is the schema that Read understands.
const Version = 1

// Kind tells events apart; the package comment says what each means.
type Kind string

const (
	KindHistory   Kind = "history"
	KindBegin     Kind = "begin"
	KindEnlist    Kind = "enlist"
	KindPreparing Kind = "preparing"
	KindPrepare   Kind = "prepare"
	KindVote      Kind = "vote"
	KindDelegated Kind = "delegated"
	KindDecided   Kind = "decided"
	KindTell      Kind = "tell"
	KindAck       Kind = "ack"
	KindHeuristic Kind = "heuristic"
	KindOperator  Kind = "operator"
	KindDeadline  Kind = "deadline"
	KindForget    Kind = "forget"
	KindEffect    Kind = "effect"
	KindCall      Kind = "call"
	KindAnswer    Kind = "answer"
	KindInquiry   Kind = "inquiry"
	KindRecover   Kind = "recover"
	KindCrash     Kind = "crash"
	KindStart     Kind = "start"
	KindFault     Kind = "fault"
	KindRepaired  Kind = "repaired"
	KindSettled   Kind = "settled"
	KindPlanted   Kind = "planted"
	KindFinished  Kind = "finished"
	KindLeft      Kind = "left"
	KindListed    Kind = "listed"
	KindWitness   Kind = "witness"
	KindWitnesses Kind = "witnesses"
	KindSum       Kind = "sum"
)

// Outcome is what an event says of a transaction's or a branch's end.
type Outcome string

const (
	Commit    Outcome = "commit"
	Rollback  Outcome = "rollback"
	Undecided Outcome = "undecided"
	Unknown   Outcome = "unknown"
)

func (o Outcome) decided() bool { return o == Commit || o == Rollback }

// Vote is a branch's answer to Prepare.
type Vote string

const (
	VotePrepared Vote = "prepared"
	VoteReadOnly Vote = "read-only"
	VoteRefused  Vote = "refused"
	VoteUnknown  Vote = "unknown"
)

// Op is what a client asks for.
type Op string

const (
	OpCommit   Op = "commit"
	OpRollback Op = "rollback"
	OpGet      Op = "get"
)

// Owner is whose a planted branch is.
type Owner string

const (
	// OwnerOurs is an orphan: of a term in the coordinator's log, which never began
	// the transaction.
	OwnerOurs Owner = "ours"
	// OwnerForeign is a branch of another domain, another log or another program.
	OwnerForeign Owner = "foreign"
)

// Sight is a class of events of which a recorder misses none.
type Sight string

const (
	SeesLog     Sight = "log"
	SeesEffects Sight = "effects"
)

// Event is one line of a history. Its kind says which fields have a meaning.
type Event struct {
	Kind        Kind    `json:"kind"`
	Version     int     `json:"version,omitempty"`
	Sees        []Sight `json:"sees,omitempty"`
	Tx          string  `json:"tx,omitempty"`
	Branch      *int    `json:"branch,omitempty"`
	Participant string  `json:"participant,omitempty"`
	Vote        Vote    `json:"vote,omitempty"`
	Outcome     Outcome `json:"outcome,omitempty"`
	Lazy        bool    `json:"lazy,omitempty"`
	OnePhase    bool    `json:"one_phase,omitempty"`
	Call        *int64  `json:"call,omitempty"`
	Op          Op      `json:"op,omitempty"`
	XID         string  `json:"xid,omitempty"`
	Owner       Owner   `json:"owner,omitempty"`
	Count       *int    `json:"count,omitempty"`
	Sum         *int64  `json:"sum,omitempty"`
	Note        string  `json:"note,omitempty"`
}

func (e Event) branch() int {
	if e.Branch == nil {
		return -1
	}
	return *e.Branch
}

// shape is which fields an event of a kind has, besides kind and note, and which
// outcomes it may name.
type shape struct {
	must, may []string
	outcomes  []Outcome
}

var (
	twoOutcomes  = []Outcome{Commit, Rollback}
	withUnknown  = []Outcome{Commit, Rollback, Unknown}
	allOutcomes  = []Outcome{Commit, Rollback, Undecided, Unknown}
	ofABranch    = []string{"tx", "branch"}
	branchEnding = []string{"tx", "branch", "outcome"}
)

var shapes = map[Kind]shape{
	KindHistory:   {must: []string{"version"}, may: []string{"sees"}},
	KindBegin:     {must: []string{"tx"}},
	KindEnlist:    {must: []string{"tx", "branch", "participant"}},
	KindPreparing: {must: []string{"tx"}},
	KindPrepare:   {must: ofABranch},
	KindVote:      {must: []string{"tx", "branch", "vote"}},
	KindDelegated: {must: []string{"tx"}},
	KindDecided:   {must: []string{"tx", "outcome"}, may: []string{"lazy"}, outcomes: twoOutcomes},
	KindTell:      {must: branchEnding, may: []string{"one_phase"}, outcomes: twoOutcomes},
	KindAck:       {must: branchEnding, outcomes: twoOutcomes},
	KindHeuristic: {must: branchEnding, outcomes: withUnknown},
	KindOperator:  {must: []string{"tx"}, may: []string{"branch"}},
	KindDeadline:  {must: []string{"tx"}},
	KindForget:    {must: []string{"tx"}},
	KindEffect:    {must: ofABranch},
	KindCall:      {must: []string{"call", "tx", "op"}},
	KindAnswer:    {must: []string{"call", "outcome"}, outcomes: allOutcomes},
	KindInquiry:   {must: branchEnding, outcomes: allOutcomes},
	KindRecover:   {must: []string{"tx", "outcome"}, outcomes: []Outcome{Commit, Rollback, Undecided}},
	KindCrash:     {may: []string{"participant"}},
	KindStart:     {may: []string{"participant"}},
	KindFault:     {may: []string{"participant"}},
	KindRepaired:  {},
	KindSettled:   {},
	KindPlanted:   {must: []string{"participant", "xid", "owner"}},
	KindFinished:  {must: []string{"participant", "xid", "outcome"}, outcomes: twoOutcomes},
	KindLeft:      {must: []string{"participant", "xid"}},
	KindListed:    {must: []string{"participant", "count"}},
	KindWitness:   {must: []string{"participant", "tx"}},
	KindWitnesses: {must: []string{"participant", "count"}},
	KindSum:       {must: []string{"sum"}},
}
