package broker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// serverLog hands what nats-server logs to slog. Its notices are details of
// starting and stopping, so they are debug messages here. What a connection did
// wrong is no error of this node.
type serverLog struct {
	log   *slog.Logger
	fatal func(error)
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

// memberPrefix is how the server calls a connection that came through the gate
// or from the daemon itself.
const memberPrefix = "pipe - cid:"

func (l serverLog) write(level slog.Level, format string, v []any) {
	text := fmt.Sprintf(format, v...)
	if strings.HasPrefix(text, memberPrefix) {
		level = min(level, slog.LevelInfo)
	}
	l.log.Log(context.Background(), level, text, "from", "nats")
}
