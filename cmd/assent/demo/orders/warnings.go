package orders

import (
	"context"
	"log/slog"

	"github.com/assent-tm/assent/cmd/assent/demo"
)

// warnings returns the logger that tells in the story what participants warn of. Of
// the demo's own servers there is nothing to warn: it has set them up itself.
func (s *story) warnings() *slog.Logger {
	if len(s.killable()) > 0 {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(warnings{s.Teller})
}

type warnings struct{ teller *demo.Teller }

// Enabled implements slog.Handler.
func (warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle implements slog.Handler.
func (w warnings) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += "; " + a.String()
		return true
	})
	w.teller.Line("warning", "%s", text)
	return nil
}

// WithAttrs implements slog.Handler. The participants add none.
func (w warnings) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup implements slog.Handler.
func (w warnings) WithGroup(string) slog.Handler { return w }
