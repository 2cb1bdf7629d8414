package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/encoding/protojson"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

// heartbeat is how often a stream of events says that it is there, so that whatever is
// between the server and the reader does not end it for being silent.
const heartbeat = 15 * time.Second

// retryMillis is when a browser is to come back after the stream has ended.
const retryMillis = 1000

// events serves Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html):
// what Watch sends, for people, browsers and whoever reads lines. The query may name a
// transaction_id; Last-Event-ID, or the query's after, says where to go on.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	refuse := func(f *failure) {
		_ = connecthttp.NewErrorWriter().Write(w, r, f.status()) // to a reader who may have left
	}
	shown := headers{authorization: r.Header.Get("Authorization"), tls: r.TLS}
	who, f := s.admit(shown, eventsPattern)
	if f != nil {
		refuse(f)
		return
	}
	if !s.streams.enter() {
		refuse(failed("", s.streams.full()))
		return
	}
	defer s.streams.leave()
	after := r.Header.Get("Last-Event-ID")
	if after == "" {
		after = r.URL.Query().Get("after")
	}
	ctx := withIdentity(r.Context(), who)
	watcher, f := s.watch(ctx, r.URL.Query().Get("transaction_id"), after)
	if f != nil {
		refuse(f)
		return
	}
	defer watcher.Close()
	defer context.AfterFunc(s.life, watcher.Close)() //nolint:contextcheck // streams end with the server
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // proxies that would wait for more
	if write(w, fmt.Sprintf("retry: %d\n\n", retryMillis)) != nil {
		return
	}
	for s.sendEvents(ctx, w, watcher) == nil {
		if again, f := s.admit(shown, eventsPattern); f != nil || !again.is(who) || write(w, ":\n\n") != nil {
			return
		}
	}
}

// sendEvents sends those of one heartbeat. nil: the next may follow.
func (s *Server) sendEvents(ctx context.Context, w http.ResponseWriter, watcher *watcher) error {
	beat, cancel := context.WithTimeout(ctx, s.heartbeat)
	defer cancel()
	for {
		e, err := watcher.next(beat)
		switch {
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			return nil
		case err != nil:
			return err
		}
		data, err := protojson.Marshal(e)
		if err != nil {
			return fmt.Errorf("encode event %s: %w", e.GetId(), err)
		}
		if err := write(w, fmt.Sprintf("id: %s\nevent: %s\ndata: %s\n\n", e.GetId(), eventName(e.GetKind()), data)); err != nil {
			return err
		}
	}
}

// eventName is decided for EVENT_KIND_DECIDED.
func eventName(k assentv1.EventKind) string {
	return strings.ToLower(strings.TrimPrefix(k.String(), "EVENT_KIND_"))
}

func write(w http.ResponseWriter, text string) error {
	if _, err := w.Write([]byte(text)); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}
