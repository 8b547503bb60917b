package sqlite

import (
	"context"
	"errors"

	"github.com/ncruces/go-sqlite3"

	"github.com/enmanuel/unibus/lib/bus"
)

// broken reports that the file or the disk under it can no longer be trusted. A
// full disk is not among them: SQLite takes back the write that did not fit.
func broken(err error) bool {
	for _, code := range []sqlite3.ErrorCode{sqlite3.IOERR, sqlite3.CORRUPT, sqlite3.NOTADB, sqlite3.CANTOPEN, sqlite3.READONLY} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// wrap gives an error of a call its code, unless it has one, and says what was
// being done.
func wrap(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if coded, ok := errors.AsType[*bus.Error](err); ok {
		return bus.Errorf(coded.Code, "%s: %w", what, err)
	}
	busy := errors.Is(err, sqlite3.BUSY)
	switch {
	case ctx.Err() != nil && (busy || errors.Is(err, sqlite3.INTERRUPT) || errors.Is(err, ctx.Err())):
		return bus.Errorf(bus.CodeTimeout, "%s: %w", what, ctx.Err())
	case busy:
		return bus.Errorf(bus.CodeUnavailable, "%s: another process holds the file: %w", what, err)
	case errors.Is(err, sqlite3.FULL) || broken(err):
		return bus.Errorf(bus.CodeUnavailable, "%s: %w", what, err)
	}
	return bus.Errorf(bus.CodeInternal, "%s: %w", what, err)
}
