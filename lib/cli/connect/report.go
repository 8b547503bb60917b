package connect

import (
	"context"
	"log/slog"

	"github.com/enmanuel/unibus/lib/cli"
	"github.com/enmanuel/unibus/lib/client"
)

// reporter tells people what happened apart from any call. The client calls it
// with one event after another.
type reporter struct {
	call *cli.Call
	lost bool // the connection, and people were told so
}

func (r *reporter) report(e client.Event) {
	switch {
	case e.Kind == client.EventDisconnected && e.Err != nil:
		if !r.lost {
			r.call.Note("lost connection to the bus, trying again")
		}
		r.lost = true
	case e.Kind == client.EventConnected && r.lost:
		r.lost = false
		r.call.Note("connected again")
	case isConnection(string(e.Kind)):
		r.call.Detail("%s", textOf(e))
	case r.call.Verbose(): // the logger has it
	case e.Err != nil || e.Kind == client.EventSecurity || e.Kind == client.EventDenied || e.Kind == client.EventRemoved || e.Kind == client.EventResolved:
		r.call.Warn("%s", textOf(e))
	}
}

func textOf(e client.Event) string {
	text := string(e.Kind)
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if !e.Room.IsZero() {
		text += " (room " + e.Room.String() + ")"
	}
	return text
}

func isConnection(kind string) bool {
	return kind == string(client.EventConnected) || kind == string(client.EventDisconnected)
}

// withoutConnection keeps the comings and goings of the connection out of the
// log of the client: the reporter says them in words, and that a connection
// ended, with whatever the last read returned, is no failure of anybody.
type withoutConnection struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h withoutConnection) Handle(ctx context.Context, record slog.Record) error {
	drop := false
	record.Attrs(func(a slog.Attr) bool {
		drop = a.Key == "event" && isConnection(a.Value.String())
		return !drop
	})
	if drop {
		return nil
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs implements [slog.Handler].
func (h withoutConnection) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withoutConnection{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h withoutConnection) WithGroup(name string) slog.Handler {
	return withoutConnection{h.Handler.WithGroup(name)}
}
