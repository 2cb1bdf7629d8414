package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tm/assent/participant"
)

// place is which streams the participant works with.
type place struct {
	stream, staging *jetstream.StreamInfo
}

// identity tells the streams from others of the same names: when they were created,
// which a restart and a backup keep.
func (w place) identity() string {
	return w.stream.Created.UTC().Format(time.RFC3339Nano) + " " + w.staging.Created.UTC().Format(time.RFC3339Nano)
}

// look asks which streams there are. create has the staging stream created if it is
// not there.
func (p *Participant) look(ctx context.Context, create bool) (w place, err error) {
	if w.stream, err = p.stream(ctx, p.cfg.Stream); err != nil {
		return place{}, err
	}
	w.staging, err = p.stream(ctx, p.cfg.Staging)
	var failure *jetstream.APIError
	if create && errors.As(err, &failure) && failure.ErrorCode == codeStreamNotFound {
		w.staging, err = p.createStaging(ctx, w.stream.Config.Replicas)
	}
	if err != nil {
		return place{}, err
	}
	return w, nil
}

func (p *Participant) stream(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	info := new(jetstream.StreamInfo)
	if err := p.api(ctx, "STREAM.INFO."+name, struct{}{}, info); err != nil {
		return nil, fmt.Errorf("ask for stream %q: %w", name, err)
	}
	return info, nil
}

// stagingConfig is that of the staging stream. Nothing in it may go by itself.
func (c Config) stagingConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: c.Staging, Description: "Assent: what participant " + c.Name + " has prepared for stream " + c.Stream,
		Subjects: []string{c.Subject + stagedSubjects + ">", c.Subject + termSubjects + ">"},
		Storage:  jetstream.FileStorage, Replicas: replicas, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew,
	}
}

func (p *Participant) createStaging(ctx context.Context, replicas int) (*jetstream.StreamInfo, error) {
	config, info := p.cfg.stagingConfig(replicas), new(jetstream.StreamInfo)
	if err := p.api(ctx, "STREAM.CREATE."+config.Name, config, info); err != nil {
		return nil, fmt.Errorf("create the staging stream %q with the subjects %q: %w", config.Name, config.Subjects, err)
	}
	return info, nil
}

// samePlace returns an error if the branch was begun with other streams: that these
// don't know it says nothing then (R7).
func (p *Participant) samePlace(ctx context.Context, b participant.Branch) error {
	if len(b.Data) == 0 {
		return nil // an orphan, of which only the XID is known
	}
	w, err := p.look(ctx, false)
	if err != nil {
		return err
	}
	if is := w.identity(); is != string(b.Data) {
		return fmt.Errorf("%w: the streams %q and %q are others than those where the branch was begun: they were created at %s, those at %s",
			participant.ErrConfig, p.cfg.Stream, p.cfg.Staging, is, b.Data)
	}
	return nil
}
