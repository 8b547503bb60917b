package broker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/enmanuel/unibus/daemon/metrics"
	"github.com/enmanuel/unibus/lib/bus"
)

// serverLog hands what nats-server logs to slog. Its notices are details of
// starting and stopping, so they are debug messages here. What a connection did
// wrong is no error of this node.
type serverLog struct {
	log     *slog.Logger
	metrics *metrics.Metrics
	own     *addresses
	fatal   func(error)
}

// Noticef implements the server's Logger.
func (l serverLog) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Warnf implements the server's Logger.
func (l serverLog) Warnf(format string, v ...any) { l.write(slog.LevelWarn, format, v) }

// Errorf implements the server's Logger.
func (l serverLog) Errorf(format string, v ...any) { l.write(slog.LevelError, format, v) }

// Debugf implements the server's Logger.
func (l serverLog) Debugf(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Tracef implements the server's Logger.
func (l serverLog) Tracef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Fatalf implements the server's Logger. The server expects the process to
// end here; that is for main to do.
func (l serverLog) Fatalf(format string, v ...any) {
	l.write(slog.LevelError, format, v)
	l.fatal(fmt.Errorf("run message server: "+format, v...))
}

const (
	// memberPrefix is how the server calls a connection that came through the
	// gate or from the daemon itself.
	memberPrefix = "pipe - cid:"
	// violation is in what it says of a subject that a connection has no right to.
	violation = "Violation - "
	// maxServerText bounds its words: they quote what members sent.
	maxServerText = 400
)

// write keeps the server's words out of the message, which names the event. A
// member can cause any number of lines, and is not to hide what concerns the
// node, so the two have messages of their own.
func (l serverLog) write(level slog.Level, format string, v []any) {
	text := fmt.Sprintf(format, v...)
	ofMember := strings.HasPrefix(text, memberPrefix)
	if ofMember && l.own.in(text) {
		level = slog.LevelDebug
	}
	if ofMember && strings.Contains(text, violation) {
		l.metrics.Denied(metrics.Data, bus.CodeForbidden)
	}
	if len(text) > maxServerText {
		text = strings.ToValidUTF8(text[:maxServerText], "") + "…"
	}
	if ofMember {
		l.log.Log(context.Background(), min(level, slog.LevelInfo), "message server speaks of a connection", "text", text)
		return
	}
	l.log.Log(context.Background(), level, "message server speaks", "text", text)
}
