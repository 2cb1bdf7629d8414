// Package config reads what a server is to be: from flags, the environment, a file in
// YAML, and defaults, in this order. It finds all mistakes at once, and says of each
// where it is and what to do.
package config

import (
	"time"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/server"
)

// Config says what a server is. A field's key is the path of its tags, such as
// api.tls.cert_file.
type Config struct {
	Domain       string                 `key:"domain" help:"names this installation in every XID: 1 to 16 of a-z, 0-9 and -"`
	Log          Log                    `key:"log"`
	API          API                    `key:"api"`
	Admin        Admin                  `key:"admin"`
	Auth         Auth                   `key:"auth"`
	Limits       Limits                 `key:"limits"`
	Timeouts     Timeouts               `key:"timeouts"`
	Logging      Logging                `key:"logging"`
	Participants map[string]Participant `key:"participants"`
}

// Log says where the recovery log is.
type Log struct {
	Path string `key:"path" help:"file of the recovery log; made if it is not there"`
}

// API is the listener for clients and participants.
type API struct {
	Listen        string `key:"listen" help:"address for clients and participants"`
	AllowInsecure bool   `key:"allow_insecure" help:"let api and admin listen beyond loopback though there is no TLS or nobody is asked who he is"`
	TLS           TLS    `key:"tls"`
}

// Admin is the listener for operators.
type Admin struct {
	Listen string `key:"listen" help:"address for operators"`
	TLS    TLS    `key:"tls"`
}

// TLS names a listener's files.
type TLS struct {
	CertFile      string `key:"cert_file" help:"certificate in PEM, with those that lead to its authority"`
	KeyFile       string `key:"key_file" help:"that certificate's key in PEM"`
	ClientCAFile  string `key:"client_ca_file" help:"authorities of client certificates in PEM"`
	RequireClient bool   `key:"require_client" help:"refuse who shows no client certificate"`
}

// Given reports whether there is TLS.
func (t TLS) Given() bool { return t != TLS{} }

// Files are those of the server's listener.
func (t TLS) Files() server.TLSFiles {
	return server.TLSFiles{Certificate: t.CertFile, Key: t.KeyFile, ClientCAs: t.ClientCAFile, RequireClient: t.RequireClient}
}

// Auth says who may call.
type Auth struct {
	TokensFile string `key:"tokens_file" help:"who may call, as 'assent token' writes it; nobody is asked without it"`
}

// Limits bound what a server holds.
type Limits struct {
	Open         int `key:"open" help:"undecided transactions"`
	OpenPerOwner int `key:"open_per_owner" help:"undecided transactions of one caller; 0: as many as limits.open"`
	Participants int `key:"participants" help:"registered participants"`
	Undelivered  int `key:"undelivered" help:"decided branches of one participant that it has not acknowledged"`
	InFlight     int `key:"in_flight" help:"calls of one participant at a time"`
	RetainedMB   int `key:"retained_mb" help:"megabytes of the log for outcomes of transactions that have ended"`
	Connections  int `key:"connections" help:"connections of callers"`
	Calls        int `key:"calls" help:"calls of callers at a time"`
	Streams      int `key:"streams" help:"streams at a time, those of participants included"`
	Events       int `key:"events" help:"events that are remembered for those who watch"`
}

// Timeouts bound how long things take.
type Timeouts struct {
	Transaction    time.Duration `key:"transaction" help:"how long a transaction may stay undecided, unless its caller says otherwise"`
	MaxTransaction time.Duration `key:"max_transaction" help:"longest timeout that a caller may give its transaction"`
	Call           time.Duration `key:"call" help:"how long one call of a participant may take"`
	CommitWait     time.Duration `key:"commit_wait" help:"how long a commit waits for acknowledgements after the decision; 0: not at all"`
	RetryMin       time.Duration `key:"retry_min" help:"shortest pause before a participant is told again"`
	RetryMax       time.Duration `key:"retry_max" help:"longest pause before a participant is told again"`
	Sweep          time.Duration `key:"sweep" help:"pause between two sweeps for orphans"`
	Retention      time.Duration `key:"retention" help:"how long an outcome is kept after all have acknowledged"`
	Peer           time.Duration `key:"peer" help:"how long a caller may take to send a request, and to take each part of the answer"`
	Drain          time.Duration `key:"drain" help:"how long transactions may take to finish after SIGTERM"`
}

// Logging says what the server logs on standard error.
type Logging struct {
	Level  string `key:"level" help:"debug, info, warn or error"`
	Format string `key:"format" help:"console or json"`
}

// The kinds of participants.
const (
	KindHTTP   = "http"
	KindGRPC   = "grpc"
	KindStream = "stream"
)

// Participant is a service that takes part, by the name that clients enlist it with.
type Participant struct {
	Kind           string         `key:"kind" help:"http, grpc, or stream: it calls this server and needs no url"`
	URL            string         `key:"url" help:"where it is called"`
	SecretFile     string         `key:"secret_file" help:"secrets that calls are signed with, whsec_…, one a line"`
	Allow          []string       `key:"allow" help:"networks its address may be in, such as 10.0.0.0/8"`
	AllowInsecure  bool           `key:"allow_insecure" help:"call it without TLS though it is not on this machine"`
	Lists          bool           `key:"lists" help:"it can list what it holds prepared"`
	Forgets        bool           `key:"forgets" help:"it wants to be told what it need not keep any more"`
	MaxConnections int            `key:"max_connections" help:"connections to it; 0: the default"`
	TLS            ParticipantTLS `key:"tls"`

	// Secrets are what SecretFile, or the environment, holds.
	Secrets []string
}

// ParticipantTLS names the files for calls of a participant.
type ParticipantTLS struct {
	CAFile   string `key:"ca_file" help:"authorities of its certificate in PEM; default: the system's"`
	CertFile string `key:"cert_file" help:"certificate to show to it in PEM"`
	KeyFile  string `key:"key_file" help:"that certificate's key in PEM"`
}

// Default is what nobody has set.
func Default() Config {
	return Config{
		Log:     Log{Path: "assent.db"},
		API:     API{Listen: "127.0.0.1:7379"},
		Admin:   Admin{Listen: "127.0.0.1:7380"},
		Logging: Logging{Level: "info", Format: "console"},
		Limits: Limits{
			Open: coordinator.DefaultMaxOpen, Participants: coordinator.DefaultMaxParticipants, Undelivered: coordinator.DefaultMaxUndelivered,
			InFlight: coordinator.DefaultMaxInFlight, RetainedMB: coordinator.DefaultRetainBytes >> 20,
			Connections: server.DefaultMaxConnections, Calls: server.DefaultMaxCalls, Streams: server.DefaultMaxStreams, Events: coordinator.DefaultFeedSize,
		},
		Timeouts: Timeouts{
			Transaction: coordinator.DefaultTimeout, MaxTransaction: server.DefaultMaxTimeout, Call: coordinator.DefaultCallTimeout, CommitWait: coordinator.DefaultCommitWait,
			RetryMin: coordinator.DefaultRetryMin, RetryMax: coordinator.DefaultRetryMax, Sweep: coordinator.DefaultSweepInterval,
			Retention: coordinator.DefaultRetention, Peer: server.DefaultPeerTimeout, Drain: 30 * time.Second,
		},
	}
}
