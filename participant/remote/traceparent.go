package remote

import (
	"context"
	"regexp"
)

type traceparentKey struct{}

// W3C Trace Context, version 00, section 3.2: later versions may be longer, and begin
// the same way.
var traceparentForm = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// WithTraceparent returns a context whose calls carry this traceparent (W3C Trace
// Context) to services. One that is not of the form version-trace-parent-flags is left
// out. A transaction's calls have the values of the context that it was begun with.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	if !traceparentForm.MatchString(traceparent) {
		return ctx
	}
	return context.WithValue(ctx, traceparentKey{}, traceparent)
}

// Traceparent returns what WithTraceparent put into the context, or what a call to a
// Handler carried; empty if there is none.
func Traceparent(ctx context.Context) string {
	traceparent, _ := ctx.Value(traceparentKey{}).(string)
	return traceparent
}
