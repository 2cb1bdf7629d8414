package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tm/assent/participant"
)

// monitorTime bounds one question to a server's monitoring endpoint.
const monitorTime = 5 * time.Second

// Check returns an error that Is participant.ErrConfig and names the setting if the
// server, the stream or the staging stream can't do what a branch needs. It creates the
// staging stream unless it is there. What may lose an acknowledged message in a power
// cut, and what else is dangerous but works, goes to Config.Logger.
func (p *Participant) Check(ctx context.Context) error {
	if err := p.checkAll(ctx); err != nil {
		return fmt.Errorf("check participant %q: %w", p.cfg.Name, err)
	}
	return nil
}

func (p *Participant) checkAll(ctx context.Context) error {
	if !p.conn.IsConnected() {
		return p.notConnected()
	}
	if version := p.conn.ConnectedServerVersion(); !atLeast(version, 2, 12) {
		return fmt.Errorf("%w: the server has version %s: 2.12 or later is needed, which publishes batches atomically", participant.ErrConfig, version)
	}
	w, err := p.look(ctx, true)
	if err != nil {
		return err
	}
	wrong := p.cfg.unfit(w.stream.Config)
	for _, reason := range p.cfg.unfitStaging(w.staging.Config) {
		wrong = append(wrong, reason+"; or give Config.Staging the name of another stream")
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w: %s", participant.ErrConfig, strings.Join(wrong, "; "))
	}
	for _, warning := range p.warnings(ctx, w) {
		p.cfg.Logger.WarnContext(ctx, warning, "participant", p.cfg.Name)
	}
	return nil
}

// requirement is something that a stream has to be, and what to do where it is not.
type requirement struct {
	broken bool
	fix    string
}

func broken(stream string, requirements []requirement) (fixes []string) {
	for _, r := range requirements {
		if r.broken {
			fixes = append(fixes, fmt.Sprintf("stream %q: %s", stream, r.fix))
		}
	}
	return fixes
}

// unfit tells what of the stream has to be changed for it to keep branches' markers.
func (c Config) unfit(s jetstream.StreamConfig) []string {
	markers := c.Subject + branchSubjects + ">"
	return broken(s.Name, []requirement{
		{s.Mirror != nil, "it is a mirror, which takes no messages: publish to its origin"},
		{s.Sealed, "it is sealed and takes no messages: publish to another one"},
		{s.Storage != jetstream.FileStorage, "it is kept in memory, and a restart loses it: create it anew with storage file"},
		{!s.AllowAtomicPublish, "set allow_atomic: a branch's messages are published as one batch"},
		{!s.AllowMsgTTL, "set allow_msg_ttl: without it the markers of finished branches stay for ever"},
		{!s.AllowRollup || s.DenyPurge, "set allow_rollup_hdrs, and not deny_purge: a marker is replaced by one that expires"},
		{s.NoAck, "unset no_ack: without acknowledgements nothing is certain"},
		{s.PersistMode == jetstream.AsyncPersistMode, "create it anew with persist_mode default: what it acknowledges is not stored yet"},
		{s.AllowMsgCounter, "it is for counters (allow_msg_counter): publish to another one"},
		{s.SubjectTransform != nil, "remove its subject_transform: markers would not be found"},
		{s.Mirror == nil && !within(s.Subjects, markers), fmt.Sprintf("add the subject %q, for the markers of branches", markers)},
		{s.Retention != jetstream.LimitsPolicy, "it removes markers that were consumed (retention " + s.Retention.String() + "): publish to one of limits, and source the other from it"},
		{s.Discard == jetstream.DiscardOld && s.MaxMsgs > 0, "set max_msgs to -1 or discard to new: it removes markers when it is full"},
		{s.Discard == jetstream.DiscardOld && s.MaxBytes > 0, "set max_bytes to -1 or discard to new: it removes markers when it is full"},
		{s.DiscardNewPerSubject, "unset discard_new_per_subject: a full subject would hold the commit up for ever"},
		{s.MaxAge > 0 && s.MaxAge < c.MaxRetention, fmt.Sprintf("raise max_age to %s, or lower Config.MaxRetention: it removes markers too early", c.MaxRetention)},
		{s.SubjectDeleteMarkerTTL > 0, "set subject_delete_marker_ttl to 0: what it leaves of a marker looks like one"},
	})
}

// unfitStaging tells the same of the staging stream.
func (c Config) unfitStaging(s jetstream.StreamConfig) []string {
	want := c.stagingConfig(s.Replicas)
	return broken(s.Name, []requirement{
		{s.Mirror != nil || s.Sealed || s.NoAck, "it must not be a mirror, sealed or have no_ack"},
		{s.Storage != jetstream.FileStorage, "it is kept in memory, and a restart loses it: create it anew with storage file"},
		{s.PersistMode == jetstream.AsyncPersistMode, "create it anew with persist_mode default: what it acknowledges is not stored yet"},
		{s.SubjectTransform != nil, "remove its subject_transform"},
		{s.Retention != jetstream.LimitsPolicy, "it removes what was consumed (retention " + s.Retention.String() + "): create it anew with limits"},
		{!within(s.Subjects, want.Subjects[0]) || !within(s.Subjects, want.Subjects[1]), fmt.Sprintf("give it the subjects %q", want.Subjects)},
		{s.MaxAge > 0, "set max_age to 0: what is prepared must not go by itself"},
		{s.Discard == jetstream.DiscardOld && (s.MaxMsgs > 0 || s.MaxBytes > 0), "set discard to new: it removes what is prepared when it is full"},
		{s.DenyDelete, "unset deny_delete: what is published has to be removed"},
	})
}

// warnings tells what works and may go wrong all the same.
func (p *Participant) warnings(ctx context.Context, w place) (warnings []string) {
	stream, staging := w.stream.Config, w.staging.Config
	if stream.MaxMsgs > 0 || stream.MaxBytes > 0 {
		warnings = append(warnings, fmt.Sprintf("stream %q refuses messages when it is full (max_msgs, max_bytes): commits wait until there is room", stream.Name))
	}
	if staging.Replicas < stream.Replicas {
		warnings = append(warnings, fmt.Sprintf("stream %q has %d replicas, %q %d: what is prepared is less safe than what is published", staging.Name, staging.Replicas, stream.Name, stream.Replicas))
	}
	if len(p.cfg.MonitorURLs) == 0 {
		return append(warnings, "it can't be seen whether the server syncs to its disk before it acknowledges: a power cut may lose prepared branches and commits. "+
			"Set sync_interval: always in its jetstream block, and give Config.MonitorURLs")
	}
	for _, url := range p.cfg.MonitorURLs {
		switch always, err := syncsAlways(ctx, url); {
		case err != nil:
			warnings = append(warnings, fmt.Sprintf("whether the server syncs always could not be asked (Config.MonitorURLs): %v", err))
		case !always:
			warnings = append(warnings, "the server at "+url+" does not sync to its disk before it acknowledges: a power cut may lose prepared branches and commits. "+
				"Set sync_interval: always in its jetstream block")
		}
	}
	return warnings
}

// syncsAlways asks the monitoring endpoint of a server.
func syncsAlways(ctx context.Context, url string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, monitorTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/varz", http.NoBody)
	if err != nil {
		return false, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err
	}
	defer func() { _ = response.Body.Close() }() // it is read, or given up
	var varz struct {
		JetStream *struct {
			Config *struct {
				SyncAlways bool `json:"sync_always"`
			} `json:"config"`
		} `json:"jetstream"`
	}
	const most = 8 << 20
	if err := json.NewDecoder(http.MaxBytesReader(nil, response.Body, most)).Decode(&varz); err != nil {
		return false, fmt.Errorf("read %s: %w", request.URL, err)
	}
	if varz.JetStream == nil || varz.JetStream.Config == nil {
		return false, errors.New("the server at " + url + " has no JetStream")
	}
	return varz.JetStream.Config.SyncAlways, nil
}

// atLeast reports whether a version like "2.12.1-beta" is not below the one wanted.
func atLeast(version string, wanted ...int) bool {
	fields := strings.SplitN(version, ".", 3)
	var is []int
	for _, field := range fields[:min(2, len(fields))] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return false
		}
		is = append(is, n)
	}
	return slices.Compare(is, wanted) >= 0
}
