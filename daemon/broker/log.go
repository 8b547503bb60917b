package broker

import (
	"context"
	"fmt"
	"log/slog"
)

// serverLog hands what nats-server logs to slog. Its notices are details of
// starting and stopping, so they are debug messages here.
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

func (l serverLog) write(level slog.Level, format string, v []any) {
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, fmt.Sprintf(format, v...), "from", "nats")
	}
}
