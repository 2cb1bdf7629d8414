package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tm/assent/participant"
)

// Error codes of the server by which this package decides; those of package jetstream
// that it names stand beside them.
const (
	codeAtomicDisabled   jetstream.ErrorCode = 10174
	codeBatchIncomplete  jetstream.ErrorCode = 10176
	codeBatchTooLarge    jetstream.ErrorCode = 10199
	codeTooManyBatches   jetstream.ErrorCode = 10210
	codeTTLDisabled      jetstream.ErrorCode = 10166
	codeRollupRefused    jetstream.ErrorCode = 10111
	codeSealed           jetstream.ErrorCode = 10109
	codeStreamFull       jetstream.ErrorCode = 10077
	codeNoResources      jetstream.ErrorCode = 10023
	codeAccountExceeded  jetstream.ErrorCode = 10002
	codeSequenceNotFound jetstream.ErrorCode = 10043
	codeNotEnabled                           = jetstream.JSErrCodeJetStreamNotEnabled
	codeNotForAccount                        = jetstream.JSErrCodeJetStreamNotEnabledForAccount
	codeStreamNotFound                       = jetstream.JSErrCodeStreamNotFound
	codeMessageTooLarge                      = jetstream.JSErrCodeStreamMessageExceedsMaximum
	codeNoMessage                            = jetstream.JSErrCodeMessageNotFound
	codeTaken                                = jetstream.JSErrCodeStreamWrongLastSequence
	codeTakenReplicated                      = jetstream.JSErrCodeStreamWrongLastSequenceConstant
)

// fixes tells for errors of the server by which one an operator has to act, and how.
var fixes = map[jetstream.ErrorCode]string{
	codeAtomicDisabled:  "set allow_atomic of the stream",
	codeBatchTooLarge:   "raise max_batch_size in the server's jetstream limits to 1000",
	codeTTLDisabled:     "set allow_msg_ttl of the stream",
	codeRollupRefused:   "set allow_rollup_hdrs of the stream, and not deny_purge",
	codeSealed:          "the stream is sealed and takes no messages: publish to another one",
	codeStreamFull:      "the stream is full: raise its max_msgs or max_bytes, or purge it",
	codeNoResources:     "the server has no room: give it more storage, or JetStream more of it",
	codeAccountExceeded: "the account's limits are reached: raise its JetStream storage",
	codeNotEnabled:      "enable JetStream in the server's configuration",
	codeNotForAccount:   "enable JetStream for the account",
	codeStreamNotFound:  "create the stream, or correct Config.Stream or the JetStream domain",
	codeMessageTooLarge: "raise max_msg_size of the stream",
}

// errTaken says that the subject has a message already, where none was expected.
var errTaken = errors.New("the subject has a message already")

// apiError returns what an error of the server says; nil for none.
func apiError(err *jetstream.APIError) error {
	if err == nil {
		return nil
	}
	if err.ErrorCode == codeTaken || err.ErrorCode == codeTakenReplicated {
		return errTaken
	}
	if fix, known := fixes[err.ErrorCode]; known {
		return fmt.Errorf("%w: %s: %w", participant.ErrConfig, fix, err)
	}
	return err
}

// request sends a message and returns the answer. It does not wait for a connection:
// what is sent then would arrive when nobody counts on it any more.
func (p *Participant) request(ctx context.Context, m *natsgo.Msg) (*natsgo.Msg, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.cfg.JetStream.Options().DefaultTimeout)
		defer cancel()
	}
	ctx, release := p.whileConnected(ctx)
	defer release()
	if !p.conn.IsConnected() {
		return nil, p.notConnected()
	}
	answer, err := p.conn.RequestMsgWithContext(ctx, m)
	switch {
	case errors.Is(context.Cause(ctx), errConnectionLost):
		return nil, fmt.Errorf("ask on subject %q: %w", m.Subject, errConnectionLost)
	case errors.Is(err, natsgo.ErrNoResponders):
		return nil, fmt.Errorf("no stream takes subject %q: it is not there, has other subjects, or JetStream is down: %w", m.Subject, err)
	case err != nil:
		if denied := p.denied(m.Subject); denied != nil {
			err = denied
		}
		return nil, fmt.Errorf("ask on subject %q: %w", m.Subject, err)
	}
	return answer, nil
}

var errConnectionLost = errors.New("the connection was lost before the answer came")

// whileConnected returns a context that ends with the connection, too: an answer
// would never come. release has to be called.
func (p *Participant) whileConnected(ctx context.Context) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	lost := p.conn.StatusChanged(natsgo.RECONNECTING, natsgo.CLOSED)
	var watch sync.WaitGroup
	watch.Go(func() {
		for range lost {
			cancel(errConnectionLost)
		}
	})
	return ctx, func() {
		p.conn.RemoveStatusListener(lost) // which ends the watch
		watch.Wait()
		cancel(nil)
	}
}

func (p *Participant) notConnected() error {
	err := p.conn.LastError()
	switch {
	case errors.Is(err, natsgo.ErrAuthorization) || errors.Is(err, natsgo.ErrAuthExpired) || errors.Is(err, natsgo.ErrAuthRevoked):
		return fmt.Errorf("%w: the server does not accept the client's credentials: correct them in the options of the connection: %w", participant.ErrConfig, err)
	case err != nil:
		return fmt.Errorf("not connected to NATS (%s): %w", p.conn.Status(), err)
	}
	return fmt.Errorf("not connected to NATS (%s)", p.conn.Status())
}

// denied returns why the server passes no message on to the subject, if it said so.
// It says it aside, while who sent the message waits.
func (p *Participant) denied(subject string) error {
	err := p.conn.LastError()
	if errors.Is(err, natsgo.ErrPermissionViolation) && strings.Contains(err.Error(), strconv.Quote(subject)) {
		return fmt.Errorf("%w: the user of this connection may not publish to %q: permit it: %w", participant.ErrConfig, subject, err)
	}
	return nil
}

// api asks JetStream's API and reads the answer into response, unless it is an error.
func (p *Participant) api(ctx context.Context, call string, request, response any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode a request: %w", err)
	}
	answer, err := p.request(ctx, &natsgo.Msg{Subject: p.apiPrefix() + call, Data: data})
	if err != nil {
		return err
	}
	var failure struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &failure); err != nil {
		return fmt.Errorf("read the answer to %s: %w", call, err)
	}
	if failure.Error != nil {
		return apiError(failure.Error)
	}
	if err := json.Unmarshal(answer.Data, response); err != nil {
		return fmt.Errorf("read the answer to %s: %w", call, err)
	}
	return nil
}

func (p *Participant) apiPrefix() string {
	options := p.cfg.JetStream.Options()
	switch {
	case options.Domain != "":
		return "$JS." + options.Domain + ".API."
	case options.APIPrefix != "":
		return strings.TrimSuffix(options.APIPrefix, ".") + "."
	default:
		return jetstream.DefaultAPIPrefix
	}
}

// stored is a message of a stream.
type stored struct {
	Sequence uint64    `json:"seq"`
	Header   []byte    `json:"hdrs"`
	Data     []byte    `json:"data"`
	Time     time.Time `json:"time"`
}

// last returns the last message on the subject; nil if there is none. It asks the
// stream's leader: a replica could be behind, and absence is read with care (R7).
func (p *Participant) last(ctx context.Context, stream, subject string) (*stored, error) {
	var response struct {
		Message *stored `json:"message"`
	}
	err := p.api(ctx, "STREAM.MSG.GET."+stream, map[string]string{"last_by_subj": subject}, &response)
	var failure *jetstream.APIError
	if errors.As(err, &failure) && failure.ErrorCode == codeNoMessage {
		return nil, nil
	}
	if err == nil && response.Message == nil {
		err = errors.New("the answer has no message")
	}
	if err != nil {
		return nil, fmt.Errorf("read subject %q of stream %q: %w", subject, stream, err)
	}
	return response.Message, nil
}

// remove removes a message of the staging stream; one that is gone already is no
// error.
func (p *Participant) remove(ctx context.Context, sequence uint64) error {
	request := map[string]any{"seq": sequence, "no_erase": true}
	err := p.api(ctx, "STREAM.MSG.DELETE."+p.cfg.Staging, request, &struct{}{})
	var failure *jetstream.APIError
	if errors.As(err, &failure) && failure.ErrorCode == codeSequenceNotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove message %d of stream %q: %w", sequence, p.cfg.Staging, err)
	}
	return nil
}
